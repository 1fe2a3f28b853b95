"""Observations as a person reads them: a run of equal states of a target is one entry, a failure has its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from guard.decide.replay import Step
from guard.decide.thresholds import Transition
from guard.model import State, TargetKey


@dataclass(frozen=True, slots=True)
class Stretch:
    """``count`` observations of a target in a row that said the same. ``failures``: its row of failures after the last;
    ``transition``: what that changed. ``reason`` is that of the last."""

    target: TargetKey
    state: State
    begun: datetime
    ended: datetime
    count: int
    reason: str
    failures: int = 0
    transition: Transition | None = None


def condense(steps: Iterable[Step], most_unhealthy: int = 10) -> tuple[Stretch, ...]:
    """In order of their beginning. A failure is told by itself until ``most_unhealthy`` of a row have been, and when it
    changes something; the rest of a longer row is one stretch."""
    done: list[Stretch] = []
    open_: dict[TargetKey, Stretch] = {}
    for step in steps:
        observation, target = step.observation, step.observation.target
        new = Stretch(
            target,
            observation.state,
            observation.at,
            observation.at,
            1,
            observation.reason,
            step.status.failures if observation.state is State.UNHEALTHY else 0,
            step.transition,
        )
        last = open_.get(target)
        if last is not None and _goes_on(last, new, most_unhealthy):
            open_[target] = replace(new, begun=last.begun, count=last.count + 1, transition=last.transition)
            continue
        if last is not None:
            done.append(last)
        open_[target] = new
    return tuple(sorted([*done, *open_.values()], key=lambda one: (one.begun, one.target)))


def _goes_on(last: Stretch, new: Stretch, most_unhealthy: int) -> bool:
    if last.state is not new.state or new.transition or last.transition in (Transition.WARNING, Transition.THRESHOLD):
        return False
    return new.state is not State.UNHEALTHY or last.failures > most_unhealthy
