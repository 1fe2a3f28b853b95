"""``python -m bench checks [--rounds 5]``: http checks beside prometheus-blackbox-exporter, and many of them on a schedule.

Both ask the same local nginx over a fresh connection for every check. Less than five minutes; needs nginx-light and
prometheus-blackbox-exporter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from bench.figures import Row, Spread, Table, machine
from bench.load import Load
from bench.peers import MissingError, blackbox, nginx
from guard.checks.http import HttpProbe
from guard.model import State

CHECKS, AT_ONCE = 4000, 50
PROBES, PROBES_AT_ONCE = 800, 8
# targets, interval, seconds of health before the server goes down
LOADS = ((200, 1.0, 8.0), (1000, 1.0, 8.0), (1000, 5.0, 11.0), (5000, 5.0, 16.0), (5000, 30.0, 31.0))
LAG_GOAL_S, MEMORY_GOAL, LATE_GOAL_S, SPEED_GOAL = 0.010, 5000.0, 0.100, 5.0


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _ask(port: int) -> float:
    """CPU seconds of one check of guard."""
    left = CHECKS

    async def work() -> None:
        nonlocal left
        probe = HttpProbe(f"http://127.0.0.1:{port}/healthz", 5.0)
        while left > 0:
            left -= 1
            measured = await probe.measure()
            if measured.state is not State.HEALTHY:
                raise RuntimeError(f"a check failed: {measured.reason}")

    begun = _cpu()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return (_cpu() - begun) / CHECKS


def speed(rounds: int) -> Table:
    """In turns, so that what else the machine does meets both. The first round of each only warms up."""
    ours, theirs = [], []
    with nginx() as (_, port), blackbox() as peer:
        target = f"http://127.0.0.1:{port}/healthz"
        for _ in range(rounds + 1):
            ours.append(asyncio.run(_ask(port)))
            begun = peer.cpu()
            peer.probe(target, PROBES, PROBES_AT_ONCE)
            theirs.append((peer.cpu() - begun) / PROBES)
    ours, theirs = ours[1:], theirs[1:]
    ratios = Spread.of([other / own for own, other in zip(ours, theirs, strict=True)])
    rows = (
        Row(
            "CPU of one check",
            Spread.of([value * 1e6 for value in ours]).shown("us"),
            Spread.of([value * 1e6 for value in theirs]).shown("us"),
            f"{ratios.middle:.1f} times less ({ratios.low:.1f} - {ratios.high:.1f})",
        ),
        Row(
            "checks per second and core",
            f"{1 / Spread.of(ours).middle:.0f}",
            f"{1 / Spread.of(theirs).middle:.0f}",
            f"goal {SPEED_GOAL:g} times: {'met' if ratios.middle >= SPEED_GOAL else 'missed'}",
        ),
    )
    said = (
        f"A fresh connection each; {rounds} rounds in turns of {CHECKS} and {PROBES}; user and system time.",
        "The exporter's includes serving the scrape that asks for the probe: that is the only way to have one.",
    )
    return Table("HTTP checks: guard and prometheus-blackbox-exporter", ("", "guard", "blackbox", "ratio"), rows, said)


def _load(targets: int, interval: float, seconds: float) -> Load:
    """RuntimeError when the load could not be measured."""
    with nginx() as (server, port):
        command = [sys.executable, "-m", "bench.load", str(port), str(targets), str(interval), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "down\n":
                raise RuntimeError(f"{' '.join(command[2:])} failed")
            server.terminate()
            found = Load(**json.loads(process.stdout.readline()))
        finally:
            process.kill()
            process.wait()
    return found


def schedules(say: bool = False) -> Table:
    rows = []
    for targets, interval, seconds in LOADS:
        if say:
            print(f"{targets} targets every {interval:g} s", file=sys.stderr, flush=True)
        found = _load(targets, interval, seconds)
        theory = 2 * interval
        rows.append(
            (
                f"{targets} / {interval:g} s",
                f"{found.lag_50 * 1000:.1f} / {found.lag_99 * 1000:.1f} / {found.lag_most * 1000:.0f} ms",
                f"{found.cpu_share:.0%}, {found.cpu_per_check * 1e6:.0f} us",
                f"{found.memory_made / 1000:.1f} / {found.memory_running / 1000:.1f} kB",
                f"+{found.late_50 * 1000:.0f} / +{found.late_most * 1000:.0f} ms ({(theory + found.late_50) / theory:.4f} times)",
                _missed(found),
            )
        )
    columns = ("targets / every", "start lag p50 / p99 / most", "CPU, per check", "memory made / running", "threshold beyond theory p50 / most", "goals")  # fmt: skip
    said = (
        f"Goals: p99 of the start lag < {LAG_GOAL_S * 1000:g} ms, < {MEMORY_GOAL / 1000:g} kB per target, every threshold"
        f" within {LATE_GOAL_S * 1000:g} ms of theory.",
        "Theory: the server is stopped; a target's first start due after that, and two intervals more. Schedule, checks and"
        " counters in one process; nginx shares the machine.",
        "Memory: what the process grew by per target, made but not started, and while it runs.",
    )
    return Table("Many targets on one core", columns, tuple(rows), said)


def _missed(found: Load) -> str:
    missed = [
        name
        for name, bad in (
            ("lag", found.lag_99 >= LAG_GOAL_S),
            ("memory", found.memory_running >= MEMORY_GOAL),
            ("detection", found.late_most >= LATE_GOAL_S or found.not_detected),
            (f"{found.unhealthy_before} checks failed in health", found.unhealthy_before),
        )
        if bad
    ]
    return f"missed: {', '.join(missed)}" if missed else "met"


def measure(rounds: int) -> Iterator[Table]:
    yield speed(rounds)
    yield schedules(say=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when a program is missing: nothing can be compared then."""
    parser = argparse.ArgumentParser(prog="python -m bench checks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    print(f"Measured on: {machine()}", flush=True)
    try:
        for table in measure(asked.rounds):
            print("", *table.lines(), sep="\n", flush=True)
    except MissingError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(f"\nAll of it took {time.monotonic() - began:.0f} s. Quote the ratios: the seconds are this machine's.")
    return 0
