"""Can each host be rolled back right now, and to what? Found out without changing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from guard.decide.target import Wish, choose, rejected_ids
from guard.errors import EngineError
from guard.model import Host, HostFacts, HostMeans, HostPlan, Image, Release, ReleaseState
from guard.ports import Engine
from guard.service import pins
from guard.service.ledger import on_record
from guard.service.look import look
from guard.service.session import Bound, Session

PYTHON = (3, 8)
ENOUGH_BYTES = 64 << 20  # for a container and its log, where the image is there already


@dataclass(frozen=True, slots=True)
class HostReadiness:
    """``notes`` do not stand in the way: what could not be found out, or what would make it unready later."""

    host: str
    ready: bool
    to: Image | None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what people must know before they deploy; no reason against a rollback


async def readiness(session: Session, bound: Bound) -> dict[str, HostReadiness]:
    """Per host: the image a rollback would restore, and everything that stands in its way.

    Where the newest good release on record is what runs now (just snapshotted, the deploy is still to come), that
    release is what a rollback after the deploy would restore.
    """
    releases = await asyncio.to_thread(session.store.releases, bound.name)
    facts = await look(session, bound, releases)
    releases = on_record(bound, releases, facts)
    fallback = bound.config.rollback.fallback
    hosts = [host for host in bound.hosts if host.name in facts]
    found = (_host(session, bound, host, facts[host.name], releases, fallback) for host in hosts)
    return {host.host: host for host in await asyncio.gather(*found)}


async def _host(
    session: Session, bound: Bound, host: Host, facts: HostFacts, releases: Sequence[Release], fallback: str
) -> HostReadiness:
    to = _recorded_now(facts, releases)
    if to is None:
        plan = choose(facts, releases, Wish(fallback=fallback))
        if plan.to is None:
            return HostReadiness(facts.host, False, None, (plan.problem,))
        to = plan.to
    engine = session.engines.on(bound.engine_host(host))
    told = _Told(notes=list(pins.told(bound.name, {host.name: facts})))
    if not bound.swarm:  # whose nodes fetch images by themselves
        await _ask_for_image(engine, facts, to, told)
    await _ask_for_means(engine, facts, to, told)
    if facts.running is not None and facts.running.image.image_id in rejected_ids(releases):
        told.notes.append(f"what runs now, {facts.running.image.image}, was rejected before")
    return HostReadiness(facts.host, not told.problems, to, tuple(told.problems), tuple(told.notes))


@dataclass(slots=True)
class _Told:
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def _ask_for_image(engine: Engine, facts: HostFacts, to: Image, told: _Told) -> None:
    if not _is_local(facts, to):
        problem = await engine.pull_problem(to.digest or "")
        if problem is None:
            told.notes.append(f"{to.image} is not on the host, and this engine cannot ask its registry beforehand")
        elif problem:
            told.problems.append(f"{to.image} is not on the host any more: {problem}")
    elif to.digest is None:
        told.notes.append(
            f"{to.image} is in no registry: `docker image prune -a` takes it for good once it does not run"
        )


async def _ask_for_means(engine: Engine, facts: HostFacts, to: Image, told: _Told) -> None:
    try:
        means = await engine.means()
    except (EngineError, TimeoutError):
        means = HostMeans()
    local = _is_local(facts, to)
    sizes = [ENOUGH_BYTES] if local else [ENOUGH_BYTES, *(image.size_bytes for image in facts.images)]
    if means.free_bytes is None:
        told.notes.append("free disk space: unknown")
    elif means.free_bytes < max(sizes):
        what = "a container" if local else "the image, going by others of its repository"
        told.problems.append(f"{means.free_bytes >> 20} MiB are free for the engine, too little for {what}")
    if means.python is not None and means.python < PYTHON:
        has = "no Python" if means.python == (0, 0) else f"Python {means.python[0]}.{means.python[1]}"
        told.problems.append(f"{has} on the host, where the playbook needs {PYTHON[0]}.{PYTHON[1]}")


async def with_pullable(
    session: Session, bound: Bound, facts: Mapping[str, HostFacts], plans: Mapping[str, HostPlan]
) -> dict[str, HostPlan]:
    """The plans, without targets that would have to be pulled and cannot be: known before anything is touched."""
    if bound.swarm:
        return dict(plans)  # its nodes may have the image each

    async def asked(host: Host) -> HostPlan:
        plan = plans[host.name]
        if plan.to is None or _is_local(facts[host.name], plan.to):
            return plan
        problem = await session.engines.on(bound.engine_host(host)).pull_problem(plan.to.digest or "")
        return replace(plan, to=None, problem=f"{plan.to.image} is not on the host: {problem}") if problem else plan

    asking = [host for host in bound.hosts if host.name in plans]
    return {**plans, **{plan.host: plan for plan in await asyncio.gather(*(asked(host) for host in asking))}}


def _is_local(facts: HostFacts, image: Image) -> bool:
    runs = facts.running is not None and facts.running.image.image_id == image.image_id
    return runs or any(candidate.image_id == image.image_id for candidate in facts.images)


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
    return [f"  NOTE  {name}: {notice}" for name, host in sorted(hosts.items()) for notice in host.notes]


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
                    "notes": list(host.notes),
                }
                for name, host in sorted(hosts.items())
            },
        }

    merged = {name: host for hosts in services.values() for name, host in hosts.items()}
    if len(services) == 1:
        return of(merged)
    each = {name: of(hosts) for name, hosts in services.items()}
    return {**of(merged), "ready": all(bool(one["ready"]) for one in each.values()), "services": each}
