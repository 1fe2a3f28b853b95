"""The state machine of one target: tables first, then every sequence hypothesis can think of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.thresholds import TargetStatus, Thresholds, Transition, observe
from guard.model import Observation, State, TargetKey

KEY = TargetKey("web", "http", "web1")
AT = datetime(2026, 11, 23, tzinfo=UTC)
LETTERS = {"h": State.HEALTHY, "d": State.DEGRADED, "u": State.UNHEALTHY, "?": State.UNKNOWN}
SHOWN = {None: ".", Transition.WARNING: "W", Transition.THRESHOLD: "T", Transition.RECOVERED: "R"}


def run(states: str, thresholds: Thresholds) -> tuple[str, TargetStatus]:
    """A row of observations as letters → the row of transitions as letters, and the last status."""
    status, said = TargetStatus(), ""
    for letter in states:
        status, transition = observe(status, Observation(KEY, LETTERS[letter], 0.01, "because", AT), thresholds)
        said += SHOWN[transition]
    return said, status


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ("hhhh", "...."),
        ("uuu", ".WT"),
        ("uuuuu", ".WT.."),
        ("uuh", ".WR"),
        ("uh", ".."),
        ("uhuhuh", "......"),
        ("uuuh", ".WTR"),
        ("uuuhuuu", ".WTR.WT"),
        ("u?u?u", "..W.T"),
        ("uduu", "..WT"),
        ("???????", "......."),
        ("ddddddd", "......."),
    ],
)
def test_three_failures_in_a_row_cross_the_threshold_and_two_warn(states: str, said: str) -> None:
    assert run(states, Thresholds())[0] == said


@pytest.mark.parametrize(
    ("thresholds", "states", "said"),
    [
        (Thresholds(failure=1, warning=1), "u", "T"),
        (Thresholds(failure=5, warning=2), "uuuuu", ".W..T"),
        (Thresholds(success=2), "uuuhuhh", ".WT...R"),
        (Thresholds(success=2), "uuhuuhuuu", ".W......T"),
    ],
)
def test_other_thresholds_count_the_same_way(thresholds: Thresholds, states: str, said: str) -> None:
    assert run(states, thresholds)[0] == said


ROWS = st.text("hdu?", max_size=60)
SETTINGS = st.builds(Thresholds, failure=st.integers(1, 6), warning=st.integers(1, 6), success=st.integers(1, 4))


@given(ROWS, SETTINGS)
def test_the_threshold_is_never_crossed_with_fewer_failures_in_a_row(states: str, thresholds: Thresholds) -> None:
    said, _ = run(states, thresholds)
    for position, letter in enumerate(said):
        if letter == "T":
            row = states[: position + 1].replace("?", "").replace("d", "")
            assert row.endswith("u" * thresholds.failure)


@given(st.text("hd?", max_size=60), SETTINGS)
def test_nothing_is_ever_said_without_an_unhealthy_observation(states: str, thresholds: Thresholds) -> None:
    assert set(run(states, thresholds)[0]) <= {"."}


@given(ROWS, SETTINGS)
def test_taking_the_unknown_out_changes_no_decision(states: str, thresholds: Thresholds) -> None:
    known = states.replace("?", "")
    assert run(states, thresholds)[0].replace(".", "") == run(known, thresholds)[0].replace(".", "")


@given(ROWS, SETTINGS)
def test_a_full_row_of_failures_is_always_crossed(states: str, thresholds: Thresholds) -> None:
    _, status = run(states + "u" * thresholds.failure, thresholds)
    assert status.crossed
    assert status.failures >= thresholds.failure


@given(ROWS, SETTINGS)
def test_the_threshold_is_said_once_until_recovery(states: str, thresholds: Thresholds) -> None:
    said = run(states, thresholds)[0].replace(".", "").replace("W", "")
    assert "TT" not in said


def test_a_threshold_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Thresholds(failure=0)
