"""From a plan to a playbook run and back: variables in, per-host results out, each on record as it comes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from guard.decide.recover import credited
from guard.decide.revert import hosts_to_change
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
from guard.rollback.hooks import Hook, read_hooks
from guard.rollback.outcome import Ending
from guard.rollback.run import Lost, RunHandle, adopt, start
from guard.rollback.workdir import RunSpec, run_folder
from guard.service.events import Event, Kind
from guard.service.leases import Ours
from guard.service.session import Bound, Session, new_id

HOOK_ROOM_S = 600.0  # for each hook of a batch: a load balancer may take minutes to drain
FIRST_RUN = "run-1"
_FINAL = frozenset(HostState) - {HostState.PLANNED}


@dataclass(frozen=True, slots=True)
class Errand:
    """What one run of a rollback is for. ``name`` sets its plan file apart; ``anew``: to the hosts it is work of its
    own, under a run ID of its own; ``phases``: it moves the journal on by itself; ``wait_healthy`` False: what is put
    back need only run, for it was not healthy before either."""

    entry: str = "restore"
    name: str = ""
    anew: bool = False
    phases: bool = True
    wait_healthy: bool = True


FORWARD = Errand()
ARMED = Errand("armed")
BACK = Errand(name="-back", anew=True, phases=False, wait_healthy=False)
PREPARE = Errand("prepare")
DISCARD = Errand("discard", "-discard", phases=False)  # takes back only what this rollback itself has prepared
_SWAPS = (FORWARD, ARMED, BACK)

Told = Callable[[HostResult], HostResult]


async def execute(
    session: Session,
    bound: Bound,
    rollback: Rollback,
    plan: Plan,
    errand: Errand = FORWARD,
    told: Told | None = None,
) -> dict[str, HostResult]:
    """Run the plan's playbook on the hosts of its batches. Returns their results; never raises for what a host did.

    ``told``: how a result reads in the record, where that is not as the run says it.
    """
    spec = spec_of(session, bound, plan, rollback.id, rollback.fence, errand)
    artifacts = spec.folder.parent
    ours = Ours(session, rollback)
    await ours.confirm()
    if errand.phases:
        await asyncio.to_thread(session.store.set_phase, rollback.id, Phase.CLAIMED, str(artifacts))
    await asyncio.to_thread(write_plan, artifacts, rollback, plan, errand)
    if errand.phases:
        await asyncio.to_thread(session.store.set_phase, rollback.id, Phase.PREPARING)
    await ours.confirm()
    return await follow(session, rollback, plan, await start(spec, session.early), errand, told)


def spec_of(
    session: Session,
    bound: Bound,
    plan: Plan,
    rollback_id: str,
    fence: int,
    errand: Errand = FORWARD,
    *,
    armed_s: float = 0.0,
) -> RunSpec:
    """The next run of a rollback. ``armed_s``: how long one that is armed in advance waits for the word."""
    hooks = hooks_of(bound) if errand in _SWAPS else ()
    names = hosts_to_change(plan)
    hosts = tuple(host for host in bound.hosts if host.name in names)
    return RunSpec(
        folder=run_folder(session.state_dir, rollback_id, _next_run(session.state_dir, rollback_id)),
        playbook=session.catalog.exactly(plan.playbook),
        entry=errand.entry,
        hosts=hosts,
        variables={
            "guard_plans": {h.name: _host_plan(session, bound, h, (rollback_id, fence), plan, errand) for h in hosts},
            "guard_batches": [len(batch) for batch in plan.batches],
            "guard_on_batch_failure": plan.on_batch_failure,
            **({"guard_prepare_alone": True} if errand is PREPARE else {}),
        },
        targets={name: to.image_id for name in names if (to := plan.hosts[name].to) is not None and to.image_id},
        secrets=tuple(session.config.secrets),
        timeout_s=_longest(bound, plan),
        prepares=errand is PREPARE,
        hooks=hooks,
        others=_others(session, bound, hosts) if hooks else (),
        armed_s=armed_s,
    )


async def follow(
    session: Session,
    rollback: Rollback,
    plan: Plan,
    handle: RunHandle,
    errand: Errand = FORWARD,
    told: Told | None = None,
) -> dict[str, HostResult]:
    """Wait for a run and put its results on record as they come. LeaseLost: the service is another guard's by now."""
    later = errand is FORWARD and handle.folder.name != FIRST_RUN

    def as_told(result: HostResult) -> HostResult:
        return told(result) if told is not None else credited(plan, result) if later else result

    ours = Ours(session, rollback)
    arrived: asyncio.Queue[HostResult | None] = asyncio.Queue()
    recording = asyncio.create_task(_record_as_they_come(session, rollback, ours, arrived, errand))
    try:
        found = await handle.wait(lambda result: arrived.put_nowait(as_told(result)))
        results = {host: as_told(result) for host, result in found.items()}
    finally:
        arrived.put_nowait(None)
        await recording
    await ours.confirm()
    for result in results.values():
        await asyncio.to_thread(session.store.record_host, rollback.id, result)
    return results


def hooks_of(bound: Bound) -> tuple[Hook, ...]:
    """The service's hooks as their files are now. ConfigError when one can't be used."""
    config = bound.config.rollback.hooks
    return read_hooks(bound.name, {"before": config.before, "after": config.after})


def _others(session: Session, bound: Bound, hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """The rest of the inventory: a hook may delegate to a load balancer."""
    if bound.local:
        return ()
    names = {host.name for host in hosts}
    return tuple(host for host in session.inventory.hosts("all") if host.name not in names)


@dataclass(frozen=True, slots=True)
class Adopted:
    """What is certain of a run's results; ``cut``: it did not come to its own end, so a hook may not have run."""

    certain: Mapping[str, HostResult]
    cut: bool = False


async def adopt_run(session: Session, rollback: Rollback) -> Adopted:
    """Wait for a run that an earlier guard started and that is still alive, and put its results on record.

    What it did is not taken from its word: the caller looks at the hosts afterwards. A run that puts back speaks in
    terms of its own: it is only waited for.
    """
    if rollback.artifacts is None:
        return Adopted({})
    runs = sorted(Path(rollback.artifacts).glob("run-*"), key=lambda run: int(run.name.removeprefix("run-")))
    if not runs:
        return Adopted({})
    found = await adopt(runs[-1])
    lost = isinstance(found, Lost)
    if isinstance(found, RunHandle):
        session.log.info("the run is still alive: waiting for it", run=str(runs[-1]))
        results = await found.wait(lambda _: None)
        lost = found.result is None or found.result.ending is not Ending.FINISHED
    else:
        results = found.hosts
        if isinstance(found, Lost):
            session.log.warning("the run left no result: the hosts are looked at", run=str(runs[-1]))
            if rollback.phase is not Phase.REVERTING:
                await asyncio.to_thread(session.store.set_phase, rollback.id, Phase.LOST)
    if rollback.phase is Phase.REVERTING:
        return Adopted({}, lost)
    for result in results.values():
        await asyncio.to_thread(session.store.record_host, rollback.id, result)
    return Adopted({h: r for h, r in results.items() if not lost or r.state is not HostState.FAILED}, lost)


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
        folder=run_folder(session.state_dir, run_id, FIRST_RUN),
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
    session: Session, bound: Bound, host: Host, run: tuple[str, int], plan: Plan, errand: Errand
) -> dict[str, object]:
    wanted = plan.hosts[host.name]
    if wanted.to is None:
        raise GuardError(f"{host.name} is in a batch without a target")
    return {
        "service": bound.name,
        **_unit_document(bound.unit_on(host), wanted.container),
        "engine": session.engine_address(bound, host),
        "run_id": run[0] + errand.name if errand.anew else run[0],
        "fence": run[1],
        "target": image_document(wanted.to),
        "expect_image_id": wanted.from_.image_id if wanted.from_ is not None else None,
        "backup_tag": plan.backup_tag,
        "health_timeout_s": bound.config.rollback.health_timeout,
        "stop_timeout_s": None,
        "force": False,
        **({} if errand.wait_healthy else {"wait_healthy": False}),
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
    hooks = bound.config.rollback.hooks
    around = HOOK_ROOM_S * sum(hook is not None for hook in (hooks.before, hooks.after))
    return 900.0 + len(plan.batches) * (bound.config.rollback.health_timeout * 2 + 60.0 + around)


async def _record_as_they_come(
    session: Session, rollback: Rollback, ours: Ours, arrived: asyncio.Queue[HostResult | None], errand: Errand
) -> None:
    rollback_id, service = rollback.id, rollback.service
    swapping = errand is not FORWARD
    while (result := await arrived.get()) is not None:
        await ours.confirm()
        if result.state in _FINAL and not swapping:
            swapping = True
            await asyncio.to_thread(session.store.set_phase, rollback_id, Phase.SWAPPING)
        await asyncio.to_thread(session.store.record_host, rollback_id, result)
        if errand in (FORWARD, BACK) or result.state is HostState.FAILED:
            session.tell(Event(Kind.HOST, service, result.error or "", host=result))
        session.log.info("host", id=rollback_id, host=result.host, state=result.state.value, error=result.error)


def _next_run(state_dir: Path, rollback_id: str) -> str:
    folder = state_dir / "runs" / rollback_id
    return f"run-{len(list(folder.glob('run-*'))) + 1}" if folder.is_dir() else FIRST_RUN


def write_plan(artifacts: Path, rollback: Rollback, plan: Plan, errand: Errand = FORWARD) -> None:
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
        descriptor = os.open(artifacts / f"plan{errand.name}.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
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
