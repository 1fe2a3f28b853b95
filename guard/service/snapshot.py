"""Before a deploy: record what runs on each host, pin those images, and prove that a rollback could work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from guard.decide.blame import ENOUGH
from guard.decide.service import state_of
from guard.decide.target import rejected_ids
from guard.model import HostResult, HostState, Image, Observation, Release, ReleaseState, State, TargetKey
from guard.schedule import one_round
from guard.service import ledger
from guard.service.counting import log_observation
from guard.service.execute import pin
from guard.service.leases import held
from guard.service.look import look
from guard.service.ready import HostReadiness, readiness
from guard.service.session import Bound, Session

AGAIN_S = 0.5  # between two looks at a target that fails


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``release`` is None when nothing was found running anywhere."""

    service: str
    release: Release | None
    state: State
    ready: Mapping[str, HostReadiness]
    rejected_before: tuple[str, ...] = ()

    @property
    def proven(self) -> bool:
        return bool(self.ready) and all(host.ready for host in self.ready.values())


async def snapshot(session: Session, bound: Bound, *, irreversible: bool = False) -> Snapshot:
    """LeaseHeld when another guard is at work on the service: what it leaves is what should be recorded.

    ``irreversible``: the deploy that follows cannot be undone, see ``guard.decide.crossing``. What is observed is kept:
    a gate does not blame the next release for what fails already.
    """
    async with held(session, [bound.name]) as leases:
        facts = await look(session, bound)
        images = ledger.running_images(facts)
        state = await _measured(session, bound)
        pinned = await pin(session, bound, facts, leases[bound.name])
        release = await _enter(session, bound, images, state, irreversible=irreversible)
        ready = await readiness(session, bound)
        rejected = await ledger.called_out(session, bound.name, facts)
        return Snapshot(bound.name, release, state, _with_pins(ready, pinned), rejected)


async def _measured(session: Session, bound: Bound) -> State:
    """By one round of checks. Targets that fail are measured again until it is as sure as a threshold is."""
    targets = session.build_targets(bound, session.engines)
    states: dict[TargetKey, State] = {}
    seen: list[Observation] = []
    for turn in range(ENOUGH):
        due = [t for t in targets if turn == 0 or (states[t.key] is State.UNHEALTHY and turn < t.thresholds.failure)]
        if not due:
            break
        if turn:
            await asyncio.sleep(min(AGAIN_S, *(target.interval_s for target in due)))
        found = await one_round(due, session.clock)
        states |= {one.target: one.state for one in found}
        seen.extend(found)
    for observation in seen:
        log_observation(session.log, observation)
    await asyncio.to_thread(session.store.add_observations, seen, {})
    return state_of(set(states.values()))


async def _enter(
    session: Session, bound: Bound, images: Mapping[str, Image], state: State, *, irreversible: bool
) -> Release | None:
    """Good when it is healthy now and was never rejected; what was not healthy when recorded is never a target."""
    healthy = None if state is State.UNKNOWN else state in (State.HEALTHY, State.DEGRADED)
    releases = await asyncio.to_thread(session.store.releases, bound.name)
    rejected = rejected_ids(releases) & {image.image_id for image in images.values()}
    return await ledger.record(
        session,
        bound.name,
        images,
        state=ReleaseState.GOOD if healthy and not rejected else ReleaseState.CANDIDATE,
        origin="snapshot",
        healthy=healthy,
        reason=f"snapshot: {state.value}" + ("; was rejected before" if rejected else ""),
        irreversible=irreversible,
    )


def _with_pins(ready: Mapping[str, HostReadiness], pinned: Mapping[str, HostResult]) -> dict[str, HostReadiness]:
    """A host on which the playbook could not even pin an image cannot be rolled back by it either."""
    told = {}
    for name, host in ready.items():
        result = pinned.get(name)
        if result is not None and result.state not in (HostState.UNCHANGED, HostState.RESTORED):
            problem = result.error or f"the pin could not be set: {result.state.value}"
            told[name] = replace(host, ready=False, problems=(*host.problems, problem))
        elif result is not None and result.notice:
            told[name] = replace(host, notes=(*host.notes, result.notice))
        else:
            told[name] = host
    return told
