"""Who began to fail together, who is blind, and since when a target fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from guard.decide.thresholds import TargetStatus, Thresholds, observe
from guard.model import Observation, State, TargetKey
from guard.schedule import ScheduledTarget
from guard.service.onsets import Onsets
from tests.fakes import FakeProbe

START = datetime(2026, 11, 1, tzinfo=UTC)
LETTERS = {"h": State.HEALTHY, "d": State.DEGRADED, "u": State.UNHEALTHY, "?": State.UNKNOWN}
INTERVAL = 10.0  # with a time-out of 2 s


def key(service: str) -> TargetKey:
    return TargetKey(service, "http")


def observed(**states: str) -> tuple[Onsets, dict[TargetKey, TargetStatus]]:
    """One target per service, one letter per interval; all services are observed in the same moment."""
    targets = {key(name): ScheduledTarget(key(name), FakeProbe(), INTERVAL, 2.0) for name in states}
    onsets, statuses = Onsets(targets), dict.fromkeys(targets, TargetStatus())
    for turn in range(max(len(row) for row in states.values())):
        now = turn * INTERVAL
        for name, row in states.items():
            if turn < len(row):
                at = START + timedelta(seconds=now)
                one = Observation(key(name), LETTERS[row[turn]], 0.1, f"reason {turn}", at)
                statuses[key(name)], _ = observe(statuses[key(name)], one, Thresholds())
                onsets.take(one, statuses[key(name)], now)
    return onsets, statuses


@pytest.mark.parametrize(
    ("states", "together"),
    [
        ({"web": "hhuuu", "api": "hhuuu", "shop": "hhhhh"}, {"web", "api"}),
        ({"web": "hhuuu", "api": "hhhuu", "shop": "huuuu"}, {"web", "api", "shop"}),  # an interval apart
        ({"web": "hhhhuuu", "api": "uuuuuuu", "shop": "hhhhuuu"}, {"web", "shop"}),  # that one has failed for long
        ({"web": "hhuuu", "api": "hhuuh", "shop": "hhuu?"}, {"web", "shop"}),
        ({"web": "hhhhh", "api": "hhuuu", "shop": "hhuuu"}, {"web"}),
    ],
)
def test_services_fail_together_when_they_began_within_one_interval(states: dict[str, str], together: set[str]) -> None:
    onsets, _ = observed(**states)
    assert onsets.together("web", ["web", "api", "shop"]) == together


def test_only_the_services_that_are_asked_about_count() -> None:
    onsets, _ = observed(web="uuu", api="uuu", shop="uuu")
    assert onsets.together("web", ["web", "api"]) == {"web", "api"}


@pytest.mark.parametrize(
    ("states", "blind"),
    [
        ({"web": "huuu", "api": "h???", "shop": "h???"}, (2, 3)),
        ({"web": "huuu", "api": "hhhh", "shop": "h???"}, (1, 3)),
        ({"web": "hhhhuuu", "api": "???????", "shop": "hhhhhhh"}, (0, 2)),  # its secret is missing
        ({"web": "hhhhuuu", "api": "h??????", "shop": "h??????"}, (2, 3)),  # offline for long
        ({"web": "uuu", "api": "???", "shop": "???"}, (2, 3)),  # offline from the start
        ({"web": "hhhh", "api": "h???", "shop": "h???"}, (0, 3)),  # nothing fails
    ],
)
def test_targets_are_blind_when_they_became_unknown(states: dict[str, str], blind: tuple[int, int]) -> None:
    onsets, _ = observed(**states)
    assert onsets.blind("web") == blind


@pytest.mark.parametrize(
    ("states", "since", "then", "now"),
    [
        ("hhuuu", 4, "reason 4", "reason 4"),
        ("uuuuu", 2, "reason 2", "reason 4"),
        ("uuu?d", 2, "reason 2", "reason 2"),
        ("uuuhuuu", 6, "reason 6", "reason 6"),
    ],
)
def test_a_target_fails_since_its_row_was_full(states: str, since: int, then: str, now: str) -> None:
    onsets, statuses = observed(web=states)
    failing = onsets.failing(statuses)
    assert [(f.since, f.then, f.now) for f in failing] == [(START + timedelta(seconds=since * INTERVAL), then, now)]


@pytest.mark.parametrize(("states", "since"), [("uuu", -60.0), ("?uuu", -60.0), ("huuu", 30.0)])
def test_a_row_from_before_goes_on_until_it_is_broken(states: str, since: float) -> None:
    targets = {key("web"): ScheduledTarget(key("web"), FakeProbe(), INTERVAL, 2.0)}
    onsets, status = Onsets(targets), TargetStatus()
    onsets.known_before({key("web"): Observation(key("web"), State.UNHEALTHY, 0.1, "", START - timedelta(minutes=1))})
    for turn, letter in enumerate(states):
        one = Observation(key("web"), LETTERS[letter], 0.1, "", START + timedelta(seconds=turn * INTERVAL))
        status, _ = observe(status, one, Thresholds())
        onsets.take(one, status, turn * INTERVAL)
    assert [f.since for f in onsets.failing({key("web"): status})] == [START + timedelta(seconds=since)]


def test_after_a_rollback_everything_begins_anew() -> None:
    onsets, statuses = observed(web="uuu", api="uuu")
    onsets.forget("web")
    assert onsets.failing({key("web"): statuses[key("web")]}) == ()
    assert onsets.together("api", ["web", "api"]) == {"api"}
