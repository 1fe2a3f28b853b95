"""What a person who watches wants to see, as it happens. Told synchronously; a listener must be quick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from guard.model import HostResult, Observation, Rollback


class Kind(StrEnum):
    OBSERVATION = "observation"
    WARNING = "warning"  # a target reached its warning threshold
    THRESHOLD = "threshold"  # a target reached its failure threshold
    RECOVERED = "recovered"
    ARMED = "armed"  # a rollback is prepared on the hosts, and only the word is missing
    DISARMED = "disarmed"  # what was prepared is taken back: nothing was changed
    NOT_CRITICAL = "not_critical"  # a service failed that is never rolled back by itself
    ROLLBACK_STARTED = "rollback_started"
    HOST = "host"  # one host of a rollback ended
    REVERTING = "reverting"  # a host failed, and what was restored is put back
    VERIFYING = "verifying"
    ROLLBACK = "rollback"  # a rollback ended
    HELD = "held"  # nothing was done, because another guard is at it or the means are missing
    RELEASE = "release"  # the running image changed, or one came back that was rejected


@dataclass(frozen=True, slots=True)
class Event:
    kind: Kind
    service: str
    text: str
    observation: Observation | None = None
    failures: int = 0  # in a row, after this observation
    threshold: int = 0  # failures in a row that cross
    host: HostResult | None = None
    rollback: Rollback | None = None


Listener = Callable[[Event], None]


def nobody(event: Event) -> None:
    """A listener that does not listen."""
