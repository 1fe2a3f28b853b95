"""When a gate ends, in virtual time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide import gate
from guard.decide.gate import Verdict
from guard.decide.service import has_failed
from guard.decide.thresholds import TargetStatus, Thresholds, observe
from guard.model import Observation, State, TargetKey

KEY = TargetKey("web", "http", "web1")
AT = datetime(2026, 11, 23, tzinfo=UTC)
LETTERS = {"h": State.HEALTHY, "d": State.DEGRADED, "u": State.UNHEALTHY, "?": State.UNKNOWN}


def run(states: str, *, for_s: float, within_s: float, interval: float = 1.0) -> tuple[gate.Decision | None, float]:
    """One observation per interval from time 0; the decision and when it fell. None: still watching at the end."""
    thresholds = Thresholds()
    terms = gate.Terms(for_s, within_s, {KEY: thresholds.failure})
    progress, status, now = gate.start([KEY], 0.0), TargetStatus(), 0.0
    for position, letter in enumerate(states):
        now = position * interval
        state = LETTERS[letter]
        status, _ = observe(status, Observation(KEY, state, 0.01, "because", AT), thresholds)
        progress = gate.note(progress, KEY, state, now)
        failed = ["web"] if has_failed({KEY: status}, "any") else []
        decision = gate.verdict(progress, {KEY: status}, failed, terms, now)
        if decision is not None:
            return decision, now
    return None, now


@pytest.mark.parametrize(
    ("states", "verdict", "at"),
    [
        ("hhhhhh", Verdict.HEALTHY, 5),
        ("dddddd", Verdict.HEALTHY, 5),
        ("uuu", Verdict.FAILED, 2),
        ("huuu", Verdict.FAILED, 3),
        ("uhhhhhh", Verdict.HEALTHY, 5),
        ("hhuhhhhhh", Verdict.HEALTHY, 7),
        ("hhhhuhhhhhh", Verdict.HEALTHY, 9),
        ("??????", Verdict.INCONCLUSIVE, 5),
        ("h?????", Verdict.INCONCLUSIVE, 5),
        ("hhh???h", Verdict.HEALTHY, 6),  # not healthy as long as the last look saw nothing
        ("hhhhh??????", Verdict.INCONCLUSIVE, 10),
        ("hhhhhuh????", Verdict.INCONCLUSIVE, 10),  # five seconds of which most were not seen
    ],
)
def test_a_gate_of_five_seconds(states: str, verdict: Verdict, at: float) -> None:
    decision, when = run(states, for_s=5, within_s=20)
    assert decision is not None
    assert (decision.verdict, when) == (verdict, at)


def test_what_is_unknown_at_the_end_is_waited_for_until_the_deadline() -> None:
    decision, when = run("hhhhhhhhh???", for_s=10, within_s=11)
    assert decision is not None
    assert (decision.verdict, when) == (Verdict.INCONCLUSIVE, 11)


def test_a_target_that_is_measured_seldom_is_not_blind_for_want_of_a_look_in_a_short_time_of_health() -> None:
    slow, terms = TargetKey("web", "slow"), gate.Terms(2, 20, {})
    progress = gate.note(gate.start([KEY, slow], 0.0), slow, State.HEALTHY, 0.0)
    for now, state in ((1.0, State.UNHEALTHY), (2.0, State.HEALTHY), (3.0, State.HEALTHY)):
        progress = gate.note(progress, KEY, state, now)
    healthy = TargetStatus(state=State.HEALTHY)
    decision = gate.verdict(progress, {KEY: healthy, slow: healthy}, [], terms, 3.0)
    assert decision is not None
    assert decision.verdict is Verdict.HEALTHY


def test_a_release_that_never_gets_healthy_fails_at_its_deadline_not_before() -> None:
    decision, when = run("uhuhuhuhuhuhuhuhuhuhuhuhuhuh", for_s=5, within_s=8)
    assert decision is not None
    assert decision.verdict is Verdict.FAILED
    assert when == 8


def test_a_row_of_failures_that_is_open_at_the_deadline_is_waited_for() -> None:
    decision, when = run("hhhhuuu", for_s=10, within_s=4)
    assert decision is not None
    assert (decision.verdict, when) == (Verdict.FAILED, 6)


def run_beside(states: str, other: str, *, for_s: float) -> tuple[Verdict | None, float]:
    """The same with a target ``old`` beside it that failed before the release came: one letter per second each."""
    old, thresholds, now = TargetKey("web", "old"), Thresholds(), 0.0
    terms = gate.Terms(for_s, 20, {KEY: thresholds.failure, old: thresholds.failure})
    progress, statuses = gate.start([KEY, old], 0.0), {KEY: TargetStatus(), old: TargetStatus()}
    for now, letters in enumerate(zip(states, other, strict=True)):
        for key, letter in zip((KEY, old), letters, strict=True):
            observation = Observation(key, LETTERS[letter], 0.01, "because", AT)
            statuses[key], _ = observe(statuses[key], observation, thresholds)
            progress = gate.note(progress, key, LETTERS[letter], now, excused=key == old)
        failed = ["web"] if statuses[KEY].crossed else []
        decision = gate.verdict(progress, statuses, failed, terms, now, {old})
        if decision is not None:
            assert decision.reason
            return decision.verdict, now
    return None, now


@pytest.mark.parametrize(
    ("states", "other", "for_s", "ends"),
    [
        ("hhhhhhhh", "uuuuuuuu", 5, (Verdict.FAILED, 5)),  # not before: the others are watched to the end
        ("hhhhhhhh", "uuuuuuuu", 1, (Verdict.FAILED, 2)),
        ("hhuuuuuu", "uuuuuuuu", 5, (Verdict.FAILED, 4)),
        ("hhuhhhhh", "uuuuuuuu", 5, (Verdict.FAILED, 7)),
        ("hhhhhhhh", "uuuhhhhh", 5, (Verdict.HEALTHY, 5)),
    ],
)
def test_what_failed_before_neither_ends_a_gate_nor_starts_its_time_again(
    states: str, other: str, for_s: float, ends: tuple[Verdict, float]
) -> None:
    assert run_beside(states, other, for_s=for_s) == ends


@given(st.text("hdu?", min_size=1, max_size=80), st.integers(1, 20), st.integers(1, 40))
def test_no_gate_fails_with_fewer_failures_than_the_threshold(states: str, for_s: int, within_s: int) -> None:
    decision, when = run(states, for_s=for_s, within_s=within_s)
    if decision is not None and decision.verdict is Verdict.FAILED:
        assert states[: int(when) + 1].count("u") >= Thresholds().failure


@given(st.text("hdu?", min_size=1, max_size=80), st.integers(1, 20), st.integers(1, 40))
def test_no_gate_is_healthy_without_health_for_the_whole_time(states: str, for_s: int, within_s: int) -> None:
    decision, when = run(states, for_s=for_s, within_s=within_s)
    if decision is not None and decision.verdict is Verdict.HEALTHY:
        assert "u" not in states[int(when) - for_s + 1 : int(when) + 1]
        assert when >= for_s


@given(st.text("?", min_size=1, max_size=80), st.integers(1, 20))
def test_a_blind_gate_is_never_healthy_and_never_failed(states: str, for_s: int) -> None:
    decision, _ = run(states, for_s=for_s, within_s=5)
    assert decision is None or decision.verdict is Verdict.INCONCLUSIVE


@given(st.text("hdu?", min_size=1, max_size=40), st.integers(1, 10), st.integers(1, 10))
def test_every_gate_ends(states: str, for_s: int, within_s: int) -> None:
    rest = "h" * (for_s + within_s + 2)
    decision, _ = run(states + rest, for_s=for_s, within_s=within_s)
    assert decision is not None
