"""The state machine of one target: observations go in, a changed status and at most one transition come out.

Invariants (checked by hypothesis in ``tests/unit/decide``):
- ``unknown`` neither builds nor breaks a row of failures, nor a row of successes, and is not in the flapping window;
- ``degraded`` neither builds nor breaks a row of failures; it does not build a row of successes; it is in the window,
  and is no failure there;
- ``THRESHOLD`` is said only at a failure: the one with which the row of failures reaches ``failure``, or with which
  ``flaps`` of the last ``window`` known observations are failures; and once until recovery;
- ``WARNING`` is said once until recovery: when the row reaches ``warning``, or when one more failure in the window
  would cross; only when that is before the crossing;
- a healthy observation breaks the row of failures at once, whatever ``success`` is;
- ``RECOVERED`` is said once, when a target that had warned or crossed reaches ``success``, and its window is calm:
  below what warns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guard.model import Observation, State


class Transition(StrEnum):
    """What an observation changed. At most one per observation."""

    WARNING = "warning"
    THRESHOLD = "threshold"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many count. Observations, not seconds. ``window`` 0: no flapping rule."""

    failure: int = 3
    warning: int = 2
    success: int = 1
    window: int = 0
    flaps: int = 0

    def __post_init__(self) -> None:
        if self.failure < 1 or self.success < 1 or self.warning < 1:
            raise ValueError("thresholds are at least 1")
        if self.window and not 1 <= self.flaps <= self.window:
            raise ValueError("the failures that count as flapping are at least 1 and fit into the window")


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
    recent: str = ""  # the known observations of the flapping window, oldest first: h, d or u

    @property
    def failed_recently(self) -> int:
        """Failures in the flapping window."""
        return self.recent.count(_FAILED)


_FAILED = "u"


def observe(
    status: TargetStatus, observation: Observation, thresholds: Thresholds
) -> tuple[TargetStatus, Transition | None]:
    """One step. Never looks at a clock: order alone counts."""
    # Built by position, not with ``replace``: this is the innermost step of a replay and of every simulation.
    s = status
    match observation.state:
        case State.UNHEALTHY:
            return _failed(s, observation, thresholds)
        case State.HEALTHY:
            return _succeeded(s, observation, thresholds)
        case State.DEGRADED:
            recent = _window(s.recent, "d", thresholds)
            return TargetStatus(State.DEGRADED, s.failures, 0, 0, s.warned, s.crossed, observation, recent), None
        case State.UNKNOWN:
            unknowns = s.unknowns + 1
            return TargetStatus(
                State.UNKNOWN, s.failures, s.successes, unknowns, s.warned, s.crossed, observation, s.recent
            ), None


def flapping(status: TargetStatus, thresholds: Thresholds) -> bool:
    """Whether one more failure in the window would cross the threshold, or enough are in it already."""
    return thresholds.window > 0 and status.failed_recently >= max(1, thresholds.flaps - 1)


def confirming(status: TargetStatus) -> bool:
    """Whether a first failure is still to be confirmed: a row of failures is open and has not crossed.

    A degraded answer in between is an answer: there is no haste any more.
    """
    return status.failures > 0 and not status.crossed and status.state is not State.DEGRADED


def _failed(
    status: TargetStatus, observation: Observation, thresholds: Thresholds
) -> tuple[TargetStatus, Transition | None]:
    failures, warned, crossed = status.failures + 1, status.warned, status.crossed
    recent = _window(status.recent, _FAILED, thresholds)
    lately = recent.count(_FAILED) if recent else 0
    transition = None
    if not crossed:
        if failures >= thresholds.failure or (recent and lately >= thresholds.flaps):
            warned = crossed = True
            transition = Transition.THRESHOLD
        elif not warned and (failures >= thresholds.warning or (recent and lately >= thresholds.flaps - 1)):
            warned = True
            transition = Transition.WARNING
    return TargetStatus(State.UNHEALTHY, failures, 0, 0, warned, crossed, observation, recent), transition


def _succeeded(
    status: TargetStatus, observation: Observation, thresholds: Thresholds
) -> tuple[TargetStatus, Transition | None]:
    successes, warned, crossed = status.successes + 1, status.warned, status.crossed
    recent = _window(status.recent, "h", thresholds)
    calm = not recent or recent.count(_FAILED) < max(1, thresholds.flaps - 1)
    transition = None
    if (warned or crossed) and successes >= thresholds.success and calm:
        warned = crossed = False
        transition = Transition.RECOVERED
    return TargetStatus(State.HEALTHY, 0, successes, 0, warned, crossed, observation, recent), transition


def _window(recent: str, letter: str, thresholds: Thresholds) -> str:
    return (recent + letter)[-thresholds.window :] if thresholds.window else ""
