"""The release ledger: what ran, what proved good, what was rejected."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from guard.decide.swarm import seen_from
from guard.decide.target import rejected_ids
from guard.model import (
    HostFacts,
    HostResult,
    HostState,
    Image,
    Release,
    ReleaseState,
    Rollback,
    RollbackOutcome,
    Trigger,
)
from guard.service.session import Bound, Session, new_id


def running_images(facts: Mapping[str, HostFacts]) -> dict[str, Image]:
    """What runs, by host; an image that nobody knows (a Swarm service that wants one which does not exist) runs not."""
    seen = {host: one.running.image for host, one in facts.items() if one.running is not None}
    return {host: image for host, image in seen.items() if image.image_id}


def on_record(bound: Bound, releases: tuple[Release, ...], facts: Mapping[str, HostFacts]) -> tuple[Release, ...]:
    """The service's releases as those of the hosts looked at: a Swarm service's are the present manager's."""
    return seen_from(releases, next(iter(facts))) if bound.swarm and facts else releases


def taken_back(facts: Mapping[str, HostFacts]) -> str:
    """What the swarm says when its engine has gone back from the last update by itself, or ""."""
    tasks = [one.running.tasks for one in facts.values() if one.running is not None]
    return next((one.message or one.update for one in tasks if one is not None and one.taken_back), "")


def newest_same(releases: tuple[Release, ...], images: Mapping[str, Image]) -> Release | None:
    """The newest entry, if it tells of exactly these images on these hosts."""
    if not releases or not images:
        return None
    ids = {host: image.image_id for host, image in images.items()}
    newest = releases[0]
    return newest if {host: image.image_id for host, image in newest.hosts.items()} == ids else None


async def record(
    session: Session,
    service: str,
    images: Mapping[str, Image],
    *,
    state: ReleaseState,
    origin: str,
    healthy: bool | None,
    reason: str = "",
    irreversible: bool = False,
) -> Release | None:
    """Enter what runs, unless the newest entry says it already; then only its state moves on. None: nothing runs."""
    if not images:
        return None
    releases = await asyncio.to_thread(session.store.releases, service)
    same = newest_same(releases, images)
    told = (origin, healthy, state, irreversible)
    if same is not None and (same.origin, same.healthy, same.state, same.irreversible) == told:
        return same
    if same is not None and origin != "snapshot":
        if state is not ReleaseState.CANDIDATE and same.state is not state:
            await asyncio.to_thread(session.store.set_release_state, same.id, state, reason)
        return same
    now = session.clock.now()
    release = Release(new_id("rel", now), service, state, origin, now, dict(images), healthy, reason, irreversible)
    await asyncio.to_thread(session.store.add_release, release)
    return release


async def called_out(session: Session, service: str, facts: Mapping[str, HostFacts]) -> tuple[str, ...]:
    """Names of running images that were rejected before: a later deploy of one is never silent."""
    releases = await asyncio.to_thread(session.store.releases, service)
    return rejected_among(releases, running_images(facts))


def rejected_among(releases: Sequence[Release], images: Mapping[str, Image]) -> tuple[str, ...]:
    rejected = rejected_ids(releases)
    return tuple(sorted({image.image for image in images.values() if image.image_id in rejected}))


async def settle(
    session: Session,
    bound: Bound,
    rollback: Rollback,
    results: Mapping[str, HostResult],
    outcome: RollbackOutcome,
    verified: bool,
    *,
    rejects: bool,
) -> None:
    """After a rollback: the bad release is rejected (``rejects``: it failed itself), the restored one is good when the
    checks held."""
    moved = {host: r for host, r in results.items() if r.from_ and r.to and r.from_.image_id != r.to.image_id}
    bad = {host: r.from_ for host, r in moved.items() if r.from_ is not None}
    if bad and rejects and await _may_reject(session, bound.name, rollback, bad):
        await _reject(session, bound.name, bad, f"rolled back by {rollback.id}: {rollback.reason}"[:500])
    restored = {h: r.to for h, r in results.items() if r.state in (HostState.RESTORED, HostState.UNCHANGED) and r.to}
    if verified and moved and restored and outcome in (RollbackOutcome.RESTORED, RollbackOutcome.PARTIAL):
        await record(
            session,
            bound.name,
            restored,
            state=ReleaseState.GOOD,
            origin="rollback",
            healthy=True,
            reason=f"restored and verified by {rollback.id}",
        )


async def _may_reject(session: Session, service: str, rollback: Rollback, bad: Mapping[str, Image]) -> bool:
    """Failing its threshold rejects any release; an operator's move away from a proven good one does not."""
    if rollback.trigger is Trigger.THRESHOLD:
        return True
    releases = await asyncio.to_thread(session.store.releases, service)
    good = {i.image_id for r in releases if r.state is ReleaseState.GOOD for i in r.hosts.values()}
    return not any(image.image_id in good for image in bad.values())


async def _reject(session: Session, service: str, bad: Mapping[str, Image], reason: str) -> None:
    releases = await asyncio.to_thread(session.store.releases, service)
    same = newest_same(releases, bad)
    if same is not None and same.state is ReleaseState.CANDIDATE:
        await asyncio.to_thread(session.store.set_release_state, same.id, ReleaseState.REJECTED, reason)
        return
    now = session.clock.now()
    release = Release(new_id("rel", now), service, ReleaseState.REJECTED, "rollback", now, dict(bad), False, reason)
    await asyncio.to_thread(session.store.add_release, release)
