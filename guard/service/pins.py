"""Pins that rollbacks left in Compose projects: where one is in force, a deploy does not change what runs."""

from __future__ import annotations

from collections.abc import Mapping

from guard.model import HostFacts


def told(service: str, facts: Mapping[str, HostFacts]) -> tuple[str, ...]:
    """One sentence per rollback that what runs now still goes back to."""
    hosts: dict[str, list[str]] = {}
    for name, seen in sorted(facts.items()):
        if seen.running is not None and seen.running.pin:
            hosts.setdefault(seen.running.pin, []).append(name)
    return tuple(
        f"no deploy has changed {service} on {', '.join(names)} since rollback {rollback} restored it there and pinned "
        "it in its Compose project; `guard snapshot`, before a deploy, takes that pin out"
        for rollback, names in sorted(hosts.items())
    )
