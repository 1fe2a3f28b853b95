"""A disk that is full where guard keeps its state: nothing is begun that could not be finished."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .conftest import MakeScene
from .scene import NOW, OLD, Scene
from .trap import Trap


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return filler


def deployed(scene: Scene) -> Scene:
    scene.tag(OLD, NOW)
    scene.run(NOW)
    return scene


def all_run(scene: Scene, version: str) -> bool:
    return all(scene.containers(host) == {scene.name: (True, scene.image(host, version))} for host in scene.hosts)


def test_no_rollback_starts_when_its_intent_cannot_be_written(make_scene: MakeScene) -> None:
    scene = deployed(make_scene("no-intent"))
    with small_disk(scene.guard.state, 2):
        assert scene.guard("status").code == 0
        watch = scene.guard.start("watch", "--output", "json")
        assert watch.stdout is not None
        watch.stdout.readline()
        filler = fill(scene.guard.state)
        lines = [json.loads(watch.stdout.readline()) for _ in range(12)]
        assert {line["observation"]["state"] for line in lines if line["event"] == "observation"} == {"healthy"}
        watch.send_signal(signal.SIGTERM)
        assert "Traceback" not in watch.communicate(timeout=30)[1]
        ran = scene.guard("rollback", "no-intent")
        assert ran.code == 1, ran
        assert "Traceback" not in ran.stderr, ran
        assert "full" in ran.stderr.lower() or "No space left" in ran.stderr, ran
        assert str(scene.guard.state) in ran.stderr, ran
        assert all_run(scene, NOW)
        filler.unlink()
        assert scene.guard("rollback", "no-intent").code == 0
        assert all_run(scene, OLD)


def test_a_disk_that_fills_up_in_the_middle_of_a_run_loses_no_host_and_resume_ends_it(make_scene: MakeScene) -> None:
    scene = deployed(make_scene("fills", engine="/run/fills.sock"))
    with small_disk(scene.guard.state, 4), Trap(scene, scene.hosts[0], "start-new") as trap:
        guard = scene.guard.start("rollback", "fills")
        assert trap.reached.wait(60)
        filler = fill(scene.guard.state)
        trap.over.set()
        out, err = guard.communicate(timeout=90)
        assert guard.returncode in (1, 4), (out, err)
        assert "Traceback" not in err, err
        for host in scene.hosts:
            assert len(scene.running(host)) == 1
        filler.unlink()
        resumed = scene.guard("resume")
        assert resumed.code == 0, (out, err, resumed)
        assert all_run(scene, OLD)
        (record,) = scene.rollbacks()
        assert record["outcome"] == "restored"
