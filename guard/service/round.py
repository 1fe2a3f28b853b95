"""One round of checks, now, and how a service stands by the latest that is known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from guard.decide.thresholds import TargetStatus, observe
from guard.model import State, TargetKey
from guard.schedule import ScheduledTarget, one_round
from guard.service.counting import log_observation
from guard.service.session import Bound, Session

FRESH_INTERVALS = 2.0  # how many intervals old a watcher's observation may be and still count as now


async def measure(session: Session, services: Sequence[Bound]) -> dict[str, dict[TargetKey, TargetStatus]]:
    """Every target of the services, measured once and at the same time. Counters of a watcher are not touched."""
    targets = [target for bound in services for target in session.build_targets(bound, session.engines)]
    return _by_service(services, await _measured(session, targets))


async def present(session: Session, services: Sequence[Bound]) -> dict[str, dict[TargetKey, TargetStatus]]:
    """A running watcher's counters where they are fresh; everything else is measured now. Never stale."""
    targets = [target for bound in services for target in session.build_targets(bound, session.engines)]
    now = session.clock.now()
    known: dict[TargetKey, TargetStatus] = {}
    for bound in services:
        stored = await asyncio.to_thread(session.store.statuses, bound.name)
        intervals = {target.key: target.interval_s for target in targets}
        for key, status in stored.items():
            age = (now - status.last.at).total_seconds() if status.last is not None else None
            if key in intervals and age is not None and age <= FRESH_INTERVALS * intervals[key]:
                known[key] = status
    measured = await _measured(session, [target for target in targets if target.key not in known])
    return _by_service(services, {**known, **measured})


async def _measured(session: Session, targets: Sequence[ScheduledTarget]) -> dict[TargetKey, TargetStatus]:
    thresholds = {target.key: target.thresholds for target in targets}
    statuses = {}
    for observation in await one_round(list(targets), session.clock):
        log_observation(session.log, observation)
        statuses[observation.target], _ = observe(TargetStatus(), observation, thresholds[observation.target])
    return statuses


def _by_service(
    services: Sequence[Bound], statuses: Mapping[TargetKey, TargetStatus]
) -> dict[str, dict[TargetKey, TargetStatus]]:
    return {b.name: {key: s for key, s in sorted(statuses.items()) if key.service == b.name} for b in services}


def exit_code(services: Mapping[str, Mapping[TargetKey, TargetStatus]]) -> int:
    """0 all healthy, 1 some unhealthy, 6 nothing unhealthy but something could not be measured."""
    states = {status.state for statuses in services.values() for status in statuses.values()}
    if State.UNHEALTHY in states:
        return 1
    return 6 if State.UNKNOWN in states else 0
