"""Maintenance windows that come again: is one open at a moment, and which is the next? Pure: time is an argument.

A window is written in local time, so it keeps its hours when clocks change:
- a time that clocks skip in spring counts as if they had not been put forward yet;
- of a time that comes twice in autumn a window begins at the first and ends at the second.

Invariant (hypothesis, ``tests/unit/decide/test_windows.py``): a window that is open now began at most 25 hours ago on a
day of its own, and ends later than now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LOOK_AHEAD = 8  # days: every window comes within a week


@dataclass(frozen=True, slots=True)
class Window:
    """``days``: those on which it begins, Monday is 0. An end that is not after the begin is on the next day."""

    days: frozenset[int]
    begins: time
    ends: time
    zone: tzinfo
    reason: str


@dataclass(frozen=True, slots=True)
class Opening:
    """One time at which a window is open, both ends in UTC. At ``until`` itself it is closed."""

    window: Window
    begins: datetime
    until: datetime


def open_at(windows: Sequence[Window], now: datetime) -> Opening | None:
    """The opening that ``now`` is in; of several the one that ends last."""
    found = [one for window in windows for one in _around(window, now, 1) if one.begins <= now < one.until]
    return max(found, key=lambda one: one.until, default=None)


def next_after(windows: Sequence[Window], now: datetime) -> Opening | None:
    """The opening that begins next, later than ``now``."""
    found = [one for window in windows for one in _around(window, now, _LOOK_AHEAD) if one.begins > now]
    return min(found, key=lambda one: one.begins, default=None)


def _around(window: Window, now: datetime, ahead: int) -> Iterator[Opening]:
    """Openings that begin from two days before to ``ahead`` days after today's date over there."""
    today = now.astimezone(window.zone).date()
    for offset in range(-2, ahead + 1):
        day = today + timedelta(days=offset)
        if day.weekday() in window.days:
            yield _on(window, day)


def _on(window: Window, day: date) -> Opening:
    last = day if window.ends > window.begins else day + timedelta(days=1)
    begins = datetime.combine(day, window.begins, window.zone).astimezone(UTC)
    ends = datetime.combine(last, window.ends, window.zone)
    until = max(ends.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    return Opening(window, begins, max(begins, until))
