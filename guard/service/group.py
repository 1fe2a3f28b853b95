"""``guard gate --together``: the services of one gate are rolled back all together or not at all.

1. Every service is decided on first. One rule that says no, or one host without a target, and nothing is touched.
2. Everything slow is done on all hosts of all services. One host that can't be prepared, and what was made goes again.
3. The services are swapped, those that depend on others first. One that doesn't get there on every host, and all of
   them get back what they ran before.
4. Then all of them are verified. A verification that fails moves nothing: the cause is not the release any more.

The plans say who belongs together, so ``guard resume`` finishes a group as a group: forward when nothing had failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from guard.decide.recover import credited, gone, left_to_do, narrowed, observed
from guard.decide.revert import goes_back, hosts_to_change
from guard.errors import GuardError, UsageError
from guard.model import HostResult, HostState, Lease, Plan, Rollback, RollbackOutcome
from guard.service.execute import PREPARE, adopt_run, execute, hooks_of
from guard.service.leases import held
from guard.service.look import look
from guard.service.revert import because, take_back
from guard.service.rollback import (
    Decided,
    Order,
    begin,
    decide,
    end_taken_back,
    new_record,
    refuse,
    run_out,
    verify_and_end,
)
from guard.service.session import Bound, Session
from guard.service.stop import Stop

_DONE = (HostState.RESTORED, HostState.UNCHANGED)
_TOGETHER = "the services of this gate are rolled back together or not at all"


@dataclass(frozen=True, slots=True)
class Member:
    """One service of the group. ``left``: what of its plan is still to be done; ``known``: how its hosts stand."""

    bound: Bound
    rollback: Rollback
    plan: Plan
    left: Plan
    known: Mapping[str, HostResult]

    @property
    def done(self) -> bool:
        return all(result.state in _DONE for result in self.known.values())


async def roll_back_together(
    session: Session, orders: Sequence[tuple[Bound, Order]], leases: Mapping[str, Lease], stop: Stop
) -> tuple[Rollback, ...]:
    """Under leases the caller holds; services that depend on others come first. Never raises for what a host did."""
    names = tuple(bound.name for bound, _ in orders)
    began = session.clock.now()
    decided = []
    for at, (bound, order) in enumerate(orders):
        one = await decide(session, bound, replace(order, together=names))
        # Two services may run images of one repository: a tag that both used would be moved from one to the other.
        tag = f"backup_{began + timedelta(seconds=at):%Y%m%d_%H%M%S}"
        decided.append((bound, order, replace(one, plan=replace(one.plan, backup_tag=tag))))
    no = [sentence for bound, _, one in decided for sentence in _objections(bound.name, one)]
    if no:
        refusing = frozenset(rule for _, _, one in decided for rule in one.refusing)
        dry = refusing == {"dry_run"} and all(plan.to for _, _, one in decided for plan in one.plan.hosts.values())
        outcome = RollbackOutcome.DRY_RUN if dry else RollbackOutcome.REFUSED
        said = "; ".join(no if not dry else dict.fromkeys(line.partition(": ")[2] for line in no))
        records = [(new_record(session, b, o, one, leases[b.name]), one.plan) for b, o, one in decided]
        told = said if dry else f"{_TOGETHER}: {said}"
        return tuple([await refuse(session, record, plan, outcome, told) for record, plan in records])
    members = []
    for bound, order, one in decided:
        record = new_record(session, bound, order, one, leases[bound.name])
        await begin(session, bound, record, one.plan)
        members.append(Member(bound, record, one.plan, one.plan, record.hosts))
    return await _carry_out(session, members, stop)


def _objections(name: str, decided: Decided) -> list[str]:
    """Why this service keeps the whole group where it is."""
    rules = [f"{name}: {answer.rule}: {answer.sentence}" for answer in decided.answers if not answer.allows]
    hosts = [f"{name} on {host}: {p.problem}" for host, p in sorted(decided.plan.hosts.items()) if p.to is None]
    return [*rules, *hosts]


async def _carry_out(session: Session, members: Sequence[Member], stop: Stop) -> tuple[Rollback, ...]:
    members = await asyncio.gather(*(_prepared(session, member) for member in members))
    bad = {f"{m.bound.name} on {h}": r for m in members for h, r in m.known.items() if _unprepared(r)}
    if bad:
        told = "; ".join(f"{where} can't be prepared: {result.error}" for where, result in bad.items())
        return await _nothing_changed(session, members, told)
    for index, member in enumerate(members):
        if hosts_to_change(member.left):
            ran = await run_out(session, member.bound, member.rollback, member.left)
            members = [*members[:index], replace(member, known={**member.known, **ran}), *members[index + 1 :]]
        if not members[index].done:
            return await _all_back(session, members, members[index])
    ending = (
        verify_and_end(session, m.bound, m.rollback, m.plan, m.known, stop, changed=bool(hosts_to_change(m.plan)))
        for m in members
    )
    return tuple(await asyncio.gather(*ending))


async def _prepared(session: Session, member: Member) -> Member:
    if not hosts_to_change(member.left):
        return member
    results = await execute(session, member.bound, member.rollback, member.left, PREPARE)
    return replace(member, known={**member.known, **results})


def _unprepared(result: HostResult) -> bool:
    return result.state not in (HostState.PLANNED, *_DONE)


async def _nothing_changed(session: Session, members: Sequence[Member], told: str) -> tuple[Rollback, ...]:
    """Unless a resumed group had swapped somewhere: then that is put back as well."""
    return await _back(session, members, members, told)


async def _all_back(session: Session, members: Sequence[Member], failed: Member) -> tuple[Rollback, ...]:
    """The one that failed first; the others of the swapped ones latest first."""
    at = [member.rollback.id for member in members].index(failed.rollback.id)
    order = [failed, *reversed(members[:at]), *members[at + 1 :]]
    hosts = sorted(h for h, r in failed.known.items() if r.state not in (*_DONE, HostState.SKIPPED, HostState.PLANNED))
    return await _back(session, members, order, f"{failed.bound.name} failed on {', '.join(hosts) or 'a host'}")


async def _back(
    session: Session, members: Sequence[Member], order: Sequence[Member], told: str, *, cut: bool = False
) -> tuple[Rollback, ...]:
    why = f"{told}; {_TOGETHER}"
    known = {}
    for member in order:
        waiting = {
            host: replace(r, state=HostState.SKIPPED, error=f"not touched: {why}")
            if r.state is HostState.PLANNED
            else r
            for host, r in member.known.items()
        }
        known[member.rollback.id] = await take_back(
            session, member.bound, member.rollback, member.plan, waiting, why, cut=cut
        )
    return tuple(
        [await end_taken_back(session, m.bound, m.rollback, m.plan, known[m.rollback.id], why) for m in members]
    )


async def resume_together(
    session: Session, rollback: Rollback, group: Sequence[str], stop: Stop
) -> tuple[Rollback, ...]:
    """Finish a group that a crash cut off. LeaseHeld when another guard is at one of its services."""
    try:
        bounds = session.bind(group)
    except UsageError as error:
        told = f"rollback {rollback.id} belongs to services {', '.join(group)} together: {error.message}"
        raise GuardError(told, hint="put them back into the configuration, then resume") from error
    async with held(session, group) as leases:
        members, back, cut = [], False, False
        for bound in bounds:
            record = await _record_of(session, bound.name, rollback)
            plan = await asyncio.to_thread(session.store.plan, record.id) if record is not None else None
            if record is None or plan is None:
                back = True  # cut off before all of them were on record, so before anything was touched
                continue
            certain = dict(record.hosts)
            if record.ended_at is None:
                session.log.warning("resuming a rollback", service=bound.name, id=record.id, together=", ".join(group))
                adopted = await adopt_run(session, record)
                certain |= adopted.certain
                current = replace(record, fence=leases[bound.name].fence)
                members.append(Member(bound, current, plan, plan, certain))
                cut = cut or adopted.cut
            back = back or goes_back(record, plan, certain)
        if back:
            reasons = [because(m.known, m.plan) for m in members if goes_back(m.rollback, m.plan, m.known)]
            told = reasons[0].partition(f"; {_TOGETHER}")[0] if reasons else "guard was stopped before all had begun"
            return await _back(session, members, members, told, cut=cut)
        return await _carry_out(session, [await _looked_at(session, member, cut) for member in members], stop)


async def _record_of(session: Session, name: str, rollback: Rollback) -> Rollback | None:
    past = await asyncio.to_thread(session.store.rollbacks, name)
    return next((one for one in past if one.gate_id == rollback.gate_id), None)


async def _looked_at(session: Session, member: Member, cut: bool) -> Member:
    """Only what runs on the hosts now counts."""
    facts = await look(session, member.bound.narrowed(frozenset(member.plan.hosts)))
    results = {
        host: credited(
            member.plan,
            observed(plan, facts.get(host) or gone(plan), member.rollback.hosts.get(host)),
        )
        for host, plan in member.plan.hosts.items()
    }
    for result in results.values():
        await asyncio.to_thread(session.store.record_host, member.rollback.id, result)
    again = cut and bool(hooks_of(member.bound))
    return replace(member, known=results, left=narrowed(member.plan, left_to_do(results, again)))
