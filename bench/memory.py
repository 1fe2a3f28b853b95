"""The memory of everything a command runs on the control node, at its peak."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path

from guard.rollback import processes

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


class Peak:
    """A context: samples the proportional set size (PSS: shared pages counted once) of a process and all below it.

    ``mark`` names an environment variable's value by which processes that left the tree are found. Afterwards
    ``megabytes`` and ``processes`` are those of the greatest sample.
    """

    def __init__(self, pid: int, mark: tuple[str, str], every_s: float) -> None:
        self._pid, self._mark, self._every_s = pid, mark, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.megabytes, self.processes = 0.0, 0

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(self._every_s):
            pids = {self._pid, *processes.descendants(self._pid), *processes.marked(*self._mark)}
            sizes = [size for pid in pids if (size := _pss(pid))]
            if sum(sizes) > self.megabytes:
                self.megabytes, self.processes = sum(sizes), len(sizes)


def _pss(pid: int) -> float:
    """MB; 0 for a process that has ended."""
    with suppress(OSError):
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0
