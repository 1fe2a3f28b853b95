"""Going back: a host failed, and ``on_batch_failure`` is ``revert``, so every host is to run what it ran before.

Facts decide, as always: what a host runs now, not what the journal says it should.

Invariants (hypothesis, ``tests/unit/decide/test_revert.py``):
- every host that was to change is looked at, and none is left out of the result;
- every host that can be looked at ends on one of its own two images, and on the earlier one when putting back worked;
- a host that somebody else has deployed to since is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from guard.decide.recover import deployed_since, gone
from guard.model import HostFacts, HostPlan, HostResult, HostState, Image, Phase, Plan, Rollback

_FAILED = (HostState.FAILED, HostState.REVERTED)
PUT_BACK = "put back: "  # how the error of a host begins that was restored, and then given back what it had
_STOPPED = ("exited", "created", "dead")


def is_due(plan: Plan, results: Mapping[str, HostResult]) -> bool:
    """Whether a host of a batch has failed and the plan says to go back then. Unreachable is not failed."""
    return plan.on_batch_failure == "revert" and any(
        results[host].state in _FAILED for host in hosts_to_change(plan) if host in results
    )


def goes_back(rollback: Rollback, plan: Plan, results: Mapping[str, HostResult]) -> bool:
    """Which way a rollback is to be resumed: back when it had turned round, or would have. ``results``: what is certain
    of its hosts. One that ended otherwise never turns round later: its hosts were verified, or judged by a person."""
    if rollback.phase in (Phase.REVERTING, Phase.REVERTED):
        return True
    return rollback.ended_at is None and is_due(plan, results)


def hosts_to_change(plan: Plan) -> tuple[str, ...]:
    return tuple(host for batch in plan.batches for host in batch)


def inverse(
    plan: Plan,
    facts: Mapping[str, HostFacts],
    known: Mapping[str, HostResult],
    backup_tag: str,
    *,
    again: bool = False,
) -> Plan:
    """The plan that puts back what is not as it was: one batch, each host on its own. ``backup_tag`` must be another
    than the plan's, for it will name another image. ``again``: also hosts that are as they were, for their hooks: a run
    that was cut off may have left one of them drained."""
    hosts = {
        name: HostPlan(name, one.container, one.to, one.from_, "revert")
        for name, one in _changing(plan).items()
        if name in facts and _is_off(one, facts[name], known.get(name), again)
    }
    return Plan(plan.service, plan.playbook, backup_tag, (tuple(hosts),) if hosts else (), hosts, "continue")


def untouched(
    plan: Plan, facts: Mapping[str, HostFacts], known: Mapping[str, HostResult], why: str, *, again: bool = False
) -> dict[str, HostResult]:
    """How the hosts stand that nothing has to be put back on (those of ``inverse`` are left out)."""
    off = inverse(plan, facts, known, plan.backup_tag, again=again).hosts
    results = dict(known)
    for name, one in _changing(plan).items():
        if name not in off:
            seen = facts.get(name) or gone(one)
            results[name] = _as_it_is(one, seen, known.get(name), why)
    return {name: result for name, result in results.items() if name not in off}


def put_back(plan: HostPlan, known: HostResult | None, result: HostResult, why: str) -> HostResult:
    """A result of the inverse run, as the record tells it: in terms of the rollback that was taken back."""
    told = known or HostResult(plan.host, HostState.PLANNED)
    times = [t for t in (told.downtime_s, result.downtime_s) if t is not None]
    told = replace(told, from_=plan.from_, to=plan.to, downtime_s=sum(times) if times else None)
    if result.state is HostState.UNCHANGED and told.state in (HostState.PLANNED, HostState.SKIPPED):
        return replace(told, state=HostState.SKIPPED, error=told.error or f"not touched: {why}")
    if result.state in (HostState.RESTORED, HostState.UNCHANGED) or (
        result.state is HostState.REVERTED and _id(result.from_) == _id(plan.from_)
    ):
        failed_itself = told.state in _FAILED and told.error
        return replace(told, state=HostState.REVERTED, error=told.error if failed_itself else PUT_BACK + why)
    if result.state is HostState.REVERTED:
        runs = plan.to.image if plan.to else "the restored image"
        error = f"could not be put back, {runs} runs on: {result.error or 'no reason given'}"
        return replace(told, state=HostState.RESTORED, error=error)
    if result.state is HostState.UNREACHABLE:
        return replace(told, state=HostState.UNREACHABLE, error=result.error)
    return replace(told, state=HostState.FAILED, error=f"could not be put back: {result.error or 'no reason given'}")


def _changing(plan: Plan) -> dict[str, HostPlan]:
    """Also those that were out of reach when it was planned and got their target later."""
    return {name: one for name, one in plan.hosts.items() if one.changes}


def _is_off(plan: HostPlan, facts: HostFacts, known: HostResult | None, again: bool) -> bool:
    """Whether the host is on its later image, or between the two."""
    if facts.problem:
        return False
    if facts.running is None:
        return True
    image_id, status = facts.running.image.image_id, facts.running.status
    if image_id == _id(plan.to) or (again and image_id == _id(plan.from_)):
        return True
    skipped = known is not None and known.state is HostState.SKIPPED
    return image_id == _id(plan.from_) and status in _STOPPED and not skipped


def _as_it_is(plan: HostPlan, facts: HostFacts, known: HostResult | None, why: str) -> HostResult:
    told = replace(known or HostResult(plan.host, HostState.PLANNED), from_=plan.from_, to=plan.to)
    if facts.unreachable:
        return replace(told, state=HostState.UNREACHABLE, error=facts.problem)
    if facts.problem:
        return replace(told, state=HostState.FAILED, error=facts.problem)
    running = facts.running
    if running is not None and running.image.image_id != _id(plan.from_):
        return replace(told, state=HostState.SKIPPED, error=deployed_since(running))
    if told.state in _FAILED and told.error:
        return told
    if told.state is HostState.RESTORED:
        return replace(told, state=HostState.REVERTED, error=PUT_BACK + why)
    kept = told.error if told.state is HostState.SKIPPED else None
    return replace(told, state=HostState.SKIPPED, error=kept or f"not touched: {why}")


def _id(image: Image | None) -> str:
    return image.image_id if image is not None else ""
