"""Two guards at once, and those that wake up too late: one wins, the other says so and does no harm."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from guard.rollback import processes

from . import victims
from .conftest import MakeScene
from .scene import NOW, OLD, Scene
from .trap import Trap
from .victims import until

PAUSED = Path(__file__).with_name("paused_guard.py")
SHORT_LEASE_S = 2.0


def containers(scene: Scene) -> list[str]:
    return [host.docker("inspect", "--format={{.Id}}", scene.name) for host in scene.hosts]


def all_run(scene: Scene, version: str) -> bool:
    """Everywhere, under the service's name, and nothing else of it."""
    return all(scene.containers(host) == {scene.name: (True, scene.image(host, version))} for host in scene.hosts)


def deploy(scene: Scene) -> Scene:
    scene.tag(OLD, NOW)
    scene.run(NOW)
    return scene


def test_of_two_rollbacks_of_one_service_one_wins_and_the_other_ends_with_75(make_scene: MakeScene) -> None:
    scene = deploy(make_scene("twice", engine="/run/twice.sock"))
    with Trap(scene, scene.hosts[0], "tag-backup") as trap:
        first = scene.guard.start("rollback", "twice")
        assert trap.reached.wait(60)
        second = scene.guard("rollback", "twice")
        assert second.code == 75, second
        assert f"process {first.pid} " in second.stderr
        trap.over.set()
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert all_run(scene, OLD)
    assert [record["outcome"] for record in scene.rollbacks()] == ["restored"]


def test_guards_that_know_nothing_of_each_other_are_kept_apart_by_the_hosts_lock(make_scene: MakeScene) -> None:
    scene = deploy(make_scene("apart", engine="/run/apart.sock"))
    other = make_scene("apart", engine="/run/apart.sock")  # a state folder of its own, as on another machine
    with Trap(scene, scene.hosts[0], "tag-backup") as trap:
        first = scene.guard.start("rollback", "apart")
        assert trap.reached.wait(60)
        second = other.guard.json("rollback", "apart")
        trap.over.set()
        first.communicate(timeout=60)
    assert second.code == 4, second
    locked = second.json["hosts"][scene.hosts[0].name]
    assert locked["state"] == "failed"
    assert "another guard run works on container apart here" in locked["error"]
    assert scene.rollbacks()[0]["id"] in locked["error"]
    assert all_run(scene, OLD)


def test_a_run_that_was_stopped_and_goes_on_after_another_guard_has_acted_is_refused_by_the_host(
    make_scene: MakeScene,
) -> None:
    scene = deploy(make_scene("stale-run", engine="/run/stale-run.sock"))
    other = make_scene("stale-run", engine="/run/stale-run.sock")
    with Trap(scene, scene.hosts[0], "tag-backup") as trap:
        guard = scene.guard.start("rollback", "stale-run")
        assert trap.reached.wait(60)
        shim = victims.shim(scene)
        stopped = [guard.pid, shim, *processes.descendants(shim)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        trap.over.set()
        ran = other.guard.json("rollback", "stale-run")
        assert ran.code == 0, ran
        after = containers(scene)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        guard.communicate(timeout=60)
    assert guard.returncode in (0, 4)
    assert containers(scene) == after
    assert all_run(scene, OLD)
    (record,) = scene.rollbacks()
    fenced = record["hosts"][scene.hosts[0].name]
    assert fenced["state"] == "failed"
    assert "another guard took the service over" in fenced["error"]


@pytest.mark.parametrize("point", ["guard:preparing", "guard:verifying"])
def test_a_guard_that_wakes_up_after_its_lease_was_taken_changes_nothing_and_says_so(
    make_scene: MakeScene, point: str
) -> None:
    scene = deploy(make_scene("stale-guard"))
    mark = scene.guard.folder / "reached"
    program = (sys.executable, str(PAUSED), point, str(mark))
    guard = scene.guard.start("rollback", "stale-guard", program=program, env={"LEASE_S": str(SHORT_LEASE_S)})
    until(mark.exists, "the guard to come so far")
    guard.send_signal(signal.SIGSTOP)
    time.sleep(SHORT_LEASE_S + 0.2)
    resumed = scene.guard("resume")
    assert resumed.code == 0, resumed
    after, record, audit = containers(scene), scene.rollbacks(), audited(scene)
    mark.unlink()
    guard.send_signal(signal.SIGCONT)
    _, told = guard.communicate(timeout=60)
    assert guard.returncode == 75, told
    assert "was taken over" in told
    assert containers(scene) == after
    assert scene.rollbacks() == record
    assert audited(scene) == audit, "not even a line in the audit"
    assert len(scene.runs()) == 1
    assert [one["outcome"] for one in record] == ["restored"]
    assert all_run(scene, OLD)


def audited(scene: Scene) -> list[tuple[str, str]]:
    with sqlite3.connect(scene.guard.state / "guard.db") as store:
        return store.execute("select kind, subject from audit where kind like 'rollback%' order by 1, 2").fetchall()
