"""A wall clock that jumps: leases, fences and the gap between rollbacks must not leave a service unguarded for it."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

from .conftest import MakeScene
from .scene import NOW, OLD, Scene

HOUR = 3600


def shifted(seconds: int) -> dict[str, str]:
    """The environment of a guard whose clock is off, all its life."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{seconds:+d}s"}


def deployed(scene: Scene) -> Scene:
    scene.tag(OLD, NOW)
    scene.run(NOW)
    return scene


def all_run(scene: Scene, version: str) -> bool:
    return all(scene.containers(host) == {scene.name: (True, scene.image(host, version))} for host in scene.hosts)


def test_a_guard_whose_clock_was_set_back_by_an_hour_can_still_roll_back_and_its_fence_still_grows(
    make_scene: MakeScene,
) -> None:
    scene = deployed(make_scene("set-back"))
    ahead = scene.guard.json("rollback", "set-back", env=shifted(HOUR))
    assert ahead.code == 0, ahead
    deployed(scene)
    now = scene.guard.json("rollback", "set-back", "--to", f"set-back:{OLD}", "--force")
    assert now.code == 0, now
    assert now.json["started_at"] < ahead.json["started_at"], "the clock was set back"
    assert {host["state"] for host in now.json["hosts"].values()} == {"restored"}
    assert all_run(scene, OLD)


def test_the_lease_of_a_guard_that_died_in_the_future_holds_nobody_up(make_scene: MakeScene) -> None:
    scene = deployed(make_scene("died-ahead"))
    guard = scene.guard.start("gate", "died-ahead", "--for", "60s", env=shifted(HOUR))
    assert guard.stdout is not None
    guard.stdout.readline()
    held = scene.guard("rollback", "died-ahead")
    assert held.code == 75, held
    guard.send_signal(signal.SIGKILL)
    guard.communicate()
    assert scene.guard("rollback", "died-ahead").code == 0
    assert all_run(scene, OLD)


def test_a_guard_elsewhere_whose_clock_is_behind_is_refused_by_the_hosts_and_says_why(make_scene: MakeScene) -> None:
    scene = deployed(make_scene("behind"))
    assert scene.guard("rollback", "behind").code == 0
    elsewhere = make_scene("behind")
    deployed(elsewhere)
    ran = elsewhere.guard.json("rollback", "behind", env=shifted(-HOUR))
    assert ran.code == 4, ran
    for host in ran.json["hosts"].values():
        assert host["state"] == "failed"
        assert "fenced" in host["error"]
    assert all_run(scene, NOW)
    assert elsewhere.guard("rollback", "behind").code == 0, "with the right time it may"
    assert all_run(scene, OLD)


def test_after_a_rollback_that_is_on_record_for_the_future_min_gap_does_not_leave_the_service_unguarded(
    make_scene: MakeScene,
) -> None:
    scene = deployed(make_scene("future", min_gap="10m"))
    config: dict[str, Any] = copy.deepcopy(scene.settings)
    config["services"][0]["checks"] = [{"type": "http", "url": "http://127.0.0.1:1/", "name": "dead"}]
    scene.guard.configure(config)
    first = scene.guard.json("gate", "future", "--for", "30s", "--verbose", env=shifted(HOUR))
    assert first.code == 4, (
        f"{first.stdout}{first.stderr}"
    )  # the dead check cannot be cured, and all hosts are restored
    assert all_run(scene, OLD)
    scene.tag("1.3.0")
    scene.run("1.3.0")
    second = scene.guard.json("gate", "future", "--for", "30s")
    assert "min_gap" not in second.json["reason"], second
    assert second.code == 4, second
    assert all_run(scene, OLD)
