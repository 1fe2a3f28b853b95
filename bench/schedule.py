"""``python -m bench.schedule [--targets 200] [--seconds 15]``: start lag, and detection against its theory.

guard's own schedule, http checks and counters in this process; a server in another one that answers 500 from a known
moment on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic, process_time

from bench.figures import Row, Spread, Table, machine, percentile
from bench.server import Server, serving
from guard.checks.http import HttpProbe
from guard.decide.thresholds import Thresholds, Transition
from guard.model import Observation, State, TargetKey
from guard.schedule import Schedule, ScheduledTarget
from guard.service.counting import Counters
from guard.wiring import SystemClock

INTERVAL_S, TIMEOUT_S, THRESHOLD = 1.0, 5.0, 3


@dataclass(slots=True)
class Seen:
    """Seconds. ``begun``: when each target's measurement under way began; ``first_bad``: that of its first failure."""

    lags: list[float] = field(default_factory=list)
    begun: dict[TargetKey, float] = field(default_factory=dict)
    first_bad: dict[TargetKey, float] = field(default_factory=dict)
    check_times: list[float] = field(default_factory=list)
    bad_check_times: list[float] = field(default_factory=list)
    detected: dict[TargetKey, float] = field(default_factory=dict)
    cpu: float = 0.0


async def watch(server: Server, targets: int, seconds: float) -> tuple[Seen, float]:
    """Measure for ``seconds`` in health, turn the server bad, go on until all targets have crossed. (seen, turn)"""
    seen = Seen()
    thresholds = Thresholds(failure=THRESHOLD, warning=2)
    keys = [TargetKey(f"service-{number}", "http") for number in range(targets)]
    probe = HttpProbe(f"http://127.0.0.1:{server.port}/healthz", TIMEOUT_S)
    scheduled = [ScheduledTarget(key, probe, INTERVAL_S, TIMEOUT_S, thresholds) for key in keys]
    counters = Counters(dict.fromkeys(keys, thresholds), {key.service: "any" for key in keys})
    stop = asyncio.Event()

    def begins(key: TargetKey, lag: float) -> None:
        seen.begun[key] = monotonic()
        if key not in seen.first_bad:
            seen.lags.append(lag)

    def take(observation: Observation) -> None:
        key, now = observation.target, monotonic()
        transition = counters.take(observation)
        bad = observation.state is State.UNHEALTHY
        (seen.bad_check_times if bad else seen.check_times).append(now - seen.begun[key])
        if bad:
            seen.first_bad.setdefault(key, seen.begun[key])
        if transition is Transition.THRESHOLD:
            seen.detected[key] = now
            if len(seen.detected) == targets:
                stop.set()

    async def turn() -> float:
        await asyncio.sleep(seconds)
        return server.turn_bad()

    cpu = process_time()
    schedule = asyncio.create_task(Schedule(scheduled, SystemClock(), on_lag=begins).run(take, stop))
    began = monotonic()
    turned = await turn()
    async with asyncio.timeout(30):
        await schedule
    seen.cpu = (process_time() - cpu) / (monotonic() - began)
    return seen, turned


def measure(targets: int, seconds: float) -> Table:
    with serving() as server:
        seen, turned = asyncio.run(watch(server, targets, seconds))
    check_time = Spread.of(seen.bad_check_times).middle
    theory = (THRESHOLD - 1) * INTERVAL_S + check_time
    detection = [seen.detected[key] - seen.first_bad[key] for key in seen.detected]
    from_turn = [at - turned for at in seen.detected.values()]
    waited = theory + INTERVAL_S / 2
    lag_50, lag_99 = percentile(seen.lags, 50), percentile(seen.lags, 99)
    rows = (
        Row("start lag, 50th percentile", f"{lag_50 * 1000:.1f} ms", "0", f"{lag_50 / INTERVAL_S:.2%} of the interval"),
        Row("start lag, 99th percentile", f"{lag_99 * 1000:.1f} ms", "0", f"{lag_99 / INTERVAL_S:.2%} of the interval"),
        Row(
            "threshold, from the first failed check's start",
            Spread.of(detection).shown(),
            f"{theory:.3f} s",
            f"{Spread.of(detection).middle / theory:.4f} times",
        ),
        Row(
            "threshold, from the moment the service turned bad",
            Spread.of(from_turn).shown(),
            f"{waited:.3f} s",
            f"{Spread.of(from_turn).middle / waited:.4f} times",
        ),
        Row("time of one check", f"{Spread.of(seen.check_times).middle * 1000:.1f} ms"),
        Row("CPU of schedule, checks and counters", f"{seen.cpu:.0%} of a core"),
    )
    said = (
        f"{len(seen.lags)} starts; the server is a process of its own on the same {os.cpu_count()} CPUs.",
        f"Theory: (threshold - 1) x interval + check time = ({THRESHOLD} - 1) x {INTERVAL_S:g} s + "
        f"{check_time * 1000:.1f} ms; from the turn, half an interval more on average.",
    )
    return Table(f"Schedule: {targets} targets every second", ("", "guard", "theory", "ratio"), rows, said)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.schedule", description=__doc__)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=15.0)
    asked = parser.parse_args(arguments)
    print(machine(), "", *measure(asked.targets, asked.seconds).lines(), sep="\n")


if __name__ == "__main__":
    main()
