"""``python -m bench [restore | forks | checks | core]``: every figure in one run, or one subject with options of its own.

Everything takes less than ten minutes on an idle machine with two cores; ``restore`` on 1 to 100 hosts 25, ``forks`` 15.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterable

from bench import checks, core, forks, idle, restore, schedule
from bench.figures import Table, machine

RESTORE_S = 270.0  # no further round is begun after this long


def main() -> int:
    """Exit code 1 only when something could not be measured at all."""
    alone = {"restore": restore.main, "forks": forks.main, "checks": checks.main, "core": core.main}
    if sys.argv[1:2] and sys.argv[1] in alone:
        return alone[sys.argv[1]](sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--repeat", type=int, default=3, help="rounds of restores")
    asked = parser.parse_args()
    began = time.monotonic()
    print(f"Measured on: {machine()}", flush=True)
    parts: list[Callable[[], Iterable[Table]]] = [
        lambda: [core.measure(cycles=500_000)],
        lambda: [schedule.measure(targets=200, seconds=15.0)],
        lambda: [idle.measure(interval=30.0, rounds=3)],
        lambda: restore.measure(asked.hosts, asked.repeat, time.monotonic() + RESTORE_S, _say),
    ]
    code = 0
    for part in parts:
        try:
            for table in part():
                print("", *table.lines(), sep="\n", flush=True)
        except Exception:  # noqa: BLE001 - shown with its traceback; the other parts are measured all the same
            traceback.print_exc()
            code = 1
    print(f"\nAll of it took {time.monotonic() - began:.0f} s. Quote the ratios: the seconds are this machine's.")
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
