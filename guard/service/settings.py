"""The thresholds and times in force when something was decided, as plain JSON for the record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

from guard.decide.thresholds import Thresholds
from guard.schedule import ScheduledTarget
from guard.service.session import Bound

Settings = dict[str, object]


def counting(thresholds: Thresholds, interval_s: float, timeout_s: float) -> Settings:
    """What one target is counted with."""
    limits = {each.name: getattr(thresholds, each.name) for each in fields(thresholds)}
    return {**limits, "interval_s": interval_s, "timeout_s": timeout_s}


def settings_of(
    services: Sequence[Bound],
    targets: Iterable[ScheduledTarget],
    *,
    for_s: float | None = None,
    within_s: float | None = None,
) -> Settings:
    """Of these services alone. ``for_s`` and ``within_s``: a gate's times."""
    names = {bound.name for bound in services}
    return {
        "for_s": for_s,
        "within_s": within_s,
        "quorum": {bound.name: bound.config.quorum for bound in services},
        "targets": {
            str(target.key): counting(target.thresholds, target.interval_s, target.timeout_s)
            for target in targets
            if target.key.service in names
        },
    }
