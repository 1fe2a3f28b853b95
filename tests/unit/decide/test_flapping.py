"""Failures that come and go: the window beside the row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.service import crossed_reason, has_failed
from guard.decide.thresholds import TargetStatus, Thresholds, confirming, flapping, observe
from guard.model import TargetKey
from tests.unit.decide.test_thresholds import KEY, ROWS, run

FLAPS = Thresholds(window=10, flaps=5)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ("uhuhuhuhu", "......W.T"),
        ("uuhuuhu", ".WR.W.T"),
        ("u?u?u", "..W.T"),  # the row crosses first
        ("uhu?h?uhu??hu", "........W...T"),  # unknown is not in the window
        ("udhudhudhudhudh", ".........W.RW.R"),  # degraded takes a place: never five of ten
        ("uhuhuhuhu" + "h" * 3, "......W.T..."),  # recovered only when calm ...
        ("uhuhuhuhu" + "h" * 4, "......W.T...R"),  # ... three of the last ten
        ("uhuhuhuhu" + "hhhh" + "uuhu", "......W.T...RW..."),
        ("uuu" + "h", ".WTR"),  # a row alone leaves the window calm
        ("uuuuuuuuuu" + "h" * 7, ".WT.............R"),
    ],
)
def test_five_failures_of_ten_cross_and_the_fourth_warns(states: str, said: str) -> None:
    assert run(states, FLAPS)[0] == said


def test_without_a_window_a_flapping_target_never_crosses_and_nothing_is_remembered() -> None:
    said, status = run("uhuuh" * 50, Thresholds())
    assert "T" not in said
    assert status.recent == ""


def test_a_window_that_was_made_smaller_is_cut_at_the_next_observation() -> None:
    _, status = run("uhuhuhuh", FLAPS)
    assert status.recent == "uhuhuhuh"
    small = Thresholds(window=3, flaps=3)
    assert flapping(status, small)  # what was counted stands until then
    assert status.last is not None
    assert observe(status, status.last, small)[0].recent == "uhh"


SETTINGS = st.integers(1, 6).flatmap(
    lambda failure: st.integers(failure, 12).flatmap(
        lambda flaps: st.builds(
            Thresholds,
            failure=st.just(failure),
            warning=st.integers(1, failure),
            success=st.integers(1, 4),
            window=st.integers(flaps, 14),
            flaps=st.just(flaps),
        )
    )
)


@given(ROWS, SETTINGS)
def test_every_crossing_has_a_full_row_or_a_full_window(states: str, thresholds: Thresholds) -> None:
    said, _ = run(states, thresholds)
    for position, letter in enumerate(said):
        if letter == "T":
            known = states[: position + 1].replace("?", "")
            row = known.replace("d", "").endswith("u" * thresholds.failure)
            assert row or known[-thresholds.window :].count("u") >= thresholds.flaps


@given(ROWS, SETTINGS)
def test_every_full_window_is_crossed(states: str, thresholds: Thresholds) -> None:
    for end in range(1, len(states) + 1):
        known = states[:end].replace("?", "")
        if states[end - 1] == "u" and known[-thresholds.window :].count("u") >= thresholds.flaps:
            assert run(states[:end], thresholds)[1].crossed


@given(ROWS, SETTINGS)
def test_a_calm_time_always_ends_in_recovery(states: str, thresholds: Thresholds) -> None:
    said, status = run(states + "h" * (thresholds.window + thresholds.success), thresholds)
    assert not status.warned
    assert not status.crossed
    assert "TT" not in said.replace(".", "").replace("W", "")


@given(ROWS, SETTINGS)
def test_taking_the_unknown_out_changes_no_window(states: str, thresholds: Thresholds) -> None:
    known = states.replace("?", "")
    assert run(states, thresholds)[0].replace(".", "") == run(known, thresholds)[0].replace(".", "")
    assert run(states, thresholds)[1].recent == run(known, thresholds)[1].recent


@pytest.mark.parametrize(
    ("states", "thresholds", "words"),
    [
        ("uuu", FLAPS, "3 failures in a row, last"),
        ("uhuhuhuhu", FLAPS, "flapping, 5 of its last 9 checks failed, last"),
        ("uhuhuhuhuu", FLAPS, "flapping, 6 of its last 10 checks failed, last"),
        ("uhuhuhuhuuu", FLAPS, "3 failures in a row, last"),
        ("uuuh", Thresholds(success=2), "failed before and not recovered yet, last"),
    ],
)
def test_the_reason_names_the_rule_that_crossed(states: str, thresholds: Thresholds, words: str) -> None:
    status = run(states, thresholds)[1]
    assert words in crossed_reason({KEY: status}, {KEY: thresholds.failure})


@pytest.mark.parametrize(
    ("states", "hasty"),
    [("", False), ("u", True), ("u?", True), ("ud", False), ("uh", False), ("uu", True), ("uuu", False), ("h?", False)],
)
def test_a_failure_is_confirmed_until_it_recovers_or_has_crossed(states: str, hasty: bool) -> None:
    assert confirming(run(states, Thresholds())[1]) is hasty


@pytest.mark.parametrize(
    ("quorum", "crossed", "failed"),
    [
        ("2 hosts", ["http@a", "docker@a"], False),
        ("2 hosts", ["http@a", "docker@b"], True),
        (2, ["http@a", "docker@a"], True),
        ("50% hosts", ["http@a", "docker@a"], False),
        ("50% hosts", ["http@a", "docker@c"], True),
        ("9 hosts", ["http@a", "http@b", "http@c"], False),
        ("9 hosts", ["http@a", "http@b", "http@c", "http@d"], True),
        ("4 hosts", ["front@"], True),
        ("4 hosts", [], False),
        ("34% hosts", ["http@a"], False),
    ],
)
def test_a_quorum_of_hosts_counts_a_host_once(quorum: str | int, crossed: list[str], failed: bool) -> None:
    names = [f"{check}@{host}" for check in ("http", "docker") for host in "abcd"] + ["front@"]
    statuses = {TargetKey("web", *name.split("@")): TargetStatus(crossed=name in crossed) for name in names}
    assert has_failed(statuses, quorum) is failed
