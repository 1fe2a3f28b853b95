"""The schedule, the counters and the real clock together. Bounds are wide: only the order of size is promised here."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from guard.decide.thresholds import Thresholds, Transition
from guard.model import Measurement, Observation, State, TargetKey
from guard.schedule import Schedule, ScheduledTarget
from guard.service.counting import Counters
from guard.wiring import SystemClock

KEY = TargetKey("web", "http")


class Failing:
    async def measure(self) -> Measurement:
        return Measurement(State.UNHEALTHY, 0.0, "always")


async def seconds_to_threshold(interval_s: float, confirm_s: float | None) -> float:
    """From the first failure to the crossing."""
    target = ScheduledTarget(KEY, Failing(), interval_s, 1.0, Thresholds(failure=3), confirm_s=confirm_s)
    counters = Counters({KEY: target.thresholds}, {"web": "any"})
    at: list[float] = []
    stop = asyncio.Event()

    def take(observation: Observation) -> None:
        at.append(monotonic())
        if counters.take(observation) is Transition.THRESHOLD:
            stop.set()

    schedule = Schedule([target], SystemClock(), confirming=counters.confirming)
    async with asyncio.timeout(60):
        await schedule.run(take, stop, immediately=True)
    return at[-1] - at[0]


@pytest.mark.parametrize(("interval_s", "confirm_s", "takes_s"), [(60.0, 0.2, 0.4), (0.3, None, 0.6)])
def test_three_failures_are_seen_in_two_intervals_or_two_confirming_ones(
    interval_s: float, confirm_s: float | None, takes_s: float
) -> None:
    assert takes_s * 0.9 <= asyncio.run(seconds_to_threshold(interval_s, confirm_s)) < takes_s + 10.0
