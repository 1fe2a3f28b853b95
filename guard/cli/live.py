"""The live view of a terminal: the lines of ``TextLines`` scroll above, how everything stands is below them.

Elsewhere (a pipe, a file, CI) there are the lines alone. Works at 80 columns, without colour and without Unicode.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from guard.cli.lines import TextLines
from guard.model import State, TargetKey
from guard.service.events import Event, Kind, Listener

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MOST_TARGETS = 12  # rows; of more targets those that are not healthy come first
NAME_WIDTH = 44  # of a target at most, so that 80 columns have room for what it said
_STYLES = {State.HEALTHY: "green", State.DEGRADED: "yellow", State.UNHEALTHY: "red", State.UNKNOWN: "dim"}
_DOING = {
    Kind.ARMED: "a rollback is prepared, and waits for the threshold",
    Kind.ROLLBACK_STARTED: "rolling back",
    Kind.REVERTING: "putting back what was restored",
    Kind.VERIFYING: "verifying what was restored",
}
_DONE = (Kind.DISARMED, Kind.ROLLBACK, Kind.HELD, Kind.NOT_CRITICAL)
_STATE_ORDER = {State.UNHEALTHY: 0, State.UNKNOWN: 1, State.DEGRADED: 2, State.HEALTHY: 3}


class Standing:
    """How everything stands, from the events alone. ``for_s``: how long a gate wants all of it healthy."""

    def __init__(self, for_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._for_s = for_s
        self._clock = clock
        self._since = clock()
        self._targets: dict[TargetKey, Event] = {}
        self._doing: dict[str, str] = {}

    def take(self, event: Event) -> None:
        seen = event.observation
        if event.kind is Kind.OBSERVATION and seen is not None:
            self._targets[seen.target] = event
            if seen.state is State.UNHEALTHY:
                self._since = self._clock()
        elif event.kind in _DOING:
            self._doing[event.service] = _DOING[event.kind]
        elif event.kind in _DONE:
            self._doing.pop(event.service, None)

    def next_step(self) -> str:
        """What happens next, in one line."""
        if self._doing:
            return "; ".join(f"{service}: {doing}" for service, doing in sorted(self._doing.items()))
        worst = max((e for e in self._targets.values() if e.failures), key=_nearness, default=None)
        if worst is not None and worst.observation is not None:
            left = max(worst.threshold - worst.failures, 0)
            return f"{worst.observation.target} crosses its threshold after {left} more failures"
        if self._for_s is None:
            return f"watching {len(self._targets)} targets"
        left_s = self._for_s - (self._clock() - self._since)
        return f"good in {left_s:.0f} s if all stays healthy" if left_s > 0 else "one more round, then it is decided"

    def rows(self) -> list[tuple[str, State, str]]:
        """(target, state, what to know of it), those that are not healthy first."""
        found = []
        for key, event in sorted(self._targets.items(), key=lambda pair: (_STATE_ORDER[_state(pair[1])], pair[0])):
            seen = event.observation
            if seen is None:
                continue
            took = f"{seen.latency_s * 1000:.0f} ms" if seen.latency_s is not None else ""
            bad = f"{event.failures} of {event.threshold}: {seen.reason}" if event.failures else seen.reason
            found.append((str(key), seen.state, took if seen.state is State.HEALTHY else bad))
        return found


def _state(event: Event) -> State:
    return event.observation.state if event.observation is not None else State.UNKNOWN


def _nearness(event: Event) -> int:
    return event.failures - event.threshold


def render(standing: Standing) -> RenderableType:
    """One line per target, cut off where the terminal ends; what comes next is the last."""
    from rich.console import Group
    from rich.text import Text

    def line(*parts: str | tuple[str, str]) -> Text:
        return Text.assemble(*parts, no_wrap=True, overflow="crop")

    rows = standing.rows()
    name_width = min(NAME_WIDTH, max((len(name) for name, _, _ in rows), default=0))
    shown = [
        line(f"{name[:name_width]:<{name_width}}  ", (f"{state.value:<9}", _STYLES[state]), f"  {told}")
        for name, state, told in rows[:MOST_TARGETS]
    ]
    more = len(rows) - MOST_TARGETS
    below = [line(f"and {more} more targets")] if more > 0 else []
    return Group(line(""), *shown, *below, line((standing.next_step(), "bold")))


@contextmanager
def lines(for_s: float | None = None, environ: Mapping[str, str] = os.environ) -> Iterator[Listener]:
    """The listener for people: with a live view below the lines on a terminal, the lines alone elsewhere."""
    if not sys.stdout.isatty() or environ.get("CI") or environ.get("TERM", "dumb") == "dumb":
        yield TextLines()
        return
    from rich.console import Console

    with live(Console(highlight=False), Standing(for_s)) as listener:
        yield listener


@contextmanager
def live(console: Console, standing: Standing) -> Iterator[Listener]:
    from rich.live import Live

    def echo(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    said = TextLines(echo)
    with Live(
        get_renderable=lambda: render(standing),
        console=console,
        refresh_per_second=4,
        transient=True,
        redirect_stderr=True,
    ):

        def tell(event: Event) -> None:
            standing.take(event)
            said(event)

        yield tell
