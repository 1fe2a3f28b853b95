"""Events to results: a host is never called good without its own word, and the right image in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from guard.model import HostState
from guard.rollback.outcome import Ending, Event, EventKind, begin, conclude, fold, module_result
from guard.rollback.record import RunResult, read_result, result_document

OLD, NEW, OTHER = "sha256:old", "sha256:new", "sha256:other"
START, OK, FAILED, UNREACHABLE, SKIPPED = EventKind


def said(state: str, to: str | None = NEW, from_: str = OLD, **more: object) -> dict[str, object]:
    images = {"from": {"image": "web:2", "image_id": from_}, "to": to and {"image": "web:1", "image_id": to}}
    return {"state": state, **images, "backup_tag": "backup_1", "downtime_s": 0.2, "error": None, **more}


def start(task: str = "swap") -> Event:
    return Event(START, "a", task)


def ok(result: Mapping[str, object], task: str = "swap") -> Event:
    return Event(OK, "a", task, result)


def failed(result: Mapping[str, object], *, ignored: bool = False, task: str = "swap") -> Event:
    return Event(FAILED, "a", task, result, ignored)


def unreachable(message: str = "no route") -> Event:
    return Event(UNREACHABLE, "a", "swap", {"unreachable": True, "msg": message})


PREPARED = ok(said("planned"), "prepare")
B_FAILED = Event(FAILED, "b", "swap", said("failed", error="no"))
B_GOOD = Event(OK, "b", "swap", said("restored"))

KILLED = {"msg": "no start of json char found", "rc": 137, "module_stdout": "", "module_stderr": "Killed"}
FINISHED = [
    ("a module that restored", [start(), ok(said("restored"))], "restored", None),
    ("nothing to do", [ok(said("unchanged", from_=NEW))], "unchanged", None),
    ("a clean-up that changed nothing", [PREPARED, ok(said("unchanged", from_=OLD))], "failed", "without a result"),
    ("put back", [failed(said("reverted", error="crashed"))], "reverted", "crashed"),
    ("put back, called ok", [ok(said("reverted", error="crashed"))], "reverted", "crashed"),
    ("failed", [failed(said("failed", error="no such image"))], "failed", "no such image"),
    ("failed, errors ignored", [failed(said("failed", error="no image"), ignored=True)], "failed", "no image"),
    ("a good state in a failure", [failed(said("restored", error="odd"))], "failed", "odd"),
    ("another image than the target", [ok(said("restored", to=OTHER))], "failed", OTHER),
    ("no image named", [ok(said("restored", to=None))], "failed", "did not say what runs"),
    ("unreachable", [unreachable()], "unreachable", "no route"),
    ("unreachable after it was prepared", [PREPARED, unreachable()], "unreachable", "no route"),
    ("unreachable after it was restored", [ok(said("restored")), unreachable()], "unreachable", "no route"),
    ("reached at the second try", [unreachable(), ok(said("restored"))], "restored", None),
    ("no event at all", [], "failed", "without a result"),
    ("prepared, and never swapped", [PREPARED], "failed", "without a result"),
    ("only skipped", [Event(SKIPPED, "a", "swap")], "failed", "without a result"),
    ("another module's state", [ok({"state": "started"})], "failed", "without a result"),
    ("a state nobody knows", [ok(said("excellent"))], "failed", "without a result"),
    ("began, and no word", [start()], "planned", "unknown until it is looked at"),
    ("a crashed module", [failed({"msg": "MODULE FAILURE", "rc": 1})], "failed", "MODULE FAILURE"),
    ("a killed module", [start(), failed(KILLED)], "planned", "was killed there"),
    ("killed while preparing, errors ignored", [failed(KILLED, ignored=True)], "planned", "was killed there"),
    ("a killed command that is no module", [failed({"msg": "x", "rc": 137})], "failed", "x"),
    ("an engine that went away", [failed(said("failed", error="gone", kind="engine_gone"))], "unreachable", "gone"),
    ("a silent failure", [failed({})], "failed", "did not say why"),
    (
        "an ignored failure of another task",
        [failed({"msg": "x"}, ignored=True), ok(said("restored"))],
        "restored",
        None,
    ),
    (
        "a later task failed after an undo",
        [failed(said("reverted", error="it exited")), failed({"msg": "hook"}, task="hook")],
        "failed",
        "reverted (it exited), and then task 'hook' failed: hook",
    ),
    (
        "a later task failed",
        [ok(said("restored")), failed({"msg": "hook"}, task="hook")],
        "failed",
        "restored, but then",
    ),
    ("a later task", [ok(said("restored")), start("hook"), ok({"changed": True}, "hook")], "restored", None),
    ("restored, and began something more", [ok(said("restored")), start("hook")], "planned", "unknown"),
    ("dropped by a stopped batch", [PREPARED, B_FAILED], "skipped", "another host's failure"),
    ("dropped before it was prepared", [B_FAILED], "skipped", "another host's failure"),
    ("a play that left it out", [B_GOOD], "failed", "without a result"),
]


@pytest.mark.parametrize(
    ("events", "state", "error"), [case[1:] for case in FINISHED], ids=[case[0] for case in FINISHED]
)
def test_a_finished_run(events: list[Event], state: str, error: str | None) -> None:
    check(events, Ending.FINISHED, state, error)


CUT_OFF = [
    ("lost without a word", [], Ending.LOST, "planned", "vanished"),
    ("lost before its turn", [PREPARED], Ending.LOST, "planned", "unknown until it is looked at"),
    ("lost after its result", [start(), ok(said("restored"))], Ending.LOST, "restored", None),
    ("cancelled before its turn", [PREPARED], Ending.CANCELLED, "skipped", "cancelled before its turn"),
    ("cancelled in its turn", [PREPARED, start()], Ending.CANCELLED, "failed", "cancelled during 'swap'"),
    ("timed out in its turn", [start()], Ending.TIMED_OUT, "planned", "time-out during 'swap'"),
    ("ansible did not start", [], Ending.BROKEN, "planned", "broke off"),
]


@pytest.mark.parametrize(("events", "ending", "state", "error"), [c[1:] for c in CUT_OFF], ids=[c[0] for c in CUT_OFF])
def test_a_run_that_was_cut_off(events: list[Event], ending: Ending, state: str, error: str | None) -> None:
    check(events, ending, state, error)


def check(events: list[Event], ending: Ending, state: str, error: str | None) -> None:
    progress = begin(["a", "b"])
    for event in events:
        progress = fold(progress, event, {"a": NEW, "b": NEW})
    result = conclude(progress, ending)["a"]
    assert result.state == state
    assert (error is None and result.error is None) or (error is not None and error in (result.error or ""))


def test_a_result_carries_what_the_module_saw() -> None:
    result = conclude(fold(begin(["a"]), ok(said("restored")), {}), Ending.FINISHED)["a"]
    assert (result.from_ and result.from_.image, result.to and result.to.image_id) == ("web:2", NEW)
    assert (result.backup_tag, result.downtime_s) == ("backup_1", 0.2)


def test_a_dry_run_ends_planned() -> None:
    progress = fold(begin(["a"]), PREPARED, {"a": NEW})
    assert conclude(progress, Ending.FINISHED, check=True)["a"].state is HostState.PLANNED


def test_a_host_that_was_not_asked_for_stays_out() -> None:
    assert set(conclude(fold(begin(["a"]), B_GOOD, {}), Ending.FINISHED)) == {"a"}


def test_no_cut_of_a_good_runs_events_makes_a_host_good_before_its_own_word() -> None:
    story = [start("prepare"), PREPARED, start(), ok(said("restored")), start("hook"), ok({}, "hook")]
    for ending in Ending:
        for cut in range(len(story)):
            progress = begin(["a"])
            for event in story[:cut]:
                progress = fold(progress, event, {"a": NEW})
            good = conclude(progress, ending)["a"].state is HostState.RESTORED
            assert good == (cut == 4), (ending, cut)


def test_an_endless_error_is_cut() -> None:
    result = conclude(fold(begin(["a"]), failed({"msg": "x" * 10_000}), {}), Ending.FINISHED)["a"]
    assert len(result.error or "") <= 600


def test_a_notice_of_the_module_is_kept_in_the_written_result_too(tmp_path: Path) -> None:
    said = {"state": "restored", "from": {"image": "a", "image_id": "1"}, "to": {"image": "b", "image_id": "2"}}
    result = module_result("a", {**said, "notice": "a file pins it"})
    assert result is not None
    assert result.notice == "a file pins it"
    document = result_document(RunResult(tmp_path, Ending.FINISHED, 0, {"a": result}), {})
    assert read_result(tmp_path, json.dumps(document)).hosts == {"a": result}
