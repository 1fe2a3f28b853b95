"""From targets to a service: its state, and whether enough of its targets have failed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from guard.decide.thresholds import TargetStatus
from guard.model import State, TargetKey

_WORST_FIRST = (State.UNHEALTHY, State.UNKNOWN, State.DEGRADED, State.HEALTHY)


def state_of(states: Collection[State]) -> State:
    """The worst: unhealthy, then unknown, then degraded. Nothing measured is unknown."""
    return next((state for state in _WORST_FIRST if state in states), State.UNKNOWN)


def needed(quorum: str | int, total: int) -> int:
    """How many of ``total`` targets must have crossed: ``any`` is 1, ``"50%"`` is rounded up, never less than 1."""
    if isinstance(quorum, int):
        return max(1, min(quorum, total))
    if quorum == "any":
        return 1
    return max(1, math.ceil(total * float(quorum.removesuffix("%")) / 100))


def has_failed(statuses: Mapping[TargetKey, TargetStatus], quorum: str | int) -> bool:
    """Whether the service crossed: enough targets with a full row of failures each."""
    crossed = sum(status.crossed for status in statuses.values())
    return bool(statuses) and crossed >= needed(quorum, len(statuses))


def failing_hosts(statuses: Mapping[TargetKey, TargetStatus]) -> frozenset[str]:
    """Hosts with a crossed target of their own. Empty when only checks without a host crossed."""
    return frozenset(key.host for key, status in statuses.items() if status.crossed and key.host)


def crossed_reason(statuses: Mapping[TargetKey, TargetStatus]) -> str:
    """Why the service failed, in one line; hosts that say the same are named together."""
    told: dict[tuple[str, str, int, str], list[str]] = {}
    for key, status in sorted(statuses.items()):
        if status.crossed:
            last = status.last.reason if status.last is not None else "no reason was given"
            told.setdefault((key.service, key.check, status.failures, last), []).append(key.host)
    parts = [
        f"{service}/{check}{_on(hosts)}: {failures} failures in a row, last: {last}"
        for (service, check, failures, last), hosts in told.items()
    ]
    more = f" (and {len(parts) - 3} more)" if len(parts) > 3 else ""
    return "; ".join(parts[:3]) + more


def _on(hosts: list[str]) -> str:
    named = [host for host in hosts if host]
    if not named:
        return ""
    return (
        f"@{named[0]}"
        if len(named) == 1
        else f" on {len(named)} hosts ({', '.join(named[:3])}{', ...' if len(named) > 3 else ''})"
    )
