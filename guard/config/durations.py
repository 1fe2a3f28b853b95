"""Durations as people write them: ``500ms``, ``30s``, ``5m``, ``1h``, ``1h30m``, ``14d``, or a number of seconds."""

from __future__ import annotations

import math
import re

EXPECTED = "a duration such as 500ms, 30s, 5m, 1h or a number of seconds"
LONGEST_S = 366 * 86400.0  # beyond a year a duration is a typing error, and date arithmetic would overflow some day

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_PARTS = re.compile(
    r"(?:(?P<d>[0-9]+(?:\.[0-9]+)?)d)?"
    r"(?:(?P<h>[0-9]+(?:\.[0-9]+)?)h)?(?:(?P<m>[0-9]+(?:\.[0-9]+)?)m(?!s))?"
    r"(?:(?P<s>[0-9]+(?:\.[0-9]+)?)s)?(?:(?P<ms>[0-9]+(?:\.[0-9]+)?)ms)?"
)
_UNIT_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_duration(value: object) -> float:
    """Seconds, finite, from 0 to a year. ValueError says what was expected; it does not repeat the value."""
    seconds = _seconds(value)
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"expected {EXPECTED}")
    if seconds > LONGEST_S:
        raise ValueError("expected a duration of at most a year (8784h)")
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    if not isinstance(value, str) or len(value) > 40 or not value.isascii():
        return None
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    parts = _PARTS.fullmatch(text)
    if parts is None or not text:
        return None
    return math.fsum(float(amount) * _UNIT_S[unit] for unit, amount in parts.groupdict().items() if amount)


def format_duration(seconds: float) -> str:
    """The short form that ``parse_duration`` reads back to the same seconds (to a millisecond)."""
    milliseconds = round(seconds * 1000)
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        amount, milliseconds = divmod(milliseconds, size)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"
