"""What a service's record says about the rollback that is asked for now: gathered for the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from guard.decide import blame
from guard.decide.blame import Failing
from guard.decide.target import rejected_ids
from guard.model import HostFacts, HostPlan, HostState, Image, Release, ReleaseState, Rollback, RollbackOutcome

_TOUCHED = (RollbackOutcome.RESTORED, RollbackOutcome.PARTIAL, RollbackOutcome.FAILED)


def last_touching(attempts: tuple[Rollback, ...]) -> Rollback | None:
    """The newest ended rollback that changed a host, or tried to."""
    return next((r for r in attempts if r.outcome in _TOUCHED and r.ended_at is not None), None)


def aimed_at(last: Rollback | None) -> dict[str, str]:
    """Host → image ID that it put or found there."""
    if last is None:
        return {}
    done = (HostState.RESTORED, HostState.UNCHANGED)
    return {host: r.to.image_id for host, r in last.hosts.items() if r.state in done and r.to is not None}


def failed_at(last: Rollback | None) -> dict[str, tuple[str, str]]:
    """Hosts that the last rollback could not restore, with what it was to replace there by what."""
    if last is None:
        return {}
    bad = (HostState.FAILED, HostState.REVERTED)
    return {
        host: (r.from_.image_id, r.to.image_id) for host, r in last.hosts.items() if r.state in bad and r.from_ and r.to
    }


def failed_before(
    crossed: Sequence[Failing],
    plans: Mapping[str, HostPlan],
    releases: Sequence[Release],
    earlier_seen: datetime | None,
    now: datetime,
) -> tuple[Failing, ...]:
    """What failed in the same way before the release came that is to be left."""
    left = {host: plan.from_ for host, plan in plans.items() if plan.changes and plan.from_ is not None}
    return blame.failed_before(crossed, blame.last_of_another(left, releases, now, earlier_seen)) if left else ()


def went_back(
    should: Mapping[str, Image | None], facts: Mapping[str, HostFacts], releases: Sequence[Release]
) -> frozenset[str]:
    """Hosts on which somebody else put an earlier good release back while a later one (``should``) was under test.

    That release is not the bad one: nothing is rolled back from it, and it is not rejected.
    """
    rejected = rejected_ids(releases)
    back = set()
    for host, seen in facts.items():
        wanted = should.get(host)
        if wanted is None or seen.running is None or seen.running.image.image_id == wanted.image_id:
            continue
        runs = seen.running.image.image_id
        good = any(
            (release.healthy or release.state is ReleaseState.GOOD)
            and host in release.hosts
            and release.hosts[host].image_id == runs
            for release in releases
        )
        if good and runs not in rejected:
            back.add(host)
    return frozenset(back)
