"""Small fakes of guard's ports, and time that only passes when nothing else is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from guard.decide import reference
from guard.errors import EngineError
from guard.model import (
    ContainerFacts,
    ContainerUnit,
    Host,
    HostMeans,
    Image,
    LocalImage,
    Measurement,
    State,
    Unit,
)
from guard.ports import Engine

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)


def container_facts(**changes: Any) -> ContainerFacts:
    """A container that runs as it should."""
    usual: dict[str, Any] = {
        "name": "web",
        "container_id": "c1" * 32,
        "image": Image("web:1.0.0", "sha256:" + "1" * 64),
        "status": "running",
        "health": "",
        "health_log": "",
        "exit_code": 0,
        "oom_killed": False,
        "restart_count": 0,
        "started_at": "2026-11-01T10:00:00.123456789Z",
    }
    return ContainerFacts(**(usual | changes))


class FakeEngine:
    """An Engine in memory. ``problem`` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.containers: dict[str, ContainerFacts] = {}
        self.units: dict[Unit, tuple[str, ...]] = {}  # a Compose or Swarm service's containers by name
        self.stock: list[LocalImage] = []
        self.output: dict[str, list[str]] = {}
        self.problem: EngineError | None = None
        self.pull_problems: dict[str, str | None] = {}
        self.has = HostMeans(1 << 40, (3, 11))

    async def pull_problem(self, digest: str) -> str | None:
        self._check()
        return self.pull_problems.get(digest, f"the registry has no {digest}")

    async def means(self) -> HostMeans:
        self._check()
        return self.has

    async def container(self, name: str, *, timeout_s: float | None = None) -> ContainerFacts | None:
        self._check()
        return self.containers.get(name)

    async def running(self, unit: Unit, *, timeout_s: float | None = None) -> ContainerFacts | None:
        names = (unit.name,) if isinstance(unit, ContainerUnit) else self.units.get(unit, ())
        if len(names) > 1:
            raise EngineError(f"{unit} has {len(names)} containers on the fake engine")
        return await self.container(names[0], timeout_s=timeout_s) if names else None

    async def images(self, repository: str) -> tuple[LocalImage, ...]:
        self._check()
        found = [image for image in self.stock if self._belongs(image, repository)]
        return tuple(sorted(found, key=lambda image: image.created, reverse=True))

    async def image(self, reference: str) -> LocalImage | None:
        self._check()
        names = (reference, f"{reference}:latest")
        return next(
            (i for i in self.stock if i.image_id == reference or {*i.tags, *i.digests}.intersection(names)), None
        )

    async def logs(self, container: str, lines: int) -> str:
        self._check()
        if container not in self.containers:
            raise EngineError(f"the fake engine has no container {container}")
        return "".join(line + "\n" for line in self.output.get(container, [])[-lines:])

    def _check(self) -> None:
        if self.problem is not None:
            raise self.problem

    @staticmethod
    def _belongs(image: LocalImage, repository: str) -> bool:
        return any(reference.repository(name) == repository for name in (*image.tags, *image.digests))


class FakeEngines:
    """Engines by host name; "" is the local one."""

    def __init__(self, engines: Mapping[str, Engine] | None = None) -> None:
        self.engines = dict(engines or {})

    def on(self, host: Host | None) -> Engine:
        return self.engines.setdefault(host.name if host else "", FakeEngine())

    async def close(self) -> None:
        return None


class FakeProbe:
    """Gives its measurements one after the other, then the last one for ever; each takes ``takes_s``."""

    def __init__(self, *measurements: Measurement, takes_s: float = 0.0) -> None:
        self.script = list(measurements) or [Measurement(State.HEALTHY, 0.0, "as the script says")]
        self.takes_s = takes_s
        self.began: list[float] = []

    async def measure(self) -> Measurement:
        self.began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_s)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class LoopClock:
    """A Clock on the running loop's time, real or virtual."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class _Virtual(selectors.DefaultSelector):  # type: ignore[misc,valid-type] # which class it is depends on the platform
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or (super().select(None) if timeout is None else ready)
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time jumps to the next timer as soon as nothing is ready, so an hour takes no time. No network, no threads."""

    def __init__(self) -> None:
        self._virtual = _Virtual()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def skip(self, seconds: float) -> None:
        """Let time pass while nothing at all runs, as for a stopped process."""
        self._virtual.now += seconds


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
