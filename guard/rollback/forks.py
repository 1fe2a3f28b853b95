"""How many hosts a run works on at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PER_CPU = 5
_MB = 20.0  # of a worker with its ssh processes, at their peak (PSS)


def default_forks(hosts: int, cpus: int | None = None, free_mb: float | None = None) -> int:
    """How many hosts are worked on at a time: five for each processor, as far as half the free memory goes.

    Measured by ``python -m bench forks`` (docs/benchmarks.md): fewer leave a processor waiting for hosts; more don't
    shorten the whole, they only make every host's downtime longer and cost 20 MB each. Never more than hosts.
    """
    free = free_mb if free_mb is not None else _free_mb()
    return max(1, min(hosts, _PER_CPU * (cpus or len(os.sched_getaffinity(0))), int(free / 2 / _MB)))


def _free_mb() -> float:
    """What this machine, and the control group of a container, has left. What cannot be read is no limit."""
    left = [1e9]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        left.append(int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) / 1024)
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text())
        left.append((int((group / "memory.max").read_text()) - used) / 1024**2)  # "max" is no number: no limit
    return max(0.0, min(left))
