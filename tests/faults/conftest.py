"""One fleet for all faults: two pairs of hosts, so that two things can go wrong at the same time."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from guard.demo.fleet import Fleet
from guard.demo.host import Host

from .matrix import MATRIX
from .scene import Scene, load_images
from .victims import until


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    with Fleet(4) as fleet:
        fleet.each(load_images)
        yield fleet


MakeScene = Callable[..., Scene]


@pytest.fixture
def make_scene(fleet: Fleet, tmp_path: Path) -> Iterator[MakeScene]:
    """``make_scene(name, hosts=…, engine=…, settings of its rollback…)``; by default on the first two hosts."""
    made = []

    def make(name: str, hosts: Sequence[Host] | None = None, **more: object) -> Scene:
        made.append(Scene(name, hosts or fleet.hosts[:2], fleet.inventory, tmp_path / f"{name}{len(made)}", **more))
        return made[-1]

    yield make
    for scene in made:
        scene.clear()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local docker-registry; its host:port, the same on every host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("registry")
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the registry", 15)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(MATRIX, [])
    if lines:
        terminalreporter.section("crash points: durable steps x who is killed there")
        for line in lines:
            terminalreporter.write_line(line)
