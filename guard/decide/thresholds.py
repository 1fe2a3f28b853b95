"""The state machine of one target: observations go in, a changed status and at most one transition come out.

Invariants (checked by hypothesis in ``tests/unit/decide``):
- ``unknown`` neither builds nor breaks a row of failures, nor a row of successes;
- ``degraded`` neither builds nor breaks a row of failures; it does not build a row of successes;
- ``THRESHOLD`` is said exactly when the row of failures reaches ``failure_threshold``, and once per row;
- ``WARNING`` is said once per row, at ``warning_threshold``, only when that is below the failure threshold;
- a healthy observation breaks the row of failures at once, whatever ``success_threshold`` is;
- ``RECOVERED`` is said once, when a target that had warned or crossed reaches ``success_threshold``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from guard.model import Observation, State


class Transition(StrEnum):
    """What an observation changed. At most one per observation."""

    WARNING = "warning"
    THRESHOLD = "threshold"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many in a row count. Observations, not seconds."""

    failure: int = 3
    warning: int = 2
    success: int = 1

    def __post_init__(self) -> None:
        if self.failure < 1 or self.success < 1 or self.warning < 1:
            raise ValueError("thresholds are at least 1")


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """Where a target stands. ``state`` is what the last observation said; the counters are of rows up to it."""

    state: State = State.UNKNOWN
    failures: int = 0
    successes: int = 0
    unknowns: int = 0
    warned: bool = False
    crossed: bool = False
    last: Observation | None = None
    recent: str = ""  # the last observations of the flapping window, oldest first, a letter each


def observe(
    status: TargetStatus, observation: Observation, thresholds: Thresholds
) -> tuple[TargetStatus, Transition | None]:
    """One step. Never looks at a clock: order alone counts."""
    match observation.state:
        case State.UNKNOWN:
            return replace(status, unknowns=status.unknowns + 1, last=observation, state=State.UNKNOWN), None
        case State.DEGRADED:
            return replace(status, unknowns=0, successes=0, last=observation, state=State.DEGRADED), None
        case State.UNHEALTHY:
            return _failed(status, observation, thresholds)
        case State.HEALTHY:
            return _succeeded(status, observation, thresholds)


def _failed(
    status: TargetStatus, observation: Observation, thresholds: Thresholds
) -> tuple[TargetStatus, Transition | None]:
    failures = status.failures + 1
    counted = replace(status, state=State.UNHEALTHY, failures=failures, successes=0, unknowns=0, last=observation)
    if failures >= thresholds.failure and not status.crossed:
        return replace(counted, warned=True, crossed=True), Transition.THRESHOLD
    if failures >= thresholds.warning and not status.warned and not status.crossed:
        return replace(counted, warned=True), Transition.WARNING
    return counted, None


def _succeeded(
    status: TargetStatus, observation: Observation, thresholds: Thresholds
) -> tuple[TargetStatus, Transition | None]:
    successes = status.successes + 1
    counted = replace(status, state=State.HEALTHY, failures=0, successes=successes, unknowns=0, last=observation)
    if successes < thresholds.success:
        return counted, None
    settled = replace(counted, warned=False, crossed=False)
    return settled, Transition.RECOVERED if status.warned or status.crossed else None
