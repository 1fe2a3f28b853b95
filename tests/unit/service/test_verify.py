"""After a swap the same checks decide, and count as they do in a watch; in virtual time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from guard.decide.thresholds import Thresholds
from guard.model import Measurement, State, TargetKey
from guard.schedule import ScheduledTarget
from guard.service.stop import Stop
from guard.service.verify import verify
from tests.fakes import FakeProbe, LoopClock, run_virtually

LETTERS = {"h": State.HEALTHY, "d": State.DEGRADED, "u": State.UNHEALTHY, "?": State.UNKNOWN}


def verified(states: str, thresholds: Thresholds | None = None, **target: Any) -> tuple[bool, float]:
    """(held, how long it took in s) over these answers, the last one for ever; an interval of 2 s, verified for 30 s."""
    probe = FakeProbe(*(Measurement(LETTERS[letter], 0.0, letter) for letter in states))
    scheduled = ScheduledTarget(TargetKey("web", "http"), probe, 2.0, 1.0, thresholds or Thresholds(), **target)
    config = SimpleNamespace(rollback=SimpleNamespace(verify_for=30.0))
    bound = SimpleNamespace(name="web", config=config)

    async def main() -> tuple[bool, float]:
        session = SimpleNamespace(
            clock=LoopClock(),
            engines=None,
            log=structlog.get_logger(),
            build_targets=lambda *_: [scheduled],
            store=SimpleNamespace(add_observations=lambda *_: None),
        )
        held, _ = await verify(cast(Any, session), cast(Any, bound), True, Stop())
        return held, asyncio.get_running_loop().time()

    async def at_once(work: Any, *arguments: Any) -> Any:
        return work(*arguments)  # virtual time waits for no thread

    with structlog.testing.capture_logs(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "to_thread", at_once)
        return run_virtually(main())


@pytest.mark.parametrize(
    ("states", "more", "held", "took"),
    [
        ("h", {}, True, 30.0),
        ("uuuuh", {}, True, 31.0),  # it settles: nothing counts before it was healthy once
        ("u", {}, False, 15.0),
        ("u", {"initial_delay_s": 40.0}, False, 40.0),  # longer when the check says so
        ("hu", {}, False, 6.0),  # a row of three, at the check's own pace
        ("hu", {"confirm_s": 0.5}, False, 3.0),
        ("hhuhh", {}, True, 36.0),  # one bad answer starts the time again
        ("hu?u?u", {}, False, 10.0),  # unknown does not break a row
        ("hd", {}, True, 30.0),
        ("hd", {"degraded_as": State.UNHEALTHY}, False, 6.0),
        ("h" + "uh" * 20, {"thresholds": Thresholds(window=10, flaps=5)}, False, 18.0),
    ],
)
def test_a_verification_counts_as_a_watch_does(states: str, more: dict[str, Any], held: bool, took: float) -> None:
    assert verified(states, **more) == (held, pytest.approx(took, abs=0.3))
