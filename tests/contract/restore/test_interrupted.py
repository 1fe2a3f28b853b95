"""Killed at any instant, the next run with the same plan brings the host to one end, and never to nothing running."""

from __future__ import annotations

import fcntl
import json
import os
import time

import pytest

from .conftest import Json, Restore
from .cutting_proxy import CuttingProxy

ON_EVERY_ENGINE = (
    "test_the_cuts_below_are_all_requests_that_change_something",
    "test_a_later_plan_that_wants_the_old_image_back_gets_it",
    "test_an_engine_that_restarts_under_a_swap_is_waited_for",
)
CREATE = "POST create web.guard-next"
SWAP = [
    CREATE,
    "POST rename web.guard-prev",
    "POST rename web",
    "POST update",
    "POST stop",
    "POST start",
    "DELETE",
]
TAG = "POST images tag"
CUTS = [(request, when) for request in [TAG, *SWAP] for when in ("before", "after")]


def kill_at(restore: Restore, plan: Json, cut: str, when: str, nth: int = 1) -> None:
    """Run the module and SIGKILL it at the ``nth`` request that matches ``cut``."""
    own = restore.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(restore.engine.socket, own, cut, when, nth) as proxy:
        process = restore.start("swap", {**plan, "engine": f"unix://{own}"})
        assert proxy.reached.wait(30), f"never came to {cut}: {proxy.changes}, {process.communicate()}"
        process.kill()
        process.communicate()


def rerun(restore: Restore, plan: Json, **changes: object) -> Json:
    """The next run. It names the engine as the killed one did: the way there is part of what it remembers."""
    own = restore.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(restore.engine.socket, own):
        return restore("swap", {**plan, "engine": f"unix://{own}", **changes})


def test_the_cuts_below_are_all_requests_that_change_something(restore: Restore) -> None:
    restore.deploy()
    own = restore.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(restore.engine.socket, own) as proxy:
        restore("swap", restore.plan(engine=f"unix://{own}"))
    assert proxy.changes == [TAG, *SWAP]


@pytest.mark.parametrize(("cut", "when"), CUTS)
def test_a_swap_killed_at_any_request_is_finished_by_the_next_run(restore: Restore, cut: str, when: str) -> None:
    restore.deploy("-v", "/data", "-p", "127.0.0.1::80")
    restore.engine.docker("exec", "web", "touch", "/data/mine")
    kill_at(restore, restore.plan(), cut, when)
    if cut != "POST start" and (cut, when) != ("POST stop", "after"):
        assert restore.engine.docker("ps", "-q"), "something runs all the time but between stop and start"
    result = rerun(restore, restore.plan())
    assert (result["state"], result["changed"]) == ("restored", True), result
    assert result["from"] == {"image": "web:1.1.0", "image_id": restore.ids["web:1.1.0"]}
    assert result["backup_tag"] == "backup_20261123_101112"
    assert restore.runs_image("web:1.0.0")
    assert restore.engine.names() == {"web"}
    assert restore.engine.inspect("web")["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    restore.engine.docker("exec", "web", "test", "-e", "/data/mine")
    assert rerun(restore, restore.plan())["changed"] is False


@pytest.mark.parametrize("cut", SWAP)
def test_a_later_plan_that_wants_the_old_image_back_gets_it(restore: Restore, cut: str) -> None:
    restore.deploy()
    kill_at(restore, restore.plan(), cut, "after")
    plan = restore.plan(target=restore.target("web:1.1.0"), run_id="run-2", fence=2, expect_image_id=None)
    result = rerun(restore, plan)
    assert result["state"] in ("unchanged", "restored"), result
    assert restore.runs_image("web:1.1.0")
    assert restore.engine.inspect("web")["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert restore.engine.names() == {"web"}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("cut", "nth"),
    [
        ("POST start", 1),
        ("POST stop", 2),
        ("POST rename web.guard-next", 1),
        ("POST rename web", 2),
        ("POST update", 2),
        ("POST start", 2),
        ("DELETE", 1),
    ],
)
def test_an_undo_killed_at_any_request_is_finished_by_the_next_run(
    restore: Restore, cut: str, nth: int, when: str
) -> None:
    before = restore.deploy("-p", "127.0.0.1::80")
    plan = restore.plan(target=restore.target("web:exits"))
    kill_at(restore, plan, cut, when, nth)
    result = rerun(restore, plan)
    assert (result["state"], result["failed"]) == ("reverted", True), result
    if (cut, nth) != ("POST start", 1):  # once undoing, the same run does not try the bad target again
        assert "start-new" not in [step["name"] for step in result["steps"]]
    after = restore.engine.inspect("web")
    assert after["Id"] == before["Id"] and after["State"]["Running"]
    assert after["HostConfig"] == before["HostConfig"]
    assert restore.engine.names() == {"web"}


def test_a_run_that_asks_again_after_it_was_reverted_gets_the_same_answer_and_no_second_outage(
    restore: Restore,
) -> None:
    restore.deploy()
    plan = restore.plan(target=restore.target("web:exits"))
    first = restore("swap", plan)
    before = restore.engine.inspect("web")
    again = restore("swap", plan)
    assert (first["state"], again["state"], again["changed"]) == ("reverted", "reverted", False)
    assert (again["error"], again["downtime_s"]) == (first["error"], first["downtime_s"])
    assert restore.engine.inspect("web") == before
    assert restore("swap", {**plan, "run_id": "run-2"})["changed"] is True, "another run tries anew"


def test_a_run_that_asks_again_after_its_answer_was_lost_hears_how_long_it_was_down(restore: Restore) -> None:
    restore.deploy()
    first = restore("swap", restore.plan())
    again = restore("swap", restore.plan())
    assert (again["state"], again["backup_tag"]) == ("unchanged", first["backup_tag"])
    assert again["downtime_s"] == first["downtime_s"] is not None
    assert restore("swap", restore.plan(run_id="run-2"))["downtime_s"] is None, "it was not that run"


def test_an_image_that_has_lost_its_last_name_is_restored_by_its_id(restore: Restore) -> None:
    restore.deploy()
    target = {"image": restore.ids["web:1.0.0"], "image_id": restore.ids["web:1.0.0"]}
    assert restore("swap", restore.plan(target=target))["state"] == "restored"
    assert restore.runs_image("web:1.0.0")
    assert restore.engine.inspect("web")["Config"]["Image"].startswith("web:guard_")


def test_what_a_container_prints_is_told_without_the_secrets_it_was_given(restore: Restore) -> None:
    health = ["--health-cmd", "echo $DB_PASSWORD; exit 1", "--health-interval", "1s", "--health-retries", "1"]
    restore.deploy("-e", "DB_PASSWORD=hush-hush-7", *health)
    result = restore("swap")
    assert result["state"] == "reverted"
    assert "********" in result["error"]
    assert "hush-hush-7" not in json.dumps(result)


SELF_REMOVING = [
    ("POST create web.guard-spare", 1),
    ("POST rename web.guard-prev", 1),
    ("POST rename web", 1),
    ("POST stop", 1),
    ("POST rename web.guard-prev", 2),  # the twin takes the place of the old one, which is gone
    ("POST start", 1),
]


@pytest.mark.parametrize(
    ("tag", "state", "cut", "nth", "when"),
    [
        *[
            ("web:1.0.0", "restored", *cut, when)
            for cut in [*SELF_REMOVING, ("DELETE", 1)]
            for when in ("before", "after")
        ],
        *[
            ("web:wont-start", "reverted", *cut, "after")
            for cut in [*SELF_REMOVING, ("POST rename web", 2), ("POST start", 2)]
        ],
    ],
)
def test_the_same_for_a_container_that_removes_itself(
    restore: Restore, tag: str, state: str, cut: str, nth: int, when: str
) -> None:
    restore.engine.docker("run", "-d", "--name", "web", "--rm", "-v", "/data", "web:1.1.0")
    restore.engine.docker("exec", "web", "touch", "/data/mine")
    plan = restore.plan(target=restore.target(tag))
    kill_at(restore, plan, cut, when, nth)
    result = rerun(restore, plan)
    assert result["state"] == state, result
    assert restore.runs_image("web:1.0.0" if state == "restored" else "web:1.1.0")
    assert restore.engine.names() == {"web"}
    restore.engine.docker("exec", "web", "test", "-e", "/data/mine")


@pytest.mark.parametrize("cut", ["POST rename web", "POST update", "POST stop", "POST start"])
def test_an_engine_restart_after_the_kill_does_not_start_both(restore: Restore, cut: str) -> None:
    restore.deploy("-p", "127.0.0.1::80", "--restart", "always")
    kill_at(restore, restore.plan(), cut, "after")
    restore.engine.stop()
    restore.engine.start()
    assert len(restore.engine.docker("ps", "-q").split()) <= 1
    assert rerun(restore, restore.plan())["state"] == "restored"
    assert restore.runs_image("web:1.0.0")
    assert restore.engine.names() == {"web"}
    assert restore.engine.inspect("web")["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_an_engine_that_restarts_under_a_swap_is_waited_for(restore: Restore) -> None:
    restore.deploy()
    own = restore.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(restore.engine.socket, own, "POST start", "before") as proxy:
        process = restore.start("swap", restore.plan(engine=f"unix://{own}"))
        assert proxy.reached.wait(30)
        restore.engine.stop()
        restore.engine.start()
        proxy.over.set()
        result = restore.finish(process)
    assert result["state"] == "restored", result
    assert restore.engine.names() == {"web"}


def test_something_deployed_by_hand_after_a_kill_is_kept(restore: Restore) -> None:
    restore.deploy()
    kill_at(restore, restore.plan(), "POST start", "before")
    restore.engine.docker("rm", "-f", "web")
    restore.deploy(image="web:moves")
    result = rerun(restore, restore.plan())
    assert (result["state"], result["kind"]) == ("failed", "mismatch")
    assert restore.runs_image("web:moves")


def test_a_swap_cut_off_from_its_terminal_goes_on_to_the_end(restore: Restore) -> None:
    restore.deploy()
    own = restore.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(restore.engine.socket, own, "POST start", "after") as proxy:
        process = restore.start("swap", restore.plan(engine=f"unix://{own}"))
        assert proxy.reached.wait(30)
        process.terminate()
        proxy.over.set()
        assert restore.finish(process)["state"] == "restored"


def test_an_old_container_that_cannot_be_removed_does_not_undo_the_restore(restore: Restore) -> None:
    """It is cleared up by the next run, and never taken for an unfinished swap."""
    restore.deploy()
    own = restore.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(restore.engine.socket, own, "DELETE", "refuse"):
        result = restore("swap", restore.plan(engine=f"unix://{own}"))
    assert (result["state"], restore.leftovers()) == ("restored", {"web.guard-prev"})
    assert "refused" in result["leftover"]
    plan = restore.plan(target=restore.target("web:moves"), expect_image_id=None)
    assert rerun(restore, plan)["from"]["image_id"] == restore.ids["web:1.0.0"]
    assert restore.engine.names() == {"web"}


def test_a_lower_fence_is_refused_and_an_equal_one_is_not(restore: Restore) -> None:
    restore.deploy()
    assert restore("prepare", restore.plan(fence=7))["state"] == "planned"
    for mode in ("prepare", "swap", "discard"):
        refused = restore(mode, restore.plan(fence=6))
        assert (refused["state"], refused["kind"], refused["changed"]) == ("failed", "fenced", False)
        assert "6" in refused["error"] and "7" in refused["error"]
    assert restore.runs_image("web:1.1.0")
    assert restore("swap", restore.plan(fence=7))["state"] == "restored"


def test_fences_are_per_service(restore: Restore) -> None:
    restore.deploy()
    restore("prepare", restore.plan(fence=7))
    assert restore("discard", restore.plan(fence=7))["changed"] is True
    assert restore("prepare", restore.plan(service="other", fence=1))["state"] == "planned"


def test_a_held_lock_is_waited_for_and_then_named(restore: Restore) -> None:
    restore.deploy()
    restore("prepare")
    lock = next(restore.state.glob("*.lock"))
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = restore.start("swap", restore.plan(run_id="run-2"))
        result = restore.finish(process)
        assert (result["state"], result["kind"]) == ("failed", "locked")
        assert "run-1" in result["error"]
        process = restore.start("swap", restore.plan(run_id="run-2"))
        time.sleep(0.3)
        assert process.poll() is None
        fcntl.flock(held, fcntl.LOCK_UN)
        assert restore.finish(process)["state"] == "restored"


def test_two_runs_at_once_do_the_work_once(restore: Restore) -> None:
    restore.deploy()
    both = [restore.start("swap", restore.plan()) for _ in range(2)]
    assert sorted(restore.finish(process)["state"] for process in both) == ["restored", "unchanged"]


def test_a_journal_line_cut_short_by_a_power_cut_is_as_if_never_begun(restore: Restore) -> None:
    restore.deploy()
    kill_at(restore, restore.plan(), "POST stop", "before")
    journal = next(restore.state.glob("*.journal"))
    lines = journal.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["step"] == "stop-old"
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:7])
    assert rerun(restore, restore.plan())["state"] == "restored"
    steps = [line for line in journal.read_bytes().splitlines() if line.endswith(b"}")]
    assert len(steps) == len(journal.read_bytes().splitlines()) - 1, "only the torn line is lost"
    assert json.loads(steps[-1])["phase"] == "done"
    assert os.stat(journal).st_mode & 0o777 == 0o600
