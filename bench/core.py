"""``python -m bench core [--cycles 2000000]``: how many check cycles a minute the pure core simulates.

A cycle is one observation taken in: the target's state machine, the service's quorum, and the step a watch takes. Nothing
is measured, stored or logged.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from time import process_time

from bench.figures import Row, Table, machine
from guard.decide.thresholds import TargetStatus, Thresholds, observe
from guard.decide.watch import Step, next_step
from guard.model import Observation, State, TargetKey
from guard.service.counting import Counters

TARGETS, HOSTS = 100, 5
GOAL = 2_000_000
STATES = (State.HEALTHY,) * 90 + (State.UNHEALTHY,) * 7 + (State.UNKNOWN,) * 2 + (State.DEGRADED,)


def measure(cycles: int) -> Table:
    keys = [TargetKey(f"service-{number // HOSTS}", "http", f"host-{number % HOSTS}") for number in range(TARGETS)]
    history = _history(keys, 20_000)
    rows = []
    for name, thresholds in (("rows only", Thresholds()), ("rows and flapping", Thresholds(window=10, flaps=5))):
        alone = _per_minute(cycles, _observe_only(history, thresholds, cycles))
        whole = _per_minute(cycles, _whole(history, keys, thresholds, cycles))
        rows.append(Row(f"state machine, {name}", _shown(alone), _shown(GOAL), f"{alone / GOAL:.0f} times"))
        rows.append(
            Row(f"with quorum and the watch's step, {name}", _shown(whole), _shown(GOAL), f"{whole / GOAL:.1f} times")
        )
    said = (f"{cycles} cycles each over {TARGETS} targets of {TARGETS // HOSTS} services; 7 % of the checks fail.",)
    return Table("Core: simulated check cycles a minute", ("", "guard", "goal", "ratio"), tuple(rows), said)


def _history(keys: Sequence[TargetKey], length: int) -> list[Observation]:
    """The same in every run."""
    random, at = Random(4), datetime(2026, 1, 1, tzinfo=UTC)  # noqa: S311 # no secret, only a history
    return [Observation(keys[n % len(keys)], random.choice(STATES), 0.01, "because", at) for n in range(length)]


def _observe_only(history: Sequence[Observation], thresholds: Thresholds, cycles: int) -> float:
    statuses = {observation.target: TargetStatus() for observation in history}
    began = process_time()
    for _ in range(cycles // len(history)):
        for observation in history:
            statuses[observation.target], _ignored = observe(statuses[observation.target], observation, thresholds)
    return process_time() - began


def _whole(history: Sequence[Observation], keys: Sequence[TargetKey], thresholds: Thresholds, cycles: int) -> float:
    counters = Counters(dict.fromkeys(keys, thresholds), dict.fromkeys({key.service for key in keys}, "50% hosts"))
    asked_at: dict[str, float] = {}
    began, now = process_time(), 0.0
    for _ in range(cycles // len(history)):
        for observation in history:
            now += 0.01
            counters.take(observation)
            service = observation.target.service
            failed, asked = counters.failed(service), asked_at.get(service)
            step = next_step(now, failed=failed, acting=False, critical=True, asked_at=asked, refusing=())
            if step is Step.ASK:
                asked_at[service] = now
                counters.reset(service)
    return process_time() - began


def _per_minute(cycles: int, seconds: float) -> float:
    return cycles / seconds * 60


def _shown(per_minute: float) -> str:
    return f"{per_minute / 1e6:.1f} million"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench core", description=__doc__)
    parser.add_argument("--cycles", type=int, default=1_000_000)
    asked = parser.parse_args(arguments)
    print(machine(), "", *measure(asked.cycles).lines(), sep="\n")
    return 0
