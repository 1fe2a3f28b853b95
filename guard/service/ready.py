"""Can each host be rolled back right now, and to what? Found out without changing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from guard.decide.target import Wish, choose, rejected_ids
from guard.model import HostFacts, Image, Release, ReleaseState
from guard.service import pins
from guard.service.ledger import on_record
from guard.service.look import look
from guard.service.session import Bound, Session


@dataclass(frozen=True, slots=True)
class HostReadiness:
    host: str
    ready: bool
    to: Image | None
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()  # what people must know before they deploy; no reason against a rollback


async def readiness(session: Session, bound: Bound) -> dict[str, HostReadiness]:
    """Per host: the image a rollback would restore, and everything that stands in its way.

    Where the newest good release on record is what runs now (just snapshotted, the deploy is still to come), that
    release is what a rollback after the deploy would restore.
    """
    releases = await asyncio.to_thread(session.store.releases, bound.name)
    facts = await look(session, bound, releases)
    releases = on_record(bound, releases, facts)
    fallback = bound.config.rollback.fallback
    return {
        name: replace(_host(seen, releases, fallback), notices=pins.told(bound.name, {name: seen}))
        for name, seen in facts.items()
    }


def _host(facts: HostFacts, releases: Sequence[Release], fallback: str) -> HostReadiness:
    recorded = _recorded_now(facts, releases)
    if recorded is not None:
        return HostReadiness(facts.host, True, recorded)
    plan = choose(facts, releases, Wish(fallback=fallback))
    if plan.to is None:
        return HostReadiness(facts.host, False, None, (plan.problem,))
    return HostReadiness(facts.host, True, plan.to)


def _recorded_now(facts: HostFacts, releases: Sequence[Release]) -> Image | None:
    if facts.problem or facts.running is None or facts.running.image.image_id in rejected_ids(releases):
        return None
    newest = next((r for r in releases if facts.host in r.hosts), None)
    if newest is None or not (newest.healthy or newest.state is ReleaseState.GOOD):
        return None
    image = newest.hosts[facts.host]
    return image if image.image_id == facts.running.image.image_id else None


def notes(hosts: Mapping[str, HostReadiness]) -> list[str]:
    """The notices as lines for people."""
    return [f"  NOTE  {name}: {notice}" for name, host in sorted(hosts.items()) for notice in host.notices]


def document(services: Mapping[str, Mapping[str, HostReadiness]]) -> dict[str, object]:
    """One service: CONTRACT's ``ready`` document. Several: the same per service under ``services``, too."""
    from guard.report.documents import image_document

    def of(hosts: Mapping[str, HostReadiness]) -> dict[str, object]:
        return {
            "ready": all(host.ready for host in hosts.values()),
            "hosts": {
                name: {
                    "ready": host.ready,
                    "to": image_document(host.to),
                    "problems": list(host.problems),
                    "notices": list(host.notices),
                }
                for name, host in sorted(hosts.items())
            },
        }

    merged = {name: host for hosts in services.values() for name, host in hosts.items()}
    if len(services) == 1:
        return of(merged)
    each = {name: of(hosts) for name, hosts in services.items()}
    return {**of(merged), "ready": all(bool(one["ready"]) for one in each.values()), "services": each}
