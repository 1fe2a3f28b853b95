"""From a plan to a playbook run and back: variables in, per-host results out, each on record as it comes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

from guard.errors import GuardError, StateError
from guard.model import (
    ComposeUnit,
    ContainerUnit,
    Host,
    HostFacts,
    HostPlan,
    HostResult,
    HostState,
    Lease,
    Phase,
    Plan,
    Rollback,
    SwarmUnit,
    Unit,
)
from guard.report.documents import image_document, rollback_document
from guard.rollback.run import Lost, RunHandle, adopt, start
from guard.rollback.workdir import RunSpec, run_folder
from guard.service.events import Event, Kind
from guard.service.session import Bound, Session, new_id

_FINAL = frozenset(HostState) - {HostState.PLANNED}


async def execute(session: Session, bound: Bound, rollback: Rollback, plan: Plan) -> dict[str, HostResult]:
    """Run the plan's playbook on the hosts of its batches. Returns their results; never raises for what a host did."""
    spec = spec_of(session, bound, plan, rollback.id, rollback.fence)
    artifacts = spec.folder.parent
    await asyncio.to_thread(session.store.set_phase, rollback.id, Phase.CLAIMED, str(artifacts))
    await asyncio.to_thread(write_plan, artifacts, rollback, plan)
    await asyncio.to_thread(session.store.set_phase, rollback.id, Phase.PREPARING)
    return await follow(session, rollback, await start(spec, session.early))


def spec_of(
    session: Session, bound: Bound, plan: Plan, rollback_id: str, fence: int, *, armed_s: float = 0.0
) -> RunSpec:
    """The next run of a rollback: of all its plan at once, or armed in advance and waiting for the word that long."""
    names = tuple(host for batch in plan.batches for host in batch)
    hosts = tuple(host for host in bound.hosts if host.name in names)
    return RunSpec(
        folder=run_folder(session.state_dir, rollback_id, _next_run(session.state_dir, rollback_id)),
        playbook=session.catalog.exactly(plan.playbook),
        entry="armed" if armed_s else "restore",
        hosts=hosts,
        variables={
            "guard_plans": {h.name: _host_plan(session, bound, h, rollback_id, fence, plan) for h in hosts},
            "guard_batches": [len(batch) for batch in plan.batches],
            "guard_on_batch_failure": plan.on_batch_failure,
        },
        targets={name: to.image_id for name in names if (to := plan.hosts[name].to) is not None and to.image_id},
        secrets=tuple(session.config.secrets),
        timeout_s=_longest(bound, plan),
        armed_s=armed_s,
    )


async def follow(session: Session, rollback: Rollback, handle: RunHandle) -> dict[str, HostResult]:
    """Wait for a run and put its results on record as they come."""
    arrived: asyncio.Queue[HostResult | None] = asyncio.Queue()
    recording = asyncio.create_task(_record_as_they_come(session, rollback, arrived))
    try:
        results = dict(await handle.wait(arrived.put_nowait))
    finally:
        arrived.put_nowait(None)
        await recording
    for result in results.values():
        await asyncio.to_thread(session.store.record_host, rollback.id, result)
    return results


async def adopt_run(session: Session, rollback: Rollback) -> None:
    """Wait for a run that an earlier guard started and that is still alive, and put its results on record.

    What it did is not taken from its word: the caller looks at the hosts afterwards.
    """
    if rollback.artifacts is None:
        return
    runs = sorted(Path(rollback.artifacts).glob("run-*"), key=lambda run: int(run.name.removeprefix("run-")))
    if not runs:
        return
    found = await adopt(runs[-1])
    if isinstance(found, RunHandle):
        session.log.info("the run is still alive: waiting for it", run=str(runs[-1]))
        results = await found.wait(lambda _: None)
    else:
        results = found.hosts
        if isinstance(found, Lost):
            session.log.warning("the run left no result: the hosts are looked at", run=str(runs[-1]))
            await asyncio.to_thread(session.store.set_phase, rollback.id, Phase.LOST)
    for result in results.values():
        await asyncio.to_thread(session.store.record_host, rollback.id, result)


async def pin(session: Session, bound: Bound, facts: Mapping[str, HostFacts], lease: Lease) -> dict[str, HostResult]:
    """Give the running images a guard tag on their hosts, so that no prune takes them. Results by host."""
    seen = {name: one.running for name, one in facts.items() if one.running is not None}
    hosts = tuple(host for host in bound.hosts if host.name in seen)
    if not hosts:
        return {}
    run_id = new_id("sn", session.clock.now())
    installed = session.catalog.resolve(bound.config.rollback.playbook)
    plans = {
        host.name: {
            "service": bound.name,
            **_unit_document(bound.unit_on(host), seen[host.name].name),
            "engine": session.engine_address(bound, host),
            "run_id": run_id,
            "fence": lease.fence,
        }
        for host in hosts
    }
    spec = RunSpec(
        folder=run_folder(session.state_dir, run_id, "run-1"),
        playbook=installed,
        entry="snapshot",
        hosts=hosts,
        variables={"guard_plans": plans},
        targets={host.name: seen[host.name].image.image_id for host in hosts},
        secrets=tuple(session.config.secrets),
    )
    handle = await start(spec)
    return dict(await handle.wait(lambda _: None))


def _host_plan(
    session: Session, bound: Bound, host: Host, rollback_id: str, fence: int, plan: Plan
) -> dict[str, object]:
    wanted = plan.hosts[host.name]
    if wanted.to is None:
        raise GuardError(f"{host.name} is in a batch without a target")
    return {
        "service": bound.name,
        **_unit_document(bound.unit_on(host), wanted.container),
        "engine": session.engine_address(bound, host),
        "run_id": rollback_id,
        "fence": fence,
        "target": image_document(wanted.to),
        "expect_image_id": wanted.from_.image_id if wanted.from_ is not None else None,
        "backup_tag": plan.backup_tag,
        "health_timeout_s": bound.config.rollback.health_timeout,
        "stop_timeout_s": None,
        "force": False,
    }


def _unit_document(unit: Unit, container: str) -> dict[str, object]:
    """What a playbook is told of the unit: the container's name on that host, and what it belongs to."""
    match unit:
        case ContainerUnit():
            return {"container": container}
        case ComposeUnit(project, service):
            return {"container": container, "compose": {"project": project, "service": service}}
        case SwarmUnit(service):
            return {"container": container, "swarm": {"service": service}}


def _longest(bound: Bound, plan: Plan) -> float:
    """A run that has not ended by then is cancelled: room for a slow pull, and for every batch's health wait."""
    return 900.0 + len(plan.batches) * (bound.config.rollback.health_timeout * 2 + 60.0)


async def _record_as_they_come(session: Session, rollback: Rollback, arrived: asyncio.Queue[HostResult | None]) -> None:
    swapping, rollback_id, service = False, rollback.id, rollback.service
    while (result := await arrived.get()) is not None:
        if result.state in _FINAL and not swapping:
            swapping = True
            await asyncio.to_thread(session.store.set_phase, rollback_id, Phase.SWAPPING)
        await asyncio.to_thread(session.store.record_host, rollback_id, result)
        session.tell(Event(Kind.HOST, service, result.error or "", host=result))
        session.log.info("host", id=rollback_id, host=result.host, state=result.state.value, error=result.error)


def _next_run(state_dir: Path, rollback_id: str) -> str:
    folder = state_dir / "runs" / rollback_id
    return f"run-{len(list(folder.glob('run-*'))) + 1}" if folder.is_dir() else "run-1"


def write_plan(artifacts: Path, rollback: Rollback, plan: Plan) -> None:
    """The plan as decided, readable without the store."""
    document = {
        "rollback": rollback_document(rollback),
        "batches": [list(batch) for batch in plan.batches],
        "on_batch_failure": plan.on_batch_failure,
        "backup_tag": plan.backup_tag,
        "hosts": {name: _plan_document(one) for name, one in sorted(plan.hosts.items())},
    }
    try:
        artifacts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        artifacts.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(artifacts / "plan.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
    except OSError as error:
        raise StateError(
            f"cannot write {artifacts}: {error.strerror}", hint="free some space, or name another --state-dir"
        ) from error


def _plan_document(plan: HostPlan) -> dict[str, object]:
    return {
        "container": plan.container,
        "from": image_document(plan.from_),
        "to": image_document(plan.to),
        "source": plan.source,
        "problem": plan.problem or None,
    }
