"""Verification: after the swap the same checks must hold, from outside, for ``verify_for``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guard.model import Observation, State
from guard.service.counting import Counters, Recorder, log_observation
from guard.service.session import Bound, Session
from guard.service.stop import Stop

if TYPE_CHECKING:
    from guard.schedule import ScheduledTarget

LEAST_ROUNDS = 3  # within verify_for, however long a check's own interval is
LOOK_AGAIN_S = 0.25  # while nothing was healthy yet
SETTLE_S = 15.0  # how long a restored service may take to answer before the time of health must have begun
LONGEST = 3  # times verify_for: a service that keeps blipping is not verified


async def verify(session: Session, bound: Bound, changed: bool, stop: Stop, source: str = "") -> tuple[bool, str]:
    """(held, one sentence). When nothing was changed, or guard was asked to stop, one good round has to do.

    A single bad answer starts the time again; a target that crosses its threshold after all were healthy once ends it.
    Until then nothing counts: a restored service may settle, for a check's ``initial_delay`` when that is longer.
    What is observed is recorded under ``source``, the ID of the rollback, and counts for nothing else.
    """
    from guard.schedule import one_round

    verify_for = bound.config.rollback.verify_for if changed else 0.0
    targets = session.build_targets(bound, session.engines)
    recorder = Recorder(session.store, None, session.log, source)
    settle = max([SETTLE_S, *(target.initial_delay_s for target in targets)]) if changed else 0.0
    counters = Counters({target.key: target.thresholds for target in targets}, {bound.name: "any"})
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
        if ever:
            for observation in latest.values():
                counters.take(observation)
        healthy_since = None if bad else healthy_since if healthy_since is not None else now
        if healthy_since is not None and (now - healthy_since >= verify_for or stop.is_set()):
            held = now - healthy_since
            return True, "verified: the same checks " + (f"held for {held:.0f} s" if held >= 1 else "were all healthy")
        too_late = now - began >= (settle + LONGEST * verify_for if ever else settle)
        if bad and (counters.failed(bound.name) or too_late or stop.is_set()):
            return False, _failed(bad)
        await stop.within(_pause(targets, counters, verify_for) if ever else LOOK_AGAIN_S)
    return True, "no checks to verify with"


def _pause(targets: Sequence[ScheduledTarget], counters: Counters, verify_for: float) -> float:
    """Until the next round: as in a watch, but often enough for the time that is verified."""
    pace = min(
        target.confirm_s if target.confirm_s is not None and counters.confirming(target.key) else target.interval_s
        for target in targets
    )
    return max(0.1, min(pace, verify_for / LEAST_ROUNDS))


def _failed(bad: list[Observation]) -> str:
    told = "; ".join(f"{o.target}: {o.reason}" for o in bad[:3])
    return f"not verified: {told}" + (f" (and {len(bad) - 3} more)" if len(bad) > 3 else "")
