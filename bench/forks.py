"""``python -m bench forks [--hosts 10 30 100] [--forks 1 2 5 10 20 50]``: how many hosts to work on at a time.

For every number of hosts one fleet, on which guard restores with each number of forks in turn. Told are the time from
the decided plan to the last host, the longest and the middle downtime of a host by the module's own clock, and the
peak memory of the control node. ``guard.rollback.forks.default_forks`` is the rule that was read off this table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.figures import Spread, Table, machine
from bench.memory import Peak
from bench.restore import SHARED_FROM
from bench.ways import BAD, PORT, Ways
from guard.demo.fleet import Fleet
from guard.rollback.forks import default_forks

MINUTES = 12.0


def measure(
    hosts: Sequence[int], forks: Sequence[int], repeat: int, until: float, say: Callable[[str], None]
) -> Iterator[Table]:
    """No further round is begun after ``until`` (monotonic seconds), but every number of hosts gets one."""
    for size in hosts:
        shared = size >= SHARED_FROM
        with Fleet(size, shared_engine=shared) as fleet, tempfile.TemporaryDirectory(prefix="guard-bench-") as name:
            ways = Ways(fleet, Path(name))
            tried = [number for number in forks if number <= size]
            took: dict[int, list[float]] = {number: [] for number in tried}
            down: dict[int, list[float]] = {number: [] for number in tried}
            peaks: dict[int, list[Peak]] = {number: [] for number in tried}
            for turn in range(repeat):
                if turn and time.monotonic() > until:
                    break
                for number in tried if turn % 2 == 0 else reversed(tried):
                    say(f"{size} hosts, {number} forks, round {turn + 1} of {repeat}")
                    fleet.deploy(BAD, port=PORT)
                    fleet.wait_healthy(PORT, timeout=60)
                    ways.forks = number
                    ways.peak = peaks[number].append
                    one = ways.guard()
                    assert one.run is not None
                    took[number].append(one.run)
                    down[number] += one.module_downtime
        rows = tuple(
            (
                f"{number}{' (chosen)' if number == default_forks(size) else ''}",
                Spread.of(took[number]).shown(),
                f"{median(down[number]):.3g} s",
                f"{max(down[number]):.3g} s",
                f"{max(peak.megabytes for peak in peaks[number]):.0f} MB",
            )
            for number in tried
        )
        where = f"Forks on {size} hosts{', one engine' if shared else ''}"
        yield Table(where, ("forks", "plan to last host", "downtime, middle", "longest", "memory"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench forks", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--forks", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50])
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="no further round is begun after so long")
    asked = parser.parse_args(arguments)
    print(f"Measured on: {machine()}", flush=True)
    began = time.monotonic()
    until = began + asked.minutes * 60
    for table in measure(asked.hosts, asked.forks, asked.repeat, until, lambda text: print(text, file=sys.stderr)):
        print("", *table.lines(), sep="\n", flush=True)
    print(f"\nAll of it took {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
