"""From targets to a service: its state, and whether enough of its targets have failed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from guard.decide.thresholds import TargetStatus
from guard.model import State, TargetKey

OF_HOSTS = " hosts"
"""What a quorum of hosts ends with: ``"2 hosts"``, ``"50% hosts"``. Any other counts targets."""

_WORST_FIRST = (State.UNHEALTHY, State.UNKNOWN, State.DEGRADED, State.HEALTHY)


def state_of(states: Collection[State]) -> State:
    """The worst: unhealthy, then unknown, then degraded. Nothing measured is unknown."""
    return next((state for state in _WORST_FIRST if state in states), State.UNKNOWN)


def needed(quorum: str | int, total: int) -> int:
    """How many of ``total`` must have crossed: ``any`` is 1, ``"50%"`` is rounded up, never less than 1."""
    if isinstance(quorum, int):
        return max(1, min(quorum, total))
    if quorum == "any":
        return 1
    share = quorum.removesuffix(OF_HOSTS)
    if not share.endswith("%"):
        return needed(int(share), total)
    return max(1, math.ceil(total * float(share.removesuffix("%")) / 100))


def reached(crossed: Collection[TargetKey], quorum: str | int, *, targets: int, hosts: int) -> bool:
    """Whether the crossed targets of a service, which has ``targets`` on ``hosts``, are enough.

    A quorum of hosts counts a host once, however many of its checks failed. A check without a host measures the service
    as a whole: there its failure is enough.
    """
    if not crossed:
        return False
    if isinstance(quorum, int) or not quorum.endswith(OF_HOSTS):
        return len(crossed) >= needed(quorum, targets)
    failed = {key.host for key in crossed}
    return "" in failed or len(failed) >= needed(quorum, hosts)


def has_failed(statuses: Mapping[TargetKey, TargetStatus], quorum: str | int) -> bool:
    """Whether the service crossed: enough of its targets, or hosts, crossed their threshold."""
    crossed = [key for key, status in statuses.items() if status.crossed]
    return reached(crossed, quorum, targets=len(statuses), hosts=len({key.host for key in statuses if key.host}))


def failing_hosts(statuses: Mapping[TargetKey, TargetStatus]) -> frozenset[str]:
    """Hosts with a crossed target of their own. Empty when only checks without a host crossed."""
    return frozenset(key.host for key, status in statuses.items() if status.crossed and key.host)


def crossed_reason(statuses: Mapping[TargetKey, TargetStatus], limits: Mapping[TargetKey, int] | None = None) -> str:
    """Why the service failed, in one line; hosts that say the same are named together.

    ``limits``: the failure threshold of each target; a row shorter than that did not cross, the flapping window did.
    """
    told: dict[tuple[str, str, str, str], list[str]] = {}
    for key, status in sorted(statuses.items()):
        if status.crossed:
            last = status.last.reason if status.last is not None else "no reason was given"
            rule = _rule(status, (limits or {}).get(key, 1))
            told.setdefault((key.service, key.check, rule, last), []).append(key.host)
    parts = [
        f"{service}/{check}{_on(hosts)}: {rule}, last: {last}" for (service, check, rule, last), hosts in told.items()
    ]
    more = f" (and {len(parts) - 3} more)" if len(parts) > 3 else ""
    return "; ".join(parts[:3]) + more


def _rule(status: TargetStatus, limit: int) -> str:
    """By which rule a crossed target has failed, as it stands now."""
    if status.failures >= limit:
        return f"{status.failures} failures in a row"
    lately = status.failed_recently
    if lately > status.failures:
        return f"flapping, {lately} of its last {len(status.recent)} checks failed"
    return "failed before and not recovered yet"


def _on(hosts: list[str]) -> str:
    named = [host for host in hosts if host]
    if not named:
        return ""
    return (
        f"@{named[0]}"
        if len(named) == 1
        else f" on {len(named)} hosts ({', '.join(named[:3])}{', ...' if len(named) > 3 else ''})"
    )
