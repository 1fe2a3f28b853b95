"""What a figure is: a median with its spread, or a ratio of two; and the one table they are printed in."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of ``count`` measurements, all in the same unit."""

    middle: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """ValueError when nothing was measured."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(median(values), min(values), max(values), len(values))

    def shown(self, unit: str = "s") -> str:
        return f"{_number(self.middle)} {unit} ({_number(self.low)} - {_number(self.high)}, n={self.count})"


class Row(NamedTuple):
    """One line of a table of four columns. ``ratio`` is what to quote: how many times less, or which part of a goal or theory."""

    what: str
    ours: str
    other: str = ""
    ratio: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """``said`` are the sentences without which the figures could be misread."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    said: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        cells = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        padded = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        rule = "  ".join("-" * width for width in widths)
        return [self.title, "", padded[0], rule, *padded[1:], *(f"  {sentence}" for sentence in self.said)]


def times(other: Sequence[float], ours: Sequence[float]) -> str:
    """The ratio of two medians: how many times the other takes."""
    ours_middle, other_middle = Spread.of(ours).middle, Spread.of(other).middle
    return f"{other_middle / ours_middle:.1f} times" if ours_middle > 0 else "-"


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(percent / 100 * len(ordered)) - 1))]


def machine() -> str:
    """One line: what these figures were measured on, and how busy it was at the start."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    system = re.search(r'^PRETTY_NAME="?([^"\n]+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    return (
        f"{len(os.sched_getaffinity(0))} CPUs ({found[1].strip() if found else platform.machine()}), {memory:.0f} GiB, "
        f"{system[1] if system else platform.system()}, Python {platform.python_version()}, "
        f"ansible-core {version('ansible-core')}, load average {os.getloadavg()[0]:.1f}"
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
