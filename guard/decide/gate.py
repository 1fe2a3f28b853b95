"""When a gate ends, and how. Pure: time is an argument, in seconds on any clock that never jumps.

- An unhealthy observation starts the time of health again; an unknown or degraded one does not.
- FAILED is said only when a service crossed its threshold (``guard.decide.service.has_failed``), or when the deadline
  for getting healthy has passed and one target has at least a threshold's worth of failures in all.
- Targets that fail as they did before the release came (``excused``) neither end the gate nor start its time again:
  the others are watched to the end. Then it has FAILED because of the excused ones, and no release is to blame.
- A gate never ends HEALTHY while a target was not measured or mostly unknown in its time of health, or was unhealthy or
  unknown when last seen. One that is unknown when last seen is waited for until the deadline.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from guard.decide.names import names_text
from guard.decide.service import crossed_reason
from guard.decide.thresholds import TargetStatus
from guard.model import State, TargetKey


class Verdict(StrEnum):
    """How the watch over a candidate ends, before any rollback."""

    HEALTHY = "healthy"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Count:
    """What one target has shown: ``bad`` and ``measured`` during this gate, ``good`` and ``unknown`` in the present
    time of health. That may be shorter than the target's interval, so having been measured before counts as well."""

    good: int = 0
    bad: int = 0
    unknown: int = 0
    measured: bool = False

    @property
    def blind(self) -> bool:
        return self.unknown > self.good or not self.measured


@dataclass(frozen=True, slots=True)
class Progress:
    """``healthy_since`` is when the present time of health began; the gate's start counts as one.

    ``started`` may be ahead: as long as checks have an initial delay, no time counts.
    """

    started: float
    healthy_since: float
    counts: Mapping[TargetKey, Count] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """``for_s``: how long healthy. ``within_s``: by when the last time of health must have begun."""

    for_s: float
    within_s: float
    failure_thresholds: Mapping[TargetKey, int]


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    reason: str
    services: frozenset[str] = frozenset()  # those that failed


def start(keys: Collection[TargetKey], now: float) -> Progress:
    return Progress(now, now, {key: Count() for key in keys})


def note(progress: Progress, key: TargetKey, state: State, now: float, *, excused: bool = False) -> Progress:
    """Take one observation in."""
    count = progress.counts[key]
    match state:
        case State.UNHEALTHY if excused:
            counted = replace(count, bad=count.bad + 1, measured=True)
        case State.UNHEALTHY:
            afresh = {other: Count(bad=one.bad, measured=one.measured) for other, one in progress.counts.items()}
            counted = Count(bad=count.bad + 1, measured=True)
            return replace(progress, healthy_since=max(now, progress.started), counts={**afresh, key: counted})
        case State.UNKNOWN:
            counted = replace(count, unknown=count.unknown + 1)
        case _:
            counted = replace(count, good=count.good + 1, measured=True)
    return replace(progress, counts={**progress.counts, key: counted})


def verdict(
    progress: Progress,
    statuses: Mapping[TargetKey, TargetStatus],
    failed_services: Collection[str],
    terms: Terms,
    now: float,
    excused: Collection[TargetKey] = (),
) -> Decision | None:
    """None: go on watching. ``failed_services``: those that failed without their excused targets."""
    if failed_services:
        failing = {key: status for key, status in statuses.items() if key.service in failed_services}
        return Decision(Verdict.FAILED, crossed_reason(failing, terms.failure_thresholds), frozenset(failed_services))
    in_a_row = [key for key, status in statuses.items() if status.failures > 0 and key not in excused]
    too_late = now - progress.started >= max(terms.within_s, terms.for_s)
    if now - progress.healthy_since >= terms.for_s and not in_a_row:
        unseen = [key for key, status in statuses.items() if status.state is State.UNKNOWN]
        ended = _time_is_up(progress, terms, unseen)
        still = {key: statuses[key] for key in excused if statuses[key].failures}
        if ended.verdict is Verdict.HEALTHY and still:
            if not all(status.crossed for status in still.values()):
                return None  # in a short gate their row is not full again yet
            return Decision(
                Verdict.FAILED, crossed_reason(still, terms.failure_thresholds), frozenset(key.service for key in still)
            )
        if ended.verdict is Verdict.HEALTHY or not unseen or too_late or _blind(progress):
            return ended
    if now - progress.started >= terms.within_s and progress.healthy_since - progress.started >= terms.within_s:
        return _deadline(progress, terms, bool(in_a_row), excused)
    return None


def _blind(progress: Progress) -> list[TargetKey]:
    return sorted(key for key, count in progress.counts.items() if count.blind)


def _time_is_up(progress: Progress, terms: Terms, unseen: Collection[TargetKey]) -> Decision:
    if blind := _blind(progress):
        return Decision(Verdict.INCONCLUSIVE, f"could not measure enough of {_named(blind)}")
    if unseen:
        return Decision(Verdict.INCONCLUSIVE, f"could not measure {_named(sorted(unseen))} at the end")
    return Decision(Verdict.HEALTHY, f"healthy for {terms.for_s:g} s")


def _named(keys: Sequence[TargetKey]) -> str:
    return names_text([str(key) for key in keys])


def _deadline(progress: Progress, terms: Terms, row_open: bool, excused: Collection[TargetKey]) -> Decision | None:
    counts = {key: count for key, count in progress.counts.items() if key not in excused}
    enough = [key for key, count in counts.items() if count.bad >= terms.failure_thresholds[key]]
    waited = f"not healthy for {terms.for_s:g} s, begun within {terms.within_s:g} s"
    if enough:
        worst = max(enough, key=lambda key: progress.counts[key].bad)
        reason = f"{waited}: {worst} failed {progress.counts[worst].bad} times in between"
        return Decision(Verdict.FAILED, reason, frozenset(key.service for key in enough))
    if row_open:
        return None  # the row of failures ends in the threshold or in health; either says more than the clock
    return Decision(Verdict.INCONCLUSIVE, waited)
