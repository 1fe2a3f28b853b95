"""Maintenance windows in the configuration: what is read, and what is an error with its line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, time
from zoneinfo import ZoneInfo

import pytest

from guard.config.schema import GuardConfig
from guard.decide.windows import Window
from guard.errors import ConfigError

Read = Callable[..., GuardConfig]
SERVICE = """\
services:
  - name: web
    checks: [{type: docker}]
"""


def test_windows_for_all_services_come_before_the_services_own(read: Read) -> None:
    own = '    maintenance: [{days: [sat, sun], from: 22:00, to: "24:00", timezone: Europe/Berlin, reason: backup}]\n'
    config = read(f"maintenance: [{{from: 01:00, to: 02:30, reason: all}}]\n{SERVICE}{own}")
    assert config.service("web").windows == (
        Window(frozenset(range(7)), time(1), time(2, 30), UTC, "all"),
        Window(frozenset({5, 6}), time(22), time(0), ZoneInfo("Europe/Berlin"), "backup"),
    )


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ("{from: 1:00, to: 02:00, reason: x}", "maintenance[0].from: expected a time of day such as 02:00"),
        ("{from: 24:30, to: 02:00, reason: x}", "maintenance[0].from: expected a time of day"),
        ("{from: 01:00, to: 25:00, reason: x}", "maintenance[0].to: expected a time of day"),
        ("{from: 01:00, reason: x}", "maintenance[0].to: missing: it has no default"),
        ("{from: 01:00, to: 02:00}", "maintenance[0].reason: missing"),
        (
            "{from: 01:00, to: 02:00, reason: x, days: [sunday]}",
            "maintenance[0].days: expected a list of days: mon, tue",
        ),
        ("{from: 01:00, to: 02:00, reason: x, days: []}", "maintenance[0].days: expected a list of days"),
        ("{from: 01:00, to: 02:00, reason: x, days: [sat, sat]}", "a day is named twice"),
        ("{from: 01:00, to: 02:00, reason: x, timezone: Europe/Berln}", "did you mean Europe/Berlin?"),
        ("{from: 01:00, to: 02:00, reason: x, timezone: Europe}", "expected a time zone such as UTC"),
        ("{from: 01:00, to: 02:00, reason: x, timezone: ../../etc/passwd}", "expected a time zone such as UTC"),
        ("{from: 01:00, until: 02:00, reason: x}", "Known keys here: days, from, to, timezone, reason"),
    ],
)
def test_what_is_wrong_with_a_window_is_said_with_its_line(read: Read, window: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(f"{SERVICE}maintenance:\n  - {window}\n")
    assert said in str(error.value)
    assert "guard.yml:5:" in str(error.value)
