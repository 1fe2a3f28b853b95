"""What a file says about counting: taken from the check, else the defaults, and fitted together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guard.config.load import with_overrides
from guard.config.schema import GuardConfig
from guard.decide.thresholds import Thresholds
from guard.errors import ConfigError

Read = Callable[..., GuardConfig]


def file(check: str = "", defaults: str = "", service: str = "") -> str:
    """Defaults stand in line 1, a service's key in line 4, its only check in line 6."""
    return (
        f"defaults: {{{defaults}}}\nservices:\n  - name: web\n    {service or 'critical: true'}\n    checks:\n"
        f"      - {{type: docker{check and ', ' + check}}}\n"
    )


@pytest.mark.parametrize(
    ("check", "defaults", "thresholds"),
    [
        ("", "", Thresholds()),
        ("flapping: {}", "", Thresholds(window=10, flaps=5)),
        ("flapping: {window: 6, failures: 4}", "", Thresholds(window=6, flaps=4)),
        ("", "flapping: {window: 6, failures: 4}", Thresholds(window=6, flaps=4)),
        ("flapping: none", "flapping: {}", Thresholds()),
        ("failure_threshold: 7", "flapping: {}", Thresholds(failure=7, window=10, flaps=7)),  # raised, not refused
        ("failure_threshold: 12", "flapping: {}", Thresholds(failure=12, window=12, flaps=12)),
    ],
)
def test_the_flapping_window_comes_from_the_check_or_the_defaults(
    read: Read, check: str, defaults: str, thresholds: Thresholds
) -> None:
    assert read(file(check, defaults)).services[0].checks[0].thresholds == thresholds


@pytest.mark.parametrize(
    ("check", "defaults", "seconds"),
    [
        ("", "", None),
        ("confirm_interval: 2s", "", 2.0),
        ("", "confirm_interval: 2s", 2.0),
        ("interval: 1s", "confirm_interval: 2s", 1.0),  # never slower than the check itself
        ("confirm_interval: 500ms", "confirm_interval: 2s", 0.5),
    ],
)
def test_a_failure_is_confirmed_at_the_checks_pace_unless_told_otherwise(
    read: Read, check: str, defaults: str, seconds: float | None
) -> None:
    assert read(file(check, defaults)).services[0].checks[0].confirm_s == seconds


def test_an_interval_of_the_command_line_keeps_confirmation_below_it(read: Read) -> None:
    config = with_overrides(read(file("confirm_interval: 5s")), interval=1.0, failure_threshold=9)
    assert config.services[0].checks[0].confirm_s == 1.0


def test_delay_and_meaning_of_degraded_can_be_given_for_all_or_one(read: Read) -> None:
    [check] = read(file("degraded_as: unhealthy", "initial_delay: 1m, degraded_as: healthy")).services[0].checks
    assert (check.initial_delay, check.degraded_as) == (60.0, "unhealthy")


@pytest.mark.parametrize(
    ("written", "quorum"),
    [("2 hosts", "2 hosts"), ("1 host", "1 hosts"), ("50% of hosts", "50% hosts"), ("2", 2), ("any", "any")],
)
def test_a_quorum_may_count_hosts(read: Read, written: str, quorum: str | int) -> None:
    assert read(file(service=f"quorum: {written}")).services[0].quorum == quorum


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        (file("flapping: 3"), 6, "services[0].checks[0].flapping", "expected a mapping"),
        (file("flapping: {windw: 3}"), 6, "services[0].checks[0].flapping.windw", "did you mean window?"),
        (file("flapping: {window: 1}"), 6, "services[0].checks[0].flapping.window", "from 2 to 100"),
        (file("flapping: {failures: 11}"), 6, "services[0].checks[0].flapping.failures", "at most window (10)"),
        (file("flapping: {failures: 2}"), 6, "services[0].checks[0].flapping", "at least failure_threshold (3)"),
        (file("", "flapping: {failures: 2}"), 1, "defaults.flapping", "at least failure_threshold (3)"),
        (file("", "flapping: {window: 3}"), 1, "defaults.flapping", "at most window (3)"),
        (file("confirm_interval: 31s"), 6, "services[0].checks[0].confirm_interval", "at most interval (30s)"),
        (file("", "confirm_interval: 1m"), 1, "defaults.confirm_interval", "at most interval (30s)"),
        (file("confirm_interval: 0"), 6, "services[0].checks[0].confirm_interval", "longer than zero"),
        (file("initial_delay: soon"), 6, "services[0].checks[0].initial_delay", "a duration such as"),
        (file("degraded_as: bad"), 6, "services[0].checks[0].degraded_as", "expected degraded, unhealthy or healthy"),
        (file(service="quorum: 0 hosts"), 4, "services[0].quorum", "2 hosts"),
        (file(service="quorum: 101% of hosts"), 4, "services[0].quorum", "50% of hosts"),
    ],
)
def test_what_contradicts_itself_in_one_place_is_refused_there(
    read: Read, text: str, line: int, key: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert f":{line}: {key}" in caught.value.message
    assert words in caught.value.message
