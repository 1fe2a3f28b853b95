"""``python -m bench.load PORT TARGETS INTERVAL SECONDS``: so many http checks of one local server, in a process of their own.

guard's own schedule, probes and counters. Prints ``down`` after SECONDS, whereupon the server is to be stopped, and at the
end one line of JSON (class Load). Memory is what the process grew by from before the first target was made.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from bench.figures import percentile
from guard.checks.http import HttpProbe
from guard.decide.thresholds import Thresholds, Transition
from guard.model import Observation, State, TargetKey
from guard.schedule import Schedule, ScheduledTarget
from guard.service.counting import Counters
from guard.wiring import SystemClock

TIMEOUT_S, THRESHOLD = 5.0, 3


@dataclass(frozen=True, slots=True)
class Load:
    """Seconds; bytes. ``late``: of each target's threshold, beyond (threshold - 1) x interval after its first due start."""

    starts: int
    lag_50: float
    lag_99: float
    lag_most: float
    cpu_share: float
    cpu_per_check: float
    memory_made: float
    memory_running: float
    unhealthy_before: int
    late_50: float
    late_most: float
    not_detected: int


def _private() -> int:
    """Bytes of this process alone."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.MULTILINE)) * 1024


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def run(port: int, count: int, interval: float, seconds: float) -> Load:
    gc.collect()
    bare = _private()
    thresholds = Thresholds(failure=THRESHOLD, warning=2)
    keys = [TargetKey("web", "http", f"host-{number}") for number in range(count)]
    targets = [
        ScheduledTarget(
            key, HttpProbe(f"http://127.0.0.1:{port}/{key.host}", TIMEOUT_S), interval, TIMEOUT_S, thresholds
        )
        for key in keys
    ]
    counters = Counters(dict.fromkeys(keys, thresholds), {"web": "any"})
    gc.collect()
    made = _private()
    lags: list[float] = []
    due: dict[TargetKey, float] = {}
    first_bad: dict[TargetKey, float] = {}
    detected: dict[TargetKey, float] = {}
    early_bad = 0
    stop, down = asyncio.Event(), False

    def begins(key: TargetKey, lag: float) -> None:
        due[key] = monotonic() - lag
        if not down:
            lags.append(lag)

    def take(observation: Observation) -> None:
        nonlocal early_bad
        key = observation.target
        if observation.state is not State.HEALTHY:
            early_bad += not down
            first_bad.setdefault(key, due[key])
        if counters.take(observation) is Transition.THRESHOLD and down:
            detected[key] = monotonic() - first_bad[key] - (THRESHOLD - 1) * interval
            if len(detected) == count:
                stop.set()

    cpu, began = _cpu(), monotonic()
    schedule = asyncio.create_task(Schedule(targets, SystemClock(), on_lag=begins).run(take, stop))
    await asyncio.sleep(seconds)
    cpu, passed = _cpu() - cpu, monotonic() - began
    gc.collect()
    running = _private()
    down = True
    print("down", flush=True)
    asyncio.get_running_loop().call_later((THRESHOLD + 1) * interval + 2 * TIMEOUT_S, stop.set)
    await schedule
    late = list(detected.values()) or [float("inf")]
    return Load(
        starts=len(lags),
        lag_50=percentile(lags, 50),
        lag_99=percentile(lags, 99),
        lag_most=max(lags),
        cpu_share=cpu / passed,
        cpu_per_check=cpu / len(lags),
        memory_made=(made - bare) / count,
        memory_running=(running - bare) / count,
        unhealthy_before=early_bad,
        late_50=percentile(late, 50),
        late_most=max(late),
        not_detected=count - len(detected),
    )


if __name__ == "__main__":
    port, count, interval, seconds = sys.argv[1:]
    print(json.dumps(asdict(asyncio.run(run(int(port), int(count), float(interval), float(seconds))))), flush=True)
