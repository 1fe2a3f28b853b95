"""Wakes every target at its own times: monotonic, without drift, and no check delays another.

A target is due at ``start + n * interval``. A measurement that takes longer than the interval makes it miss those
slots; they are skipped, never piled up, and a target never overlaps with itself within one schedule.
"""

from __future__ import annotations

import asyncio
import math
import random
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from guard.decide.thresholds import Thresholds
from guard.model import Measurement, Observation, State, TargetKey
from guard.ports import Clock, Probe

GRACE_S = 0.25  # a probe keeps its own deadline; this much later it is ended from here
STALLED_S = 1.0  # a deadline that was noticed this late says that guard itself stood still
AT_ONCE = 256  # measurements of one round under way together, so that a round fits into a process's descriptors
_SPREAD_PER_TARGET_S = 0.02
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class ScheduledTarget:
    """What to measure, how often (seconds between starts) and for how long at most (seconds)."""

    key: TargetKey
    probe: Probe
    interval_s: float
    timeout_s: float
    thresholds: Thresholds = field(default_factory=Thresholds)


Lag = Callable[[TargetKey, float], None]


class Schedule:
    """``run`` measures until told to stop. ``on_lag`` hears how late (seconds) each measurement began."""

    def __init__(self, targets: Sequence[ScheduledTarget], clock: Clock, *, on_lag: Lag | None = None) -> None:
        self._targets = tuple(targets)
        self._clock = clock
        self._on_lag = on_lag

    async def run(
        self, on_observation: Callable[[Observation], None], stop: asyncio.Event, *, immediately: bool = False
    ) -> None:
        """Returns once ``stop`` is set; measurements under way are given up without an observation.

        The first measurements are spread over a short time, so that later ones do not all fall into the same moment;
        with ``immediately`` all begin at once. An error of ``on_observation`` ends the run and is raised.
        """
        begin = self._clock.monotonic()
        phases = [0.0] * len(self._targets) if immediately else self._phases()
        loops = [
            asyncio.create_task(self._repeat(target, begin + phase, on_observation))
            for target, phase in zip(self._targets, phases, strict=True)
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *loops], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopped, *loops):
                task.cancel()
            await asyncio.gather(stopped, *loops, return_exceptions=True)
        for task in done - {stopped}:
            await task  # a loop only ends by an error

    def _phases(self) -> list[float]:
        """Evenly spread however many there are (multiples of the golden ratio), from an offset of this run's own."""
        offset = random.random()  # noqa: S311 # only keeps several guards apart
        spread = max(1.0, len(self._targets) * _SPREAD_PER_TARGET_S)
        return [
            (offset + index * _GOLDEN) % 1.0 * min(target.interval_s, spread)
            for index, target in enumerate(self._targets)
        ]

    async def _repeat(
        self, target: ScheduledTarget, first: float, on_observation: Callable[[Observation], None]
    ) -> None:
        slot = 0
        watched = _Watched(target, self._clock)
        while True:
            due = first + slot * target.interval_s
            await asyncio.sleep(max(0.0, due - self._clock.monotonic()))
            if self._on_lag is not None:
                self._on_lag(target.key, self._clock.monotonic() - due)
            on_observation(await watched.observe())
            slot = max(slot, math.floor((self._clock.monotonic() - first) / target.interval_s)) + 1


async def one_round(
    targets: Sequence[ScheduledTarget], clock: Clock, *, at_once: int = AT_ONCE
) -> tuple[Observation, ...]:
    """Every target measured once, now, in the order given."""
    places = asyncio.Semaphore(at_once)

    async def observe(target: ScheduledTarget) -> Observation:
        async with places:
            return await _Watched(target, clock).observe()

    return tuple(await asyncio.gather(*(observe(target) for target in targets)))


class _Watched:
    """A target whose probe is not trusted: it may raise, overrun, or not even end when it is cancelled."""

    def __init__(self, target: ScheduledTarget, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._abandoned: asyncio.Task[Measurement] | None = None

    async def observe(self) -> Observation:
        measured = await self._measure()
        return Observation(
            target=self._target.key,
            state=measured.state,
            latency_s=measured.latency_s,
            reason=measured.reason,
            at=self._clock.now(),
            evidence=measured.evidence,
        )

    async def _measure(self) -> Measurement:
        if self._abandoned is not None and not self._abandoned.done():
            return Measurement(State.UNKNOWN, None, "an earlier measurement does not end, so none was begun")
        began = self._clock.monotonic()
        task = asyncio.create_task(self._target.probe.measure())
        try:
            await asyncio.wait({task}, timeout=self._target.timeout_s + GRACE_S)
        finally:
            if not task.done():
                task.cancel()
                self._abandoned = task
                task.add_done_callback(_retrieve)
        late = self._clock.monotonic() - began - self._target.timeout_s
        if not task.done():
            measured = Measurement(State.UNHEALTHY, None, f"the check did not end within {self._target.timeout_s:g} s")
        else:
            measured = _result(task)
        if measured.state is State.UNHEALTHY and late > STALLED_S:
            # SIGSTOP, a paused machine, no CPU: every deadline passed, whatever the service did.
            reason = f"guard itself stood still: a limit of {self._target.timeout_s:g} s was noticed {late:.1f} s late"
            return Measurement(State.UNKNOWN, None, reason, measured.evidence)
        return measured


def _result(task: asyncio.Task[Measurement]) -> Measurement:
    if task.cancelled():
        return Measurement(State.UNKNOWN, None, "the check was cancelled from inside")
    error = task.exception()
    if error is None:
        return task.result()
    text = "".join(traceback.format_exception(error))
    return Measurement(
        State.UNKNOWN, None, f"the check itself failed: {type(error).__name__}: {error}", {"traceback": text[-4000:]}
    )


def _retrieve(task: asyncio.Task[Measurement]) -> None:
    """An abandoned probe's late result is of no interest, but asyncio complains about errors nobody looked at."""
    if not task.cancelled():
        task.exception()
