"""Finishing what a crash or an unreachable host left unfinished: look first, then decide, then act.

Only what runs on the hosts now counts; the journal says what was wanted.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from guard.decide.outcome import RESUMED, summary
from guard.decide.recover import credited, gone, left_to_do, narrowed, observed
from guard.decide.revert import goes_back, hosts_to_change
from guard.decide.target import Wish, choose
from guard.errors import GuardError
from guard.model import HostFacts, HostState, Lease, Phase, Plan, Release, Rollback, RollbackOutcome
from guard.service.execute import adopt_run, hooks_of
from guard.service.group import resume_together
from guard.service.leases import held
from guard.service.ledger import on_record
from guard.service.look import look
from guard.service.revert import because, take_back
from guard.service.rollback import carry_out, end_taken_back
from guard.service.session import Bound, Session
from guard.service.stop import Stop

_TRIED = (RollbackOutcome.PARTIAL, RollbackOutcome.FAILED)


async def resumable(session: Session, service: str) -> tuple[Rollback, ...]:
    """Rollbacks without an end, and the service's newest one when it left a host out of reach. Oldest first."""
    unfinished = await asyncio.to_thread(session.store.unfinished, service)
    rollbacks = await asyncio.to_thread(session.store.rollbacks, service)
    acted = [r for r in rollbacks if r.outcome not in (RollbackOutcome.REFUSED, RollbackOutcome.DRY_RUN)]
    newest = acted[:1]
    away = [r for r in newest if r.outcome in _TRIED and _unreachable(r)]
    found = {rollback.id: rollback for rollback in [*unfinished, *away]}
    return tuple(sorted(found.values(), key=lambda rollback: rollback.started_at))


def _unreachable(rollback: Rollback) -> bool:
    return any(result.state is HostState.UNREACHABLE for result in rollback.hosts.values())


async def finish(session: Session, bound: Bound, rollback: Rollback, stop: Stop) -> tuple[Rollback, ...]:
    """Finish one rollback under a lease of its own; one that belongs to a group is finished with its group.

    LeaseHeld when another guard is at it.
    """
    plan = await asyncio.to_thread(session.store.plan, rollback.id)
    if plan is not None and plan.group and rollback.ended_at is None:
        return await resume_together(session, rollback, plan.group, stop)
    async with held(session, [bound.name]) as leases:
        return (await resume(session, bound, rollback, leases[bound.name], stop),)


async def resume(session: Session, bound: Bound, rollback: Rollback, lease: Lease, stop: Stop) -> Rollback:
    """Finish one rollback under a lease the caller holds. Its record stays one record."""
    store = session.store
    plan = await asyncio.to_thread(store.plan, rollback.id)
    if plan is None:
        raise GuardError(f"rollback {rollback.id} has no plan on record, so it cannot be resumed")
    session.log.warning("resuming a rollback", service=bound.name, id=rollback.id, phase=rollback.phase.value)
    adopted = await adopt_run(session, rollback)
    certain = {**rollback.hosts, **adopted.certain}
    current = replace(rollback, fence=lease.fence)
    if goes_back(rollback, plan, certain):
        known = await take_back(session, bound, current, plan, certain, because(certain, plan), cut=adopted.cut)
        return await end_taken_back(session, bound, current, plan, known)
    await asyncio.to_thread(store.set_phase, rollback.id, Phase.CLAIMED)
    here = bound.narrowed(frozenset(plan.hosts))
    releases = await asyncio.to_thread(store.releases, bound.name)
    facts = await look(session, here, releases)
    releases = on_record(bound, releases, facts)
    plan = _with_targets(plan, facts, bound, releases)
    if rollback.ended_at is not None and plan.on_batch_failure == "revert":
        plan = replace(plan, on_batch_failure="stop")  # the others were verified long since: one late host moves nobody
    results = {
        host: credited(plan, observed(host_plan, facts.get(host, gone(host_plan)), rollback.hosts.get(host)))
        for host, host_plan in plan.hosts.items()
    }
    for result in results.values():
        await asyncio.to_thread(store.record_host, rollback.id, result)
    again = adopted.cut and bool(hooks_of(bound))
    todo = tuple(h for h in left_to_do(results, again) if results[h].state is not HostState.UNREACHABLE)
    going = narrowed(plan, todo) if todo else narrowed(plan, ())
    current = replace(current, reason=_cause(rollback) + RESUMED.removesuffix("; "), hosts=results)
    return await carry_out(session, bound, current, _all_batched(going, todo), stop)


def _all_batched(plan: Plan, todo: tuple[str, ...]) -> Plan:
    """Hosts that had no batch (out of reach when it was planned) form the last one."""
    batched = hosts_to_change(plan)
    late = tuple(host for host in todo if host not in batched)
    return replace(plan, batches=(*plan.batches, late)) if late else plan


def _with_targets(plan: Plan, facts: dict[str, HostFacts], bound: Bound, releases: tuple[Release, ...]) -> Plan:
    """A host that could not be looked at before gets its target now, by the same rule."""
    hosts = dict(plan.hosts)
    bad = frozenset(p.from_.image_id for p in plan.hosts.values() if p.from_ and p.changes)
    for name, host_plan in plan.hosts.items():
        seen = facts.get(name)
        if host_plan.to is None and host_plan.unreachable and seen is not None and not seen.problem:
            wish = Wish(fallback=bound.config.rollback.fallback, bad=bad or None)
            hosts[name] = choose(seen, releases, wish)
    return replace(plan, hosts=hosts)


def _cause(rollback: Rollback) -> str:
    """Why it was begun, without how an earlier attempt ended: the record tells of the last one."""
    cause = rollback.reason.partition(RESUMED)[0]
    return cause if rollback.ended_at is None else cause.rpartition(f"; {summary(rollback.hosts)}; ")[0] or cause
