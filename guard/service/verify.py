"""Verification: after the swap the same checks must hold, from outside, for ``verify_for``."""

from __future__ import annotations

from collections.abc import Mapping

from guard.model import Observation, State, TargetKey
from guard.service.counting import Recorder, log_observation
from guard.service.session import Bound, Session
from guard.service.stop import Stop

LEAST_ROUNDS = 3  # within verify_for, however long a check's own interval is
SETTLE_S = 15.0  # how long a restored service may take to answer before the time of health must have begun
LONGEST = 3  # times verify_for: a service that keeps blipping is not verified


async def verify(session: Session, bound: Bound, changed: bool, stop: Stop, source: str = "") -> tuple[bool, str]:
    """(held, one sentence). When nothing was changed, or guard was asked to stop, one good round has to do.

    A single bad answer starts the time again; a row of failures as long as the check's threshold ends it.
    What is observed is recorded under ``source``, the ID of the rollback, and counts for nothing else.
    """
    from guard.schedule import one_round

    verify_for = bound.config.rollback.verify_for if changed else 0.0
    settle = SETTLE_S if changed else 0.0
    targets = session.build_targets(bound, session.engines)
    limits = {target.key: target.thresholds.failure for target in targets}
    rows = dict.fromkeys(limits, 0)
    recorder = Recorder(session.store, None, session.log, source)
    began = session.clock.monotonic()
    healthy_since: float | None = None
    ever = not targets
    while targets:
        latest = {o.target: o for o in await one_round(targets, session.clock)}
        for observation in latest.values():
            log_observation(session.log, observation)
            recorder.add(observation)
        await recorder.flush()
        now = session.clock.monotonic()
        bad = [o for o in latest.values() if o.state in (State.UNHEALTHY, State.UNKNOWN)]
        ever = ever or not bad
        rows = _counted(rows, latest)
        healthy_since = None if bad else healthy_since if healthy_since is not None else now
        if healthy_since is not None and (now - healthy_since >= verify_for or stop.is_set()):
            held = now - healthy_since
            return True, "verified: the same checks " + (f"held for {held:.0f} s" if held >= 1 else "were all healthy")
        crossed = ever and any(rows[key] >= limits[key] for key in rows)
        too_late = now - began >= (settle + LONGEST * verify_for if ever else settle)
        if bad and (crossed or too_late or stop.is_set()):
            return False, _failed(bad)
        await stop.within(0.25 if bad else max(0.1, min(targets[0].interval_s, verify_for / LEAST_ROUNDS)))
    return True, "no checks to verify with"


def _counted(rows: Mapping[TargetKey, int], latest: Mapping[TargetKey, Observation]) -> dict[TargetKey, int]:
    return {key: rows[key] + 1 if latest[key].state is State.UNHEALTHY else 0 for key in rows}


def _failed(bad: list[Observation]) -> str:
    told = "; ".join(f"{o.target}: {o.reason}" for o in bad[:3])
    return f"not verified: {told}" + (f" (and {len(bad) - 3} more)" if len(bad) > 3 else "")
