"""The live view: what everything stands at, what comes next, at 80 columns, without colour and without Unicode."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from guard.cli.live import MOST_TARGETS, Standing, live, render
from guard.model import Observation, State, TargetKey
from guard.service.events import Event, Kind

AT = datetime(2026, 11, 24, 10, tzinfo=UTC)


def seen(host: str, state: State, failures: int = 0, reason: str = "status 500, expected 200") -> Event:
    observation = Observation(TargetKey("web", "http", host), state, 0.012, reason, AT)
    return Event(Kind.OBSERVATION, "web", reason, observation, failures, 3)


def shown(standing: Standing, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False).print(render(standing))
    return [line.rstrip() for line in out.getvalue().splitlines()]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_healthy_gate_counts_down_and_a_failure_starts_the_time_again() -> None:
    clock = Clock()
    standing = Standing(60.0, clock)
    standing.take(seen("web1", State.HEALTHY))
    clock.now += 20
    assert standing.next_step() == "good in 40 s if all stays healthy"
    standing.take(seen("web1", State.UNHEALTHY, 1))
    assert standing.next_step() == "web/http@web1 crosses its threshold after 2 more failures"
    standing.take(seen("web1", State.HEALTHY))
    assert standing.next_step() == "good in 60 s if all stays healthy"
    clock.now += 61
    assert standing.next_step() == "one more round, then it is decided"


@pytest.mark.parametrize(
    ("kinds", "next_step"),
    [
        ((Kind.ARMED,), "web: a rollback is prepared, and waits for the threshold"),
        ((Kind.ARMED, Kind.DISARMED), "watching 0 targets"),
        ((Kind.ROLLBACK_STARTED,), "web: rolling back"),
        ((Kind.ROLLBACK_STARTED, Kind.VERIFYING), "web: verifying what was restored"),
        ((Kind.ROLLBACK_STARTED, Kind.ROLLBACK), "watching 0 targets"),
    ],
)
def test_what_guard_does_is_what_comes_next(kinds: tuple[Kind, ...], next_step: str) -> None:
    standing = Standing(None)
    for kind in kinds:
        standing.take(Event(kind, "web", ""))
    assert standing.next_step() == next_step


def test_of_many_targets_those_that_fail_are_shown_first_in_80_columns_of_ascii() -> None:
    standing = Standing(None)
    for number in range(100):
        standing.take(seen(f"host-with-a-long-name-{number:02}.example.net", State.HEALTHY))
    standing.take(seen("host-with-a-long-name-77.example.net", State.UNHEALTHY, 2, "x" * 300))
    lines = shown(standing)
    assert "host-with-a-long-name-77" in lines[1] and "unhealthy" in lines[1]
    assert f"and {100 - MOST_TARGETS} more targets" in lines
    assert all(len(line) <= 80 and line.isascii() for line in lines)


def test_lines_stay_and_the_view_below_them_goes() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None, legacy_windows=False)
    with live(console, Standing(5.0)) as tell:
        tell(seen("web1", State.UNHEALTHY, 1))
    text = out.getvalue()
    assert "status 500, expected 200" in text
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[1A\x1b[2K" in text, "the view is taken away at the end"
