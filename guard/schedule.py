"""Wakes every target at its own times: monotonic, without drift, and no check delays another.

A target is due at ``start + n * interval``. A measurement that takes longer than the interval makes it miss those
slots; they are skipped, never piled up, and a target never overlaps with itself within one schedule.

While a first failure is being confirmed a target is due at ``that start + n * confirm interval`` instead; afterwards it
goes back to its own slots, so that targets which failed together do not stay together.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from guard.decide.thresholds import Thresholds
from guard.model import Measurement, Observation, State, TargetKey
from guard.ports import Clock, Probe

GRACE_S = 0.25  # a probe keeps its own deadline; this much later it is ended from here
STALLED_S = 1.0  # a deadline that was noticed this late says that guard itself stood still
AT_ONCE = 256  # measurements of one round under way together, so that a round fits into a process's descriptors
_SPREAD_PER_TARGET_S = 0.02
_SAME_MOMENT_S = 1e-6
_SAME_SLOT = 1e-6  # of a step: what sums of floats may be apart and still be one moment
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class ScheduledTarget:
    """What to measure, how often (seconds between starts) and for how long at most (seconds).

    ``initial_delay_s``: nothing is measured before that long after a schedule's begin. ``confirm_s``: the interval
    while a failure is being confirmed; None is the ordinary one. ``degraded_as``: what a degraded answer counts as.
    """

    key: TargetKey
    probe: Probe
    interval_s: float
    timeout_s: float
    thresholds: Thresholds = field(default_factory=Thresholds)
    initial_delay_s: float = 0.0
    confirm_s: float | None = None
    degraded_as: State = State.DEGRADED


Lag = Callable[[TargetKey, float], None]


class Due:
    """When one target is measured. Pure: times are arguments, in seconds on any clock that never jumps."""

    __slots__ = ("_base", "_interval_s", "_slots", "at")

    def __init__(self, first: float, interval_s: float) -> None:
        self._slots = self._base = first  # where the target's own slots begin; where those begin that count now
        self._interval_s = interval_s
        self.at = first

    def ended(self, now: float, confirm_s: float | None) -> None:
        """A measurement ended: the next start is the first slot in the future. ``confirm_s``: at this pace."""
        if confirm_s is None:
            self._base, step = self._slots, self._interval_s
        else:
            self._base, step = self.at, confirm_s
        passed = max(self.at, now) - self._base
        self.at = self._base + (math.floor(passed / step + _SAME_SLOT) + 1) * step


class Schedule:
    """``run`` measures until told to stop. ``on_lag`` hears how late (seconds) each measurement began.

    ``confirming`` is asked after each observation was taken: whether its target has a failure to be confirmed.
    """

    def __init__(
        self,
        targets: Sequence[ScheduledTarget],
        clock: Clock,
        *,
        on_lag: Lag | None = None,
        confirming: Callable[[TargetKey], bool] | None = None,
    ) -> None:
        self._targets = tuple(targets)
        self._clock = clock
        self._on_lag = on_lag
        self._confirming = confirming

    async def run(
        self, on_observation: Callable[[Observation], None], stop: asyncio.Event, *, immediately: bool = False
    ) -> None:
        """Returns once ``stop`` is set; measurements under way are given up without an observation.

        The first measurements are spread over a short time, so that later ones do not all fall into the same moment;
        with ``immediately`` all begin at once. An error of ``on_observation`` ends the run and is raised.
        """
        begin = self._clock.monotonic()
        phases = [0.0] * len(self._targets) if immediately else self._phases()
        places = [
            _Place(
                target, Due(begin + target.initial_delay_s + phase, target.interval_s), _Watched(target, self._clock)
            )
            for target, phase in zip(self._targets, phases, strict=True)
        ]
        under_way = _UnderWay(places, self._clock, lambda place: self._measure(place, on_observation))
        stopped = asyncio.create_task(stop.wait())
        ends: list[asyncio.Future[Any]] = [stopped, under_way.failed]
        try:
            under_way.start_due()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            await asyncio.gather(stopped, return_exceptions=True)
            await under_way.close()
        if under_way.failed.done():
            under_way.failed.result()

    def _phases(self) -> list[float]:
        """Evenly spread however many there are (multiples of the golden ratio), from an offset of this run's own."""
        offset = random.random()  # noqa: S311 # only keeps several guards apart
        spread = max(1.0, len(self._targets) * _SPREAD_PER_TARGET_S)
        return [
            (offset + index * _GOLDEN) % 1.0 * min(target.interval_s, spread)
            for index, target in enumerate(self._targets)
        ]

    async def _measure(self, place: _Place, on_observation: Callable[[Observation], None]) -> None:
        if self._on_lag is not None:
            self._on_lag(place.target.key, self._clock.monotonic() - place.due.at)
        on_observation(await place.watched.observe())
        place.due.ended(self._clock.monotonic(), self._pace(place.target))

    def _pace(self, target: ScheduledTarget) -> float | None:
        hasty = target.confirm_s is not None and self._confirming is not None and self._confirming(target.key)
        return target.confirm_s if hasty else None


class _Place(NamedTuple):
    """What is kept of a target between its measurements; a task it has only while it is measured."""

    target: ScheduledTarget
    due: Due
    watched: _Watched


class _UnderWay:
    """One timer for the next start of all, and a task for each measurement under way."""

    def __init__(
        self, places: Sequence[_Place], clock: Clock, measure: Callable[[_Place], Coroutine[None, None, None]]
    ) -> None:
        self._places = places
        self._clock = clock
        self._measure = measure
        self._loop = asyncio.get_running_loop()
        self._waiting = [(place.due.at, number) for number, place in enumerate(places)]
        heapq.heapify(self._waiting)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.failed: asyncio.Future[None] = self._loop.create_future()
        """Never done but by the error that a measurement's task ended with."""

    def start_due(self) -> None:
        now = self._clock.monotonic()
        while self._waiting and self._waiting[0][0] <= now + _SAME_MOMENT_S:
            number = heapq.heappop(self._waiting)[1]
            task = self._loop.create_task(self._measure(self._places[number]))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, number))
        self._wait()

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._closed or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            if not self.failed.done():
                self.failed.set_exception(error)
            return
        at = self._places[number].due.at
        heapq.heappush(self._waiting, (at, number))
        if self._waiting[0] == (at, number):
            self._wait()

    def _wait(self) -> None:
        """Wake up for the earliest that waits now."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._waiting:
            after = max(0.0, self._waiting[0][0] - self._clock.monotonic())
            self._timer = self._loop.call_later(after, self.start_due)

    async def close(self) -> None:
        """Nothing is started any more, and what is under way is given up."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


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

    __slots__ = ("_abandoned", "_clock", "_target")

    def __init__(self, target: ScheduledTarget, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._abandoned: asyncio.Task[Measurement] | None = None

    async def observe(self) -> Observation:
        measured = await self._measure()
        return Observation(
            target=self._target.key,
            state=self._target.degraded_as if measured.state is State.DEGRADED else measured.state,
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
