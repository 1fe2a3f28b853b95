"""What failed before a release came is not blamed on it. Pure: times are arguments.

A target was failing before when it had failed its threshold while another release was still there, has not answered
well since, and fails in the same way now. Only guard's own clock counts: the ledger says when another release was
recorded, and a watch when it last saw one. What failed between that moment and the deploy is blamed on the deploy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from guard.model import Image, Observation, Release, State, TargetKey

ENOUGH = 5  # failures in a row that are proof, however high the threshold is
REACH = timedelta(hours=1)  # an observation that is older than this proves nothing about now
_AMOUNT = re.compile(r"\d+(\.\d+)? ?(ms|s|bytes)\b")


@dataclass(frozen=True, slots=True)
class Failing:
    """A target that has crossed now. ``since``: when its row of failures was first as long as the threshold."""

    target: TargetKey
    since: datetime
    then: str  # the reason at that time
    now: str


def last_of_another(
    images: Mapping[str, Image], releases: Sequence[Release], now: datetime, seen_at: datetime | None = None
) -> datetime | None:
    """When another release than these images (by host) was last known to run. None: never, as far as is known.

    ``seen_at``: when a watch last saw one. ``releases`` is the ledger, newest first. A time that is later than ``now``
    was written before the clock was set back: it proves nothing.
    """
    seen_at = seen_at if seen_at is not None and seen_at <= now else None
    for release in releases:
        if release.recorded_at > now:
            continue
        both = [host for host in images if host in release.hosts]
        if any(release.hosts[host].image_id != images[host].image_id for host in both):
            return max(release.recorded_at, seen_at or release.recorded_at)
    return seen_at


def failed_before(failing: Iterable[Failing], another: datetime | None) -> tuple[Failing, ...]:
    """Those that were failing in the same way at that time, when another release was there."""
    if another is None:
        return ()
    return tuple(one for one in failing if one.since <= another and same_way(one.then, one.now))


def same_way(one: str, other: str) -> bool:
    """Amounts of time and data differ from one measurement to the next; everything else in a reason counts."""
    return _AMOUNT.sub("#", one) == _AMOUNT.sub("#", other)


def baseline(
    observations: Iterable[Observation], thresholds: Mapping[TargetKey, int], now: datetime
) -> dict[TargetKey, Observation]:
    """From what was observed before, oldest first: targets that end in a full row of failures, with the observation
    that made it full."""
    rows: dict[TargetKey, list[Observation]] = {}
    for one in observations:
        if one.state is State.UNHEALTHY:
            rows.setdefault(one.target, []).append(one)
        elif one.state is State.HEALTHY:
            rows.pop(one.target, None)
    full = {}
    for target, row in rows.items():
        enough = min(thresholds.get(target, ENOUGH), ENOUGH)
        if len(row) >= enough and now - row[-1].at <= REACH:
            full[target] = row[enough - 1]
    return full
