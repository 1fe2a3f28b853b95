"""When a gate ends, and how. Pure: time is an argument, in seconds on any clock that never jumps.

- An unhealthy observation starts the time of health again; an unknown or degraded one does not.
- FAILED is said only when a service crossed its threshold (``guard.decide.service.has_failed``), or when the deadline
  for getting healthy has passed and one target has at least a threshold's worth of failures in all.
- A gate never ends HEALTHY while a target was not measured, was mostly unknown, or was unhealthy when last seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

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
    """What one target has shown during this gate."""

    good: int = 0
    bad: int = 0
    unknown: int = 0

    @property
    def blind(self) -> bool:
        return self.unknown > self.good + self.bad or self.good + self.bad == 0


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


def note(progress: Progress, key: TargetKey, state: State, now: float) -> Progress:
    """Take one observation in."""
    count = progress.counts[key]
    match state:
        case State.UNKNOWN:
            counted = replace(count, unknown=count.unknown + 1)
        case State.UNHEALTHY:
            counted = replace(count, bad=count.bad + 1)
        case _:
            counted = replace(count, good=count.good + 1)
    since = max(now, progress.started) if state is State.UNHEALTHY else progress.healthy_since
    return replace(progress, healthy_since=since, counts={**progress.counts, key: counted})


def verdict(
    progress: Progress,
    statuses: Mapping[TargetKey, TargetStatus],
    failed_services: Collection[str],
    terms: Terms,
    now: float,
) -> Decision | None:
    """None: go on watching."""
    if failed_services:
        failing = {key: status for key, status in statuses.items() if key.service in failed_services}
        return Decision(Verdict.FAILED, crossed_reason(failing, terms.failure_thresholds), frozenset(failed_services))
    in_a_row = [key for key, status in statuses.items() if status.failures > 0]
    if now - progress.healthy_since >= terms.for_s and not in_a_row:
        return _time_is_up(progress, terms)
    if now - progress.started >= terms.within_s and progress.healthy_since - progress.started >= terms.within_s:
        return _deadline(progress, terms, bool(in_a_row))
    return None


def _time_is_up(progress: Progress, terms: Terms) -> Decision:
    blind = sorted(str(key) for key, count in progress.counts.items() if count.blind)
    if blind:
        named = ", ".join(blind[:5]) + (f" and {len(blind) - 5} more" if len(blind) > 5 else "")
        return Decision(Verdict.INCONCLUSIVE, f"could not measure enough of {named}")
    return Decision(Verdict.HEALTHY, f"healthy for {terms.for_s:g} s")


def _deadline(progress: Progress, terms: Terms, row_open: bool) -> Decision | None:
    enough = [key for key, count in progress.counts.items() if count.bad >= terms.failure_thresholds[key]]
    waited = f"not healthy for {terms.for_s:g} s, begun within {terms.within_s:g} s"
    if enough:
        worst = max(enough, key=lambda key: progress.counts[key].bad)
        reason = f"{waited}: {worst} failed {progress.counts[worst].bad} times in between"
        return Decision(Verdict.FAILED, reason, frozenset(key.service for key in enough))
    if row_open:
        return None  # the row of failures ends in the threshold or in health; either says more than the clock
    return Decision(Verdict.INCONCLUSIVE, waited)
