"""The postgres check in a configuration: what is read, and what is refused with its line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guard.config.checks import PostgresCheck
from guard.config.schema import GuardConfig
from guard.errors import ConfigError

Read = Callable[..., GuardConfig]


def file(check: str) -> str:
    return f"services:\n  - name: db\n    checks:\n      - {{type: postgres, dsn: 'host=db', {check}}}\n"


@pytest.mark.parametrize(
    ("check", "key", "message"),
    [
        ("expect: {a: 1}", "expect", "one for each column, got"),
        ("expect: []", "expect", "got an empty list"),
        ("expect: [[1]]", "expect", "got a list"),
        ("expect: ['{{ x }}']", "expect", "not replaced here"),
        ("role: master", "role", 'expected primary or replica, got "master"'),
        ("max_lag: 0s", "max_lag", "longer than zero"),
        ("role: primary, max_lag: 5s", "max_lag", "a primary has no lag"),
        ("degraded_above: 2s, unhealthy_above: 1s", "unhealthy_above", "must be longer than degraded_above (2 s)"),
        ("max_lags: 5s", "max_lags", "unknown key; did you mean max_lag?"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_key(read: Read, check: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(file(check))
    [line] = str(raised.value).splitlines()
    assert f":4: services[0].checks[0].{key}: " in line
    assert message in line


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("'1'", "1"), ("true", True), ("1.5", 1.5), ("[1, up, null, true]", (1, "up", None, True))],
)
def test_an_expected_value_keeps_its_kind(read: Read, text: str, value: object) -> None:
    [check] = read(file(f"expect: {text}, role: replica, max_lag: 5s")).services[0].checks
    assert isinstance(check, PostgresCheck)
    assert (check.expect, type(check.expect)) == (value, type(value))
    assert (check.role, check.max_lag) == ("replica", 5.0)
