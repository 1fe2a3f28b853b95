"""``maintenance``: hours that come again, in which nothing is rolled back by itself."""

from __future__ import annotations

import re
from datetime import UTC, time
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from guard.config import fields
from guard.config.problems import suggestion
from guard.decide.windows import DAYS, Window

_CLOCK = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])", re.ASCII)


def _days(value: object) -> tuple[str, ...]:
    days = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not days or any(day not in DAYS for day in days):
        raise ValueError(f"expected a list of days: {', '.join(DAYS)}")
    if len(set(days)) != len(days):
        raise ValueError("a day is named twice")
    return tuple(str(day) for day in days)


def _clock(value: object) -> str:
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None or (found[1] == "24" and found[2] != "00"):
        raise ValueError("expected a time of day such as 02:00, from 00:00 to 24:00")
    return found[0]


def _zone(value: object) -> str:
    if isinstance(value, str) and (value == "UTC" or _known(value)):
        return value
    close = suggestion(value, sorted(available_timezones())) if isinstance(value, str) else ""
    raise ValueError(f"expected a time zone such as UTC or Europe/Berlin{f'; {close.strip()}' if close else ''}")


def _known(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of the database, such as Europe
        return False
    return True


_CLOCK_SCHEMA = {"type": "string", "pattern": "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"}
Days = Annotated[
    tuple[str, ...],
    BeforeValidator(_days),
    WithJsonSchema({"type": "array", "minItems": 1, "uniqueItems": True, "items": {"enum": list(DAYS)}}),
]
ClockTime = Annotated[str, BeforeValidator(_clock), WithJsonSchema(_CLOCK_SCHEMA)]
ZoneName = Annotated[str, BeforeValidator(_zone), WithJsonSchema({"type": "string", "minLength": 1})]


class MaintenanceConfig(BaseModel):
    """A maintenance window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Annotated[Days, Field(description="The days on which it begins. Default: every day.")] = DAYS
    begins: Annotated[ClockTime, Field(alias="from", description="When it begins, such as 02:00.")]
    ends: Annotated[
        ClockTime, Field(alias="to", description="When it ends; a time that is not after `from` is on the next day.")
    ]
    timezone: Annotated[ZoneName, Field(description="Whose clock: UTC, or a name such as Europe/Berlin.")] = "UTC"
    reason: Annotated[fields.PlainText, Field(description="Why; shown wherever it stops a rollback.", min_length=1)]

    @property
    def window(self) -> Window:
        days = frozenset(DAYS.index(day) for day in self.days)
        zone = UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)  # UTC needs no time zone database
        return Window(days, _time(self.begins), _time(self.ends), zone, self.reason)


def _time(text: str) -> time:
    hours, minutes = text.split(":")
    return time(int(hours) % 24, int(minutes))
