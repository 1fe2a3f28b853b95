"""Events as lines: plain ones that never repeat themselves, or one JSON object each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import click

from guard.model import State, TargetKey
from guard.report.documents import host_document, observation_document, rollback_document
from guard.report.text import host_rows, observation_line, rollback_text
from guard.service.events import Event, Kind

HEARTBEAT_S = 30.0


class TextLines:
    """One line per change of a target, one per failure that counts, everything that is done about it, and a
    heartbeat when nothing else was said for 30 s."""

    def __init__(self, echo: Callable[[str], None] = click.echo) -> None:
        self._echo = echo
        self._states: dict[TargetKey, State] = {}
        self._said_at = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event.kind:
            case Kind.OBSERVATION:
                self._observation(event)
            case Kind.WARNING | Kind.THRESHOLD:
                pass  # the line of the observation has just shown the count
            case Kind.RECOVERED if event.observation is not None:
                self._say(f"recovered: {event.observation.target}")
            case Kind.HOST if event.host is not None:
                self._say("  " + "  ".join(host_rows({event.host.host: event.host})[0]))
            case Kind.ROLLBACK if event.rollback is not None:
                self._say("\n".join(rollback_text(event.rollback)))
            case kind:
                self._say(f"{kind.value.replace('_', ' ')}: {event.service}: {event.text}")

    def _observation(self, event: Event) -> None:
        observation = event.observation
        if observation is None:
            return
        changed = self._states.get(observation.target) is not observation.state
        self._states[observation.target] = observation.state
        if changed or 0 < event.failures <= event.threshold:
            self._say(observation_line(observation, event.failures, event.threshold))
        elif time.monotonic() - self._said_at >= HEARTBEAT_S:
            good = sum(state is State.HEALTHY for state in self._states.values())
            self._say(f"still watching: {good} of {len(self._states)} targets healthy")

    def _say(self, line: str) -> None:
        self._echo(line)
        self._said_at = time.monotonic()


class JsonLines:
    """One JSON object per line and event."""

    def __call__(self, event: Event) -> None:
        document: dict[str, object] = {"event": event.kind.value, "service": event.service, "text": event.text}
        if event.observation is not None:
            key = event.observation.target
            document |= {
                "check": key.check,
                "host": key.host or None,
                "consecutive_failures": event.failures,
                "failure_threshold": event.threshold,
                "observation": observation_document(event.observation),
            }
        if event.host is not None:
            document |= {"host": event.host.host, "result": host_document(event.host)}
        if event.rollback is not None:
            document["rollback"] = rollback_document(event.rollback)
        click.echo(json.dumps(document))
