from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.config.durations import LONGEST_S, format_duration, parse_duration


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("14d", 1209600.0),
        ("1d12h", 129600.0),
        ("1m500ms", 60.5),
        ("1.5s", 1.5),
        ("30", 30.0),
        (30, 30.0),
        (0.25, 0.25),
        (0, 0.0),
        (" 5m ", 300.0),
    ],
)
def test_a_duration_is_read_as_seconds(given_: object, seconds: float) -> None:
    assert parse_duration(given_) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given_",
    [
        *("", " ", "fast", "5x", "-5s", "1e3", "5 m", "m", "30m1h", "5m5m", "٣s", "1_000", "nan", "inf", "0x10", "5M"),
        *("30s\n1s", "9" * 400, "9" * 30 + "h", -1, 10**400, True, None, [], {}, float("nan"), float("inf")),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(given_: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(given_)


@given(st.text())
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= LONGEST_S


@given(st.integers(min_value=0, max_value=int(LONGEST_S * 1000)))
def test_what_is_written_reads_back_the_same(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds
