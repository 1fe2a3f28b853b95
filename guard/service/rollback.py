"""One rollback from the wish to the record: look, choose, ask every rule, write the intent, run, verify, record.

The order is the promise: the plan is complete before anything is touched, the intent is durable before a run starts,
results are recorded as they come, and only what is seen on the hosts plus the same checks make it ``restored``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from guard.decide.blame import Failing
from guard.decide.crossing import all_crossed
from guard.decide.outcome import outcome_of, summary
from guard.decide.plan import resolve_batches
from guard.decide.policy import PolicyFacts, ask_all, vetoes
from guard.decide.recover import narrowed
from guard.decide.revert import hosts_to_change, is_due
from guard.decide.service import needed
from guard.decide.target import Wish, bad_images, choose, rejected_ids
from guard.decide.windows import open_at
from guard.errors import GuardError
from guard.model import (
    HostFacts,
    HostPlan,
    HostResult,
    HostState,
    Lease,
    Phase,
    Plan,
    Release,
    Rollback,
    RollbackOutcome,
    RuleAnswer,
    Trigger,
)
from guard.service import past
from guard.service.events import Event, Kind
from guard.service.execute import execute, hooks_of
from guard.service.leases import Ours
from guard.service.ledger import on_record, settle
from guard.service.look import look
from guard.service.ready import with_pullable
from guard.service.revert import because, clean_up, take_back
from guard.service.session import Bound, Session, new_id
from guard.service.settings import settings_of
from guard.service.stop import Stop
from guard.service.verify import verify


@dataclass(frozen=True, slots=True)
class Order:
    """Why and how a rollback is asked for. ``failing``: hosts with a failed target of their own.

    ``crossed``: what failed, of so many ``targets``; ``earlier_seen``: when another release was last seen running.
    ``failing_together``, ``blind``, ``watched``, ``held_by``: see ``PolicyFacts``. ``settings``: thresholds in force.

    ``together``: the services that are rolled back with it or not at all. ``blamed`` False: this one has not failed
    itself; ``stays``: and nothing was deployed to it since it was recorded as healthy, so there is nothing to undo.
    """

    trigger: Trigger
    reason: str
    to: str | None = None
    force: bool = False
    dry_run: bool = False
    failing: frozenset[str] = frozenset()
    failed_dependencies: tuple[str, ...] = ()
    critical_services: int = 1
    failing_together: frozenset[str] = frozenset()
    crossed: tuple[Failing, ...] = ()
    targets: int = 0
    earlier_seen: datetime | None = None
    blind: int = 0
    watched: int = 0
    held_by: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    gate_id: str | None = None
    together: tuple[str, ...] = ()
    blamed: bool = True
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan with every rule's answer; ``allowed`` when no rule says no."""

    plan: Plan
    facts: Mapping[str, HostFacts]
    answers: tuple[RuleAnswer, ...]

    @property
    def refusing(self) -> frozenset[str]:
        """Names of the rules that say no."""
        return frozenset(answer.rule for answer in vetoes(self.answers))

    @property
    def allowed(self) -> bool:
        return not self.refusing


async def roll_back(session: Session, bound: Bound, order: Order, lease: Lease, stop: Stop) -> Rollback:
    """Carry out one rollback under a lease the caller holds and renews. Never raises for what a host did."""
    decided = await decide(session, bound, order)
    rollback = new_record(session, bound, order, decided, lease)
    if not decided.allowed:
        outcome = RollbackOutcome.DRY_RUN if decided.refusing == {"dry_run"} else RollbackOutcome.REFUSED
        said = "; ".join(f"{answer.rule}: {answer.sentence}" for answer in vetoes(decided.answers))
        return await refuse(session, rollback, decided.plan, outcome, said)
    await begin(session, bound, rollback, decided.plan)
    return await carry_out(session, bound, rollback, decided.plan, stop)


async def begin(session: Session, bound: Bound, rollback: Rollback, plan: Plan, how: str = "") -> None:
    """The intent is durable when this returns."""
    await asyncio.to_thread(session.store.begin_rollback, rollback, plan, _key(rollback))
    session.log.info("rollback started", service=bound.name, id=rollback.id, reason=rollback.reason)
    text = f"{rollback.reason}; {len(hosts_to_change(plan))} of {len(plan.hosts)} hosts to change{how}"
    session.tell(Event(Kind.ROLLBACK_STARTED, bound.name, text))


async def decide(session: Session, bound: Bound, order: Order, seen: Mapping[str, HostFacts] | None = None) -> Decided:
    """Facts (``seen``, or a look now), targets, batches and rules. Nothing is written and no host is changed.

    ConfigError: a hook is no use.
    """
    hooks_of(bound)
    releases = await asyncio.to_thread(session.store.releases, bound.name)
    attempts = await asyncio.to_thread(session.store.rollbacks, bound.name)
    last = past.last_touching(attempts)
    automatic = past.last_touching(tuple(r for r in attempts if r.trigger is Trigger.THRESHOLD))
    facts = seen if seen is not None else await look(session, bound, releases, order.to)
    releases = on_record(bound, releases, facts)
    should = {host: session.under_test.image(bound.name, host) for host in facts}
    back = past.went_back(should, facts, releases)
    plans = _plans(bound, order, facts, releases, last, back)
    if seen is None:  # what was prepared needs no registry any more
        plans = await with_pullable(session, bound, facts, plans)
    plan = _plan(session, bound, order, plans)
    now = session.clock.now()
    before = past.failed_before(order.crossed, plans, releases, order.earlier_seen, now)
    policy = PolicyFacts(
        service=bound.name,
        now=now,
        trigger=order.trigger,
        critical=bound.config.critical,
        dry_run=order.dry_run,
        force=order.force,
        hold=await asyncio.to_thread(session.store.hold, bound.name, now),
        maintenance=open_at(bound.config.windows, now),
        min_gap_s=bound.config.rollback.min_gap,
        last_automatic_at=automatic.ended_at if automatic else None,
        last_restored=past.aimed_at(last),
        last_failed=past.failed_at(last),
        rejected=rejected_ids(releases),
        crosses=all_crossed(plans, facts, releases),
        failed_dependencies=order.failed_dependencies,
        critical_services=order.critical_services,
        failing_together=order.failing_together,
        failed_before=tuple(f"{one.target} since {one.since:%Y-%m-%d %H:%M:%S} UTC: {one.then}" for one in before),
        failed_anew=len(order.crossed) - len(before) >= needed(bound.config.quorum, order.targets),
        watched=order.watched,
        blind=order.blind,
        held_by=order.held_by,
        plans=plans,
    )
    return Decided(plan, facts, ask_all(policy))


async def carry_out(
    session: Session,
    bound: Bound,
    rollback: Rollback,
    plan: Plan,
    stop: Stop,
    results: Mapping[str, HostResult] | None = None,
) -> Rollback:
    """Run the plan, verify, settle the ledger and end the record. Also what ``resume`` calls with a narrowed plan.

    ``results``: the plan was run already, by a run that was armed in advance.
    """
    known = dict(rollback.hosts)
    if hosts_to_change(plan):
        known |= await run_out(session, bound, rollback, plan, results)
        if _cut_off(known):
            return await _left_unfinished(session, bound, rollback, known)
        if is_due(plan, known):
            stored = await asyncio.to_thread(session.store.plan, rollback.id) or plan
            whole = replace(plan, batches=stored.batches, hosts={**stored.hosts, **plan.hosts})  # also when resumed
            known = await take_back(session, bound, rollback, whole, known, because(known, plan))
            return await end_taken_back(session, bound, rollback, plan, known)
        known = await clean_up(session, bound, rollback, plan, known)
    return await verify_and_end(session, bound, rollback, plan, known, stop, changed=bool(hosts_to_change(plan)))


async def run_out(
    session: Session, bound: Bound, rollback: Rollback, plan: Plan, results: Mapping[str, HostResult] | None = None
) -> dict[str, HostResult]:
    """Run the plan (``results``: that was done already). Hosts that were cut off before they answered, once more."""
    found = dict(results if results is not None else await execute(session, bound, rollback, plan))
    open_ = _cut_off(found)
    if open_:
        session.log.warning("cut off without an answer: once more", id=rollback.id, hosts=open_)
        found |= await execute(session, bound, rollback, narrowed(plan, open_))
    return found


async def verify_and_end(
    session: Session,
    bound: Bound,
    rollback: Rollback,
    plan: Plan,
    known: Mapping[str, HostResult],
    stop: Stop,
    *,
    changed: bool,
) -> Rollback:
    """The full check set decides; then the ledger, and the end of the record."""
    store = session.store
    done = frozenset(h for h, r in known.items() if r.state in (HostState.RESTORED, HostState.UNCHANGED))
    ours = Ours(session, rollback)
    verified, told = False, "nothing was restored, so there was nothing to verify"
    if done:
        await ours.confirm()
        await asyncio.to_thread(store.set_phase, rollback.id, Phase.VERIFYING)
        how_long = f"for {bound.config.rollback.verify_for:g} s" if changed else "once, for nothing had to be changed"
        session.tell(Event(Kind.VERIFYING, bound.name, f"the same checks, {how_long}"))
        targets = {host: r.to for host in done if (r := known[host]).to is not None}
        session.under_test.expect(bound, targets)
        try:
            verified, told = await verify(
                session, bound if bound.swarm else bound.narrowed(done), changed, stop, rollback.id
            )
        finally:
            session.under_test.forget(bound)
    outcome = outcome_of(known, verified)
    await ours.confirm()
    await settle(session, bound, rollback, known, outcome, verified, rejects=plan.rejects)
    return await _end(session, bound, rollback, known, (outcome, verified, told, Phase.ENDED))


async def end_taken_back(
    session: Session, bound: Bound, rollback: Rollback, plan: Plan, known: Mapping[str, HostResult], why: str = ""
) -> Rollback:
    """The release that runs again stays rejected when it had failed its threshold; what was not proven is not called
    good, and an operator's wish that came to nothing rejects nothing."""
    outcome = RollbackOutcome.FAILED
    if rollback.trigger is Trigger.THRESHOLD:
        await settle(session, bound, rollback, known, outcome, False, rejects=plan.rejects)
    told = "taken back: not verified, for what runs is what ran before" + (f" ({why})" if why else "")
    return await _end(session, bound, rollback, known, (outcome, False, told, Phase.REVERTED))


async def _end(
    session: Session,
    bound: Bound,
    rollback: Rollback,
    known: Mapping[str, HostResult],
    how: tuple[RollbackOutcome, bool, str, Phase],
) -> Rollback:
    store = session.store
    outcome, verified, told, phase = how
    await Ours(session, rollback).confirm()
    reason = f"{rollback.reason}; {summary(known)}; {told}"
    ended = session.clock.now()
    await asyncio.to_thread(
        store.end_rollback, rollback.id, outcome, verified=verified, reason=reason, ended_at=ended, phase=phase
    )
    level = logging.INFO if outcome is RollbackOutcome.RESTORED else logging.ERROR
    session.log.log(
        level, "rollback ended", service=bound.name, id=rollback.id, outcome=outcome.value, hosts=summary(known)
    )
    stored = await asyncio.to_thread(store.rollback, rollback.id)
    if stored is None:
        raise GuardError(f"rollback {rollback.id} has vanished from the store")
    session.tell(Event(Kind.ROLLBACK, bound.name, reason, rollback=stored))
    return stored


def _cut_off(results: Mapping[str, HostResult]) -> tuple[str, ...]:
    """Hosts whose run broke off before they had answered. Done once more at once: the swap may be half done there."""
    return tuple(host for host, result in results.items() if result.state is HostState.PLANNED)


async def _left_unfinished(
    session: Session, bound: Bound, rollback: Rollback, results: Mapping[str, HostResult]
) -> Rollback:
    """The record stays open for ``guard resume``: nobody knows how these hosts stand."""
    reason = f"{rollback.reason}; {summary(results)}; the run broke off twice"
    session.log.error("rollback unfinished", service=bound.name, id=rollback.id, hosts=summary(results))
    stored = await asyncio.to_thread(session.store.rollback, rollback.id)
    if stored is None:
        raise GuardError(f"rollback {rollback.id} has vanished from the store")
    session.tell(Event(Kind.ROLLBACK, bound.name, reason, rollback=stored))
    return stored


def _plans(
    bound: Bound,
    order: Order,
    facts: Mapping[str, HostFacts],
    releases: tuple[Release, ...],
    last: Rollback | None,
    back: frozenset[str],
) -> dict[str, HostPlan]:
    config = bound.config.rollback
    only_failing = config.scope == "failing" and order.failing
    wish = Wish(
        to=order.to,
        force=order.force,
        fallback=config.fallback,
        bad=bad_images(list(facts.values()), order.failing - back, releases),
        restored=past.aimed_at(last) if order.trigger is Trigger.MANUAL else None,
    )
    plans = {}
    for name, seen in facts.items():
        if order.stays and seen.running is not None:
            image = seen.running.image
            source = "nothing was deployed here since it was healthy"
            plans[name] = HostPlan(name, seen.container, image, image, source=source)
        elif name in back and seen.running is not None:
            image = seen.running.image
            plans[name] = HostPlan(name, seen.container, image, image, source="it runs a good release again already")
        elif only_failing and name not in order.failing and seen.running is not None:
            image = seen.running.image
            plans[name] = HostPlan(name, seen.container, image, image, source="none of its targets failed")
        else:
            plans[name] = choose(seen, releases, wish)
    return plans


def _plan(session: Session, bound: Bound, order: Order, plans: Mapping[str, HostPlan]) -> Plan:
    config = bound.config.rollback
    todo = [host for host, plan in plans.items() if needs_work(plan)]
    return Plan(
        service=bound.name,
        playbook=session.catalog.resolve(config.playbook).reference,
        backup_tag=f"backup_{session.clock.now():%Y%m%d_%H%M%S}",
        batches=resolve_batches(config.batches, todo),
        hosts=dict(plans),
        on_batch_failure="revert" if order.together else config.on_batch_failure,
        group=order.together,
        rejects=order.blamed,
    )


def needs_work(plan: HostPlan) -> bool:
    return plan.to is not None and (plan.from_ is None or plan.from_.image_id != plan.to.image_id)


def planned_result(plan: HostPlan) -> HostResult:
    """How a host stands before the run: still to do, already right, out of reach, or without a target."""
    if plan.unreachable:
        state = HostState.UNREACHABLE
    elif plan.to is None:
        state = HostState.SKIPPED if plan.from_ is not None else HostState.FAILED
    else:
        state = HostState.PLANNED if needs_work(plan) else HostState.UNCHANGED
    return HostResult(plan.host, state, plan.from_, plan.to, error=plan.problem or None)


def new_record(session: Session, bound: Bound, order: Order, decided: Decided, lease: Lease) -> Rollback:
    now = session.clock.now()
    return Rollback(
        id=new_id("rb", now),
        service=bound.name,
        outcome=RollbackOutcome.UNFINISHED,
        phase=Phase.DECIDED,
        trigger=order.trigger,
        reason=order.reason,
        playbook=decided.plan.playbook,
        started_at=now,
        ended_at=None,
        hosts={host: planned_result(plan) for host, plan in decided.plan.hosts.items()},
        artifacts=None,
        verified=False,
        fence=lease.fence,
        gate_id=order.gate_id,
        answers=decided.answers,
        settings=order.settings or settings_of([bound], session.build_targets(bound, session.engines)),
    )


def _key(rollback: Rollback) -> str:
    """Names the attempt: a trigger that comes twice for one lease and one bad release is one rollback."""
    images = sorted(
        f"{host}:{r.from_.image_id if r.from_ else ''}>{r.to.image_id if r.to else ''}"
        for host, r in rollback.hosts.items()
    )
    return f"{rollback.service}#{rollback.fence}#{rollback.trigger.value}#{','.join(images)}"


async def refuse(session: Session, rollback: Rollback, plan: Plan, outcome: RollbackOutcome, said: str) -> Rollback:
    """Deliberately nothing is done, and that is on record with what said so."""
    only_dry = outcome is RollbackOutcome.DRY_RUN
    reason = f"{rollback.reason}; {said}"
    hosts = {
        host: replace(r, state=HostState.SKIPPED) if r.state is HostState.PLANNED and not only_dry else r
        for host, r in rollback.hosts.items()
    }
    refused = replace(rollback, hosts=hosts)
    await asyncio.to_thread(session.store.begin_rollback, refused, plan, f"{rollback.id}#refused")
    ended = session.clock.now()
    await asyncio.to_thread(
        session.store.end_rollback, rollback.id, outcome, verified=False, reason=reason, ended_at=ended
    )
    session.log.warning("not rolled back", service=rollback.service, id=rollback.id, outcome=outcome.value, why=said)
    record = replace(refused, outcome=outcome, reason=reason, ended_at=ended, phase=Phase.ENDED)
    session.tell(Event(Kind.ROLLBACK, rollback.service, reason, rollback=record))
    return record
