"""A release is not blamed for what failed before it came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.blame import Failing, baseline, failed_before, last_of_another, same_way
from guard.model import Image, Observation, Release, ReleaseState, State, TargetKey

START = datetime(2026, 11, 1, tzinfo=UTC)
KEY = TargetKey("web", "http", "web1")
LETTERS = {"h": State.HEALTHY, "d": State.DEGRADED, "u": State.UNHEALTHY, "?": State.UNKNOWN}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def observed(states: str) -> list[Observation]:
    return [Observation(KEY, LETTERS[s], 0.1, "answered 500", at(n)) for n, s in enumerate(states)]


@pytest.mark.parametrize(
    ("states", "full_at"),
    [
        ("uuu", 2),
        ("huuuu", 3),
        ("u?u?u", 4),
        ("udu?u", 4),
        ("uu", None),
        ("uuuh", None),
        ("uuuhuu", None),
        ("", None),
    ],
)
def test_only_a_full_row_that_is_still_open_proves_that_it_failed(states: str, full_at: int | None) -> None:
    found = baseline(observed(states), {KEY: 3}, at(60))
    assert (found[KEY].at if KEY in found else None) == (at(full_at) if full_at is not None else None)


def test_a_high_threshold_needs_no_more_than_five_and_old_observations_prove_nothing() -> None:
    assert KEY in baseline(observed("uuuuu"), {KEY: 100}, at(60))
    assert baseline(observed("uuuuu"), {KEY: 100}, at(2 * 3600)) == {}


@given(st.text("hdu?", max_size=40), st.integers(1, 5))
def test_a_target_that_answered_well_last_was_never_failing(states: str, threshold: int) -> None:
    assert baseline(observed(states + "h"), {KEY: threshold}, at(60)) == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("answered 500, expected 200", "answered 500, expected 200", True),
        ("answered 500", "answered 503", False),
        ("no answer within 1.0 s", "no answer within 1.2 s", True),
        ("connection refused", "no answer within 1 s", False),
    ],
)
def test_the_way_of_failing_is_the_reason_but_for_amounts(one: str, other: str, same: bool) -> None:
    assert same_way(one, other) is same


@pytest.mark.parametrize(
    ("since", "now", "excused"),
    [(at(10), "500", True), (at(20), "500", True), (at(21), "500", False), (at(10), "refused", False)],
)
def test_what_failed_while_another_release_ran_is_excused_when_it_fails_in_the_same_way(
    since: datetime, now: str, excused: bool
) -> None:
    failing = Failing(KEY, since, "500", now)
    assert failed_before([failing], at(20)) == ((failing,) if excused else ())
    assert failed_before([failing], None) == ()


def release(seconds: float, **versions: str) -> Release:
    images = {host: Image(f"web:{v}", v) for host, v in versions.items()}
    return Release("r", "web", ReleaseState.CANDIDATE, "watch", at(seconds), images, True)


NEW = {"web1": Image("web:2", "2")}


@pytest.mark.parametrize(
    ("past", "seen_at", "known"),
    [
        ([], None, None),
        ([], at(7), at(7)),
        ([release(1, web1="1")], None, at(1)),
        ([release(1, web1="1"), release(5, web1="2")], None, at(1)),
        ([release(1, web1="1"), release(5, web1="2")], at(4), at(4)),
        ([release(1, web1="1"), release(5, web2="1")], None, at(1)),  # of another host
        ([release(1, web1="1", web2="1"), release(5, web1="2", web2="1")], None, at(1)),  # in a rolling deploy
        ([release(5, web1="2")], None, None),
        ([release(3600, web1="1")], None, None),  # written before the clock was set back
        ([release(1, web1="1"), release(3600, web1="3")], at(3700), at(1)),
    ],
)
def test_when_another_release_was_last_there_is_known_from_the_ledger_or_a_watch(
    past: list[Release], seen_at: datetime | None, known: datetime | None
) -> None:
    assert last_of_another(NEW, past[::-1], at(60), seen_at) == known
