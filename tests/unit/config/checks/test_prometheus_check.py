"""The prometheus check in a configuration: what is read, and what is refused with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from guard.config.checks import PrometheusCheck
from guard.config.schema import GuardConfig
from guard.errors import ConfigError

Read = Callable[..., GuardConfig]
CHECK = "url: 'http://prom:9090', query: up"


def file(check: str, hosts: str = "") -> str:
    return f"services:\n  - name: web\n    {hosts}checks:\n      - {{type: prometheus, {check}}}\n"


@pytest.mark.parametrize(
    ("check", "key", "message"),
    [
        (CHECK, ".max", "expected max, min or both: without a limit no answer is a bad one"),
        (f"{CHECK}, min: 5, max: 4", ".max", "expected at least min (5), got 4"),
        (f"{CHECK}, max: low", ".max", 'expected a number, got "low"'),
        (f"{CHECK}, max: .nan", ".max", "expected a number"),
        (f"{CHECK}, max: true", ".max", "expected a number, got true"),
        (f"{CHECK}, maximum: 1, max: 1", ".maximum", "unknown key; did you mean max?"),
        ("url: 'http://prom:9090', max: 1", ".query", "missing: it has no default"),
        ("url: 'http://prom:9090', query: ' ', max: 1", ".query", "expected a PromQL query"),
        ("url: 'http://prom:9090', query: 'up > {{ x }}', max: 1", ".query", "must stand inside a string"),
        ("url: 'prom:9090', query: up, max: 1", ".url", "expected a URL"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_key(read: Read, check: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(file(check))
    [line] = str(raised.value).splitlines()
    assert ":4: services[0].checks[0]" + key in line
    assert message in line


def test_limits_may_come_from_the_environment_and_a_variable_makes_one_target_per_host(
    read: Read, tmp_path: Path
) -> None:
    hosts = "hosts: localhost\n    "
    config = read(
        file("url: 'http://prom:9090', query: 'up{i=\"{{ ansible_host }}\"}', max: '${MOST}'", hosts), MOST="0.5"
    )
    [check] = config.services[0].checks
    assert isinstance(check, PrometheusCheck)
    assert (check.min, check.max, check.per_host) == (None, 0.5, True)
