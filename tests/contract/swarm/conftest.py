"""A real swarm of one manager for the swarm module, and the module run as Ansible runs it: as a program on stdin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.restore.conftest import Dockerd, clear

PLAYBOOKS = Path(__file__).parents[3] / "playbooks" / "swarm" / "1.0.0"
MODULE = PLAYBOOKS / "library" / "guard_swarm.py"
QUICK = (  # an engine's own defaults are 5 s each, which is long for a test
    "--update-monitor=300ms",
    "--rollback-monitor=300ms",
    "--restart-delay=100ms",
    "--stop-grace-period=1s",
)

Json = dict[str, Any]


def until(true: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.05)


def sweep() -> None:
    """Bridges of test runs that were killed (their dockerd ended with them; their folders go by restore's sweep)."""
    for bridge in Path("/sys/class/net").glob("grs[0-9]*"):
        if not Path(f"/proc/{bridge.name[3:].rstrip('w')}").exists():
            subprocess.run(["ip", "link", "delete", bridge.name], check=False, capture_output=True)


class Manager(Dockerd):
    """A private dockerd that is a swarm of its own, on a loopback address of its own."""

    def __init__(self) -> None:
        super().__init__()
        pid = os.getpid()
        self.bridge = f"grs{pid}"  # with the w below at most 15 characters
        self.subnet = f"172.30.{pid % 250}"
        self.address = f"127.71.{pid >> 8 & 255}.{pid % 254 + 1}"

    def init(self) -> None:
        # Every swarm makes this network, with a bridge of the same name, unless it is there already.
        named = f"com.docker.network.bridge.name={self.bridge}w"
        self.docker("network", "create", "--driver=bridge", "--opt", named, "docker_gwbridge")
        where = ["--advertise-addr", self.address, "--listen-addr", f"{self.address}:2377"]
        self.docker("swarm", "init", *where, "--data-path-addr", self.address)

    def service(self, name: str = "web") -> Json:
        found: Json = json.loads(self.docker("service", "inspect", name))[0]
        return found

    def tasks(self, *, running: bool = True) -> list[Json]:
        """The service's tasks (those that run), straight from the API."""
        listed = self.docker("service", "ps", "web", "--no-trunc", "--format", "{{.ID}}").split()
        tasks = json.loads(self.docker("inspect", "--type", "task", *listed)) if listed else []
        return [task for task in tasks if task["Status"]["State"] == "running" or not running]

    def images_run(self) -> set[str]:
        """IDs of the images that the running tasks' containers were made from."""
        listed = self.docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=web").split()
        return {self.inspect(container)["Image"] for container in listed}

    def reset(self) -> None:
        """Only images are left. The swarm removes its containers too: whoever comes second is told so, and goes on."""
        services = self.docker("service", "ls", "-q").split()
        if services:
            self.docker("service", "rm", *services)

        def gone() -> bool:
            left = self.docker("ps", "-aq").split()
            subprocess.run(["docker", "rm", "-f", *left], env=self.environment, check=False, capture_output=True)
            return not left

        until(gone, "the tasks' containers are gone", 60)

    def end(self) -> None:
        try:
            self.reset()
            self.docker("swarm", "leave", "--force")
        finally:
            self.stop()
            clear(self.folder, self.bridge)
            subprocess.run(["ip", "link", "delete", f"{self.bridge}w"], check=False, capture_output=True)


@dataclass
class Swarm:
    """The module against one manager and one state folder."""

    engine: Manager
    state: Path
    ids: dict[str, str]

    def plan(self, **changes: object) -> Json:
        plan = {
            "service": "web",
            "container": "web",
            "swarm": {"service": "web"},
            "engine": f"unix://{self.engine.socket}",
            "state_dir": str(self.state),
            "run_id": "run-1",
            "fence": 1,
            "target": self.target("web:1.0.0"),
            "expect_image_id": self.ids["web:1.1.0"],
            "backup_tag": "backup_20261124_101112",
            "stable_s": 0.3,
            "health_timeout_s": 6,
        }
        return {key: value for key, value in {**plan, **changes}.items() if value is not None}

    def target(self, tag: str) -> Json:
        return {"image": tag, "image_id": self.ids[tag], "digest": None}

    def start(self, mode: str, plan: object, **ansible: object) -> subprocess.Popen[bytes]:
        arguments = json.dumps({"mode": mode, "plan": plan, "_ansible_check_mode": False, **ansible})
        source = MODULE.read_text().replace("<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>", arguments)
        process = subprocess.Popen(
            [sys.executable, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"HOME": str(self.state.parent)},
        )
        assert process.stdin is not None
        process.stdin.write(source.encode())
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: subprocess.Popen[bytes]) -> Json:
        out, err = process.communicate(timeout=60)
        assert out and not err, f"the module said {out!r}, {err.decode()}"
        result: Json = json.loads(out)
        print(json.dumps(result, indent=1))  # pytest shows it when the test fails
        assert process.returncode == (1 if result.get("failed") else 0)
        return result

    def __call__(self, mode: str, plan: object = None, **ansible: object) -> Json:
        return self.finish(self.start(mode, self.plan() if plan is None else plan, **ansible))

    def deploy(self, *options: str, image: str = "web:1.0.0", replicas: int = 2) -> None:
        """A new service whose tasks run."""
        mode = () if "--mode=global" in options else (f"--replicas={replicas}",)
        self.engine.docker(
            "service", "create", "--detach", "--no-resolve-image", "--name=web", *mode, *QUICK, *options, image
        )
        until(lambda: len(self.engine.tasks()) == (replicas if mode else 1), f"{image} runs")

    def update(self, *options: str, wait: bool = True) -> None:
        """As a deploy tool does it; ``wait``: until the swarm says that the update has ended, whatever way."""
        self.engine.docker("service", "update", "--detach", "--no-resolve-image", *options, "web")
        until(lambda: self.engine.service().get("UpdateStatus"), "the update begins")
        if wait:
            until(
                lambda: self.engine.service()["UpdateStatus"]["State"] not in ("updating", "rollback_started"), "ended"
            )

    def release(self) -> None:
        """web:1.0.0, and then the release that is to be rolled back."""
        self.deploy()
        self.update("--image=web:1.1.0")


@pytest.fixture(scope="session")
def manager() -> Iterator[Manager]:
    sweep()
    engine = Manager()
    try:
        engine.start()
        engine.init()
        yield engine
    finally:
        engine.end()


@pytest.fixture(scope="session")
def image_ids(manager: Manager) -> dict[str, str]:
    """web:1.1.0 is what runs, the others are what it is rolled back to."""
    failing = "HEALTHCHECK --interval=100ms --retries=1 CMD /bin/false"
    serve = 'CMD ["/bin/sh", "-c", "trap \\"exit 0\\" TERM INT; sleep 3600 & wait"]'
    changes: dict[str, tuple[str, ...]] = {
        "web:1.0.0": (serve,),
        "web:1.1.0": (serve,),
        "web:exits": ('CMD ["/bin/sh", "-c", "echo no database; exit 3"]',),
        "web:unhealthy": (serve, failing),
    }
    return {tag: manager.image(tag, *lines) for tag, lines in changes.items()}


@pytest.fixture
def swarm(manager: Manager, image_ids: dict[str, str], tmp_path: Path) -> Iterator[Swarm]:
    manager.reset()
    yield Swarm(manager, tmp_path / "state", image_ids)
    for reference in manager.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if ":guard_" in reference or ":backup_" in reference:
            manager.docker("rmi", "--no-prune", "-f", reference)
