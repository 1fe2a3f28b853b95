"""After a crash: the journal and what is seen on the hosts now → what is left to do.

Only the image seen running on a host decides. The journal says what was wanted, never what happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from guard.model import ContainerFacts, HostFacts, HostPlan, HostResult, HostState, Plan

PINNED = "its Compose project pins what was restored; `guard snapshot`, before the next deploy, takes the pin out"


def observed(plan: HostPlan, facts: HostFacts, known: HostResult | None) -> HostResult:
    """How one host stands. PLANNED: still to be done. A host that could not be looked at is UNREACHABLE."""
    backup = known.backup_tag if known else None
    downtime = known.downtime_s if known else None
    notice = known.notice if known else None

    def result(state: HostState, error: str | None = None, pinned: str | None = None) -> HostResult:
        return HostResult(plan.host, state, plan.from_, plan.to, backup, downtime, error, notice or pinned)

    if facts.unreachable:
        return result(HostState.UNREACHABLE, facts.problem)
    if plan.to is None:
        return result(HostState.SKIPPED, plan.problem or None)
    if facts.problem:
        return result(HostState.FAILED, facts.problem)
    if plan.from_ is not None and plan.from_.image_id == plan.to.image_id:
        return result(HostState.UNCHANGED)
    running = facts.running
    if running is not None and running.image.image_id == plan.to.image_id and running.status == "running":
        return result(HostState.RESTORED, pinned=PINNED if running.pin else None)
    expected = {plan.to.image_id, plan.from_.image_id if plan.from_ else ""}
    if running is not None and running.image.image_id not in expected:
        return result(HostState.SKIPPED, deployed_since(running))
    return result(HostState.PLANNED)


def deployed_since(running: ContainerFacts) -> str:
    """Why a host that runs neither of its two images is not touched."""
    return f"{running.image.image} runs there now: somebody deployed since, so it is left alone"


def gone(plan: HostPlan) -> HostFacts:
    """What is known of a host that a plan names and the inventory does not any more."""
    return HostFacts(plan.host, plan.container, problem=f"{plan.host} is no longer in the inventory")


def credited(plan: Plan, result: HostResult) -> HostResult:
    """A result of a later run of one rollback. A host that was to change and now runs its target was restored by it,
    whichever of its runs did that.
    """
    wanted = plan.hosts[result.host]
    if not wanted.changes or result.state not in (HostState.RESTORED, HostState.UNCHANGED):
        return result
    tag = result.backup_tag or plan.backup_tag
    return replace(result, state=HostState.RESTORED, from_=wanted.from_, backup_tag=tag)


def left_to_do(results: Mapping[str, HostResult], again: bool = False) -> tuple[str, ...]:
    """Hosts that a resumed run has to touch, in order. An unreachable host is tried again. ``again``: also those that
    are restored, for a hook after the swap may not have run."""
    left = (HostState.PLANNED, HostState.UNREACHABLE, *((HostState.RESTORED,) if again else ()))
    return tuple(host for host, r in results.items() if r.state in left)


def narrowed(plan: Plan, hosts: tuple[str, ...]) -> Plan:
    """The same plan for fewer hosts; empty batches vanish."""
    wanted = set(hosts)
    batches = tuple(kept for batch in plan.batches if (kept := tuple(h for h in batch if h in wanted)))
    return replace(plan, batches=batches, hosts={host: p for host, p in plan.hosts.items() if host in wanted})
