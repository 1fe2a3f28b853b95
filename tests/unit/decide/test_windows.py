"""Maintenance windows: hours that come again, also over midnight and when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.windows import DAYS, Window, next_after, open_at

BERLIN = ZoneInfo("Europe/Berlin")
EVERY_DAY = frozenset(range(7))


def window(days: str, begins: str, ends: str, zone: str = "Europe/Berlin") -> Window:
    numbers = frozenset(DAYS.index(day) for day in days.split()) if days else EVERY_DAY
    return Window(numbers, time.fromisoformat(begins), time.fromisoformat(ends), ZoneInfo(zone), "backup")


def local(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("days", "begins", "ends", "now", "is_open"),
    [
        ("sat", "02:00", "04:30", "2026-11-21 02:00", True),
        ("sat", "02:00", "04:30", "2026-11-21 04:29:59", True),
        ("sat", "02:00", "04:30", "2026-11-21 04:30", False),
        ("sat", "02:00", "04:30", "2026-11-21 01:59:59", False),
        ("sat", "02:00", "04:30", "2026-11-22 03:00", False),
        ("sat", "22:00", "02:00", "2026-11-21 23:00", True),
        ("sat", "22:00", "02:00", "2026-11-22 01:59", True),  # begun on Saturday
        ("sat", "22:00", "02:00", "2026-11-21 01:00", False),  # that would be Friday's
        ("sat", "22:00", "02:00", "2026-11-22 22:30", False),
        ("mon", "00:00", "00:00", "2026-11-23 23:59", True),  # the whole day
        ("mon", "00:00", "00:00", "2026-11-24 00:00", False),
        ("", "02:00", "02:30", "2026-03-29 03:15", True),  # clocks skip 02:00 to 03:00: it is half an hour all the same
        ("", "02:00", "02:30", "2026-03-29 03:30", False),
        ("", "01:00", "02:30", "2026-03-29 01:30", True),
        ("", "03:00", "04:00", "2026-03-29 03:00", True),
    ],
)
def test_a_window_is_open_in_its_hours(days: str, begins: str, ends: str, now: str, is_open: bool) -> None:
    assert (open_at([window(days, begins, ends)], local(now)) is not None) is is_open


@pytest.mark.parametrize(("fold", "now"), [(0, "2026-10-25 02:15"), (1, "2026-10-25 02:15"), (1, "2026-10-25 02:29")])
def test_an_hour_that_comes_twice_is_covered_twice(fold: int, now: str) -> None:
    opening = open_at([window("", "02:00", "02:30")], local(now, fold))
    assert opening is not None
    assert (opening.begins, opening.until) == (local("2026-10-25 02:00"), local("2026-10-25 02:30", 1))


def test_of_several_open_windows_the_one_that_ends_last_is_told() -> None:
    short, long = window("", "02:00", "03:00"), window("", "01:00", "05:00")
    opening = open_at([long, short], local("2026-11-21 02:30"))
    assert opening is not None
    assert opening.window is long


def test_the_next_opening_is_told_also_while_one_is_open() -> None:
    coming = next_after([window("sat", "02:00", "04:00")], local("2026-11-21 03:00"))
    assert coming is not None
    assert coming.begins == local("2026-11-28 02:00")
    assert next_after([], local("2026-11-21 03:00")) is None


TIMES = st.times().map(lambda at: at.replace(second=0, microsecond=0))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"])
WINDOWS = st.builds(
    lambda days, begins, ends, zone: Window(days, begins, ends, ZoneInfo(zone), "because"),
    st.frozensets(st.integers(0, 6), min_size=1),
    TIMES,
    TIMES,
    ZONES,
)
MOMENTS = st.datetimes(datetime(2011, 1, 3), datetime(2030, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


@given(WINDOWS, MOMENTS)
def test_what_is_open_began_on_one_of_its_days_and_ends_later_than_now(window: Window, now: datetime) -> None:
    opening = open_at([window], now)
    if opening is not None:
        assert opening.begins <= now < opening.until
        assert opening.until - opening.begins <= timedelta(hours=25)
        assert now - opening.begins <= timedelta(hours=25)


@given(WINDOWS, MOMENTS)
def test_the_next_opening_is_open_when_it_begins_and_nothing_begins_before_it(window: Window, now: datetime) -> None:
    coming = next_after([window], now)
    assert coming is not None
    begun = open_at([window], coming.begins)
    assert begun is not None or coming.begins == coming.until
    between = now + (coming.begins - now) / 2
    already = open_at([window], between)
    assert already is None or already.begins <= now
