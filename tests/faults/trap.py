"""Stops the module at a step of its own choosing, without a word of this in the module.

The host's inventory says that its engine is at another socket. Behind it is a proxy in the test, which looks into the
module's journal on the host before it hands on a request: when the last step written down is the wanted one, the request
waits. So the step is on disk, and nothing of it is done.
"""

from __future__ import annotations

from guard.demo.host import Host
from tests.contract.restore.cutting_proxy import CuttingProxy

from .scene import Scene


class Trap(CuttingProxy):
    """Holds the first request after ``step``. For ``done``, which asks nothing more: the answer to what comes before."""

    def __init__(self, scene: Scene, host: Host, step: str | None) -> None:
        self.scene, self.host = scene, host
        self.last = step == "done"
        self.step = "remove-old" if self.last else step
        self.request: str | None = None
        own = host.folder / "run" / f"{scene.name}.sock"
        super().__init__(host.folder / "run/docker.sock", own, when="hold-after" if self.last else "hold")

    def hold_at(self, request: str) -> None:
        """Instead of at a step: at the first request of this name."""
        self.request = request

    def counts(self, name: str) -> bool:
        if self.request is not None:
            return name == self.request and not self.reached.is_set()
        if self.step is None or self.reached.is_set() or (self.last and not name.startswith("DELETE")):
            return False
        return self.scene.step(self.host) == self.step
