"""Taking a rollback back: hosts that were restored get again what they ran before, so that all run one release.

A second run of the same playbook, with the inverse of the plan, a backup tag of its own, and a phase of its own in the
journal: whoever finds it cut off goes on putting back, never rolling forward.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from guard.decide.revert import PUT_BACK, hosts_to_change, inverse, put_back, untouched
from guard.errors import GuardError
from guard.model import HostPlan, HostResult, HostState, Phase, Plan, Rollback
from guard.service.events import Event, Kind
from guard.service.execute import BACK, DISCARD, execute, hooks_of
from guard.service.look import look
from guard.service.session import Bound, Session


async def take_back(
    session: Session,
    bound: Bound,
    rollback: Rollback,
    plan: Plan,
    known: Mapping[str, HostResult],
    why: str,
    *,
    cut: bool = False,
) -> dict[str, HostResult]:
    """Put back what this rollback restored. Results of all its hosts; a host out of reach stays ``unreachable``.

    ``cut``: an earlier run did not come to its end, so a hook after a swap may be missing.
    """
    again = cut and bool(hooks_of(bound))
    await asyncio.to_thread(session.store.set_phase, rollback.id, Phase.REVERTING)
    facts = await look(session, bound.narrowed(frozenset(plan.hosts)))
    back = inverse(plan, facts, known, _another_tag(session, plan), again=again)
    results = dict(known) | untouched(plan, facts, known, why, again=again)
    todo = hosts_to_change(back)
    if todo:
        session.log.warning("putting back", service=bound.name, id=rollback.id, hosts=", ".join(todo), why=why)
        session.tell(Event(Kind.REVERTING, bound.name, f"{why}; {len(todo)} hosts to put back"))

        def told(result: HostResult) -> HostResult:
            return put_back(plan.hosts[result.host], known.get(result.host), result, why)

        results |= await execute(session, bound, rollback, back, BACK, told)
    results = await clean_up(session, bound, rollback, plan, results)
    for result in results.values():
        await asyncio.to_thread(session.store.record_host, rollback.id, result)
    return results


async def clean_up(
    session: Session, bound: Bound, rollback: Rollback, plan: Plan, results: Mapping[str, HostResult]
) -> dict[str, HostResult]:
    """Hosts that were prepared and never swapped keep nothing of it. That it fails is no failed rollback."""
    left = {
        host: one
        for host in hosts_to_change(plan)
        if (result := results.get(host)) is not None
        and (result.state is HostState.SKIPPED or (result.state is HostState.FAILED and result.downtime_s is None))
        and (one := plan.hosts[host]).from_ is not None
    }
    cleaned = dict(results)
    if not left or "discard" not in session.catalog.exactly(plan.playbook).manifest.entry_points:
        return cleaned
    hosts = {h: HostPlan(h, one.container, one.from_, one.from_, "discard") for h, one in left.items()}
    discarding = replace(plan, hosts=hosts, batches=(tuple(hosts),), on_batch_failure="continue")

    def told(result: HostResult) -> HostResult:
        gone = result.state is HostState.UNCHANGED
        return replace(results[result.host], backup_tag=None) if gone else results[result.host]

    try:
        cleaned |= await execute(session, bound, rollback, discarding, DISCARD, told)
    except GuardError as error:
        session.log.warning("what was prepared is left there", id=rollback.id, hosts=", ".join(left), error=str(error))
    return cleaned


def because(results: Mapping[str, HostResult], plan: Plan) -> str:
    """Why a rollback is taken back, from its own hosts; the same words again when it had begun before."""
    said = [result.error for result in results.values() if result.error and result.error.startswith(PUT_BACK)]
    if said:
        return said[0].removeprefix(PUT_BACK)
    failed = [host for host in hosts_to_change(plan) if results[host].state in (HostState.FAILED, HostState.REVERTED)]
    return f"{', '.join(failed) or 'a host'} failed, and on_batch_failure is revert"


def _another_tag(session: Session, plan: Plan) -> str:
    """Never the plan's own: that one names the image that is now to come back."""
    now = session.clock.now()
    tag = f"backup_{now:%Y%m%d_%H%M%S}"
    return tag if tag > plan.backup_tag else f"backup_{now + timedelta(seconds=1):%Y%m%d_%H%M%S}"
