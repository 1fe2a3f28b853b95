"""``python -m bench.idle [--interval 30] [--rounds 3]``: what a quiet ``guard watch`` costs.

A real watcher with 8 checks: 7 of http on a local server, and 1 of docker over SSH on a host of a throw-away fleet.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import image
from bench.figures import Row, Table, machine
from bench.server import serving
from guard.demo.fleet import Fleet

CPU_GOAL, MEMORY_GOAL_MB = 0.01, 80.0
_HEAVY = (
    ("ansible", "ansible_runner", "starlette", "uvicorn", "alembic", "sqlalchemy", "mako", "jinja2")
    + ("rich", "pydantic", "httpx", "psycopg", "structlog", "click", "yaml", "cryptography", "requests")
)  # fmt: skip
_UNWANTED = frozenset({"ansible", "ansible_runner", "starlette", "uvicorn", "alembic", "mako", "jinja2"})
_TICK = os.sysconf("SC_CLK_TCK")
_WARM_UP_S = 10.0

_SERVICE = """\
  - name: web-{number}
    critical: false
    checks: [{{type: http, url: "http://127.0.0.1:{port}/healthz"}}]
"""
_DOCKER = """\
  - name: web
    hosts: web
    container: web
    checks: [{type: docker}]
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds since the start, and memory now in MB: of the process itself, and of its living children."""

    cpu: float
    rss: float
    pss: float
    children_cpu: float
    children_pss: float
    children: tuple[str, ...]


def cost(pid: int) -> Cost:
    """Children that have ended count with the process that waited for them (proc(5): cutime, cstime)."""
    below = _descendants(pid)
    fields = _stat(pid)
    ended = sum(int(value) for value in fields[13:15]) / _TICK
    living = sum(sum(int(value) for value in _stat(child)[11:15]) for child in below) / _TICK
    return Cost(
        cpu=sum(int(value) for value in fields[11:13]) / _TICK,
        rss=_memory(pid, "Rss"),
        pss=_memory(pid, "Pss"),
        children_cpu=ended + living,
        children_pss=sum(_memory(child, "Pss") for child in below),
        children=tuple(Path(f"/proc/{child}/comm").read_text().strip() for child in below),
    )


def _stat(pid: int) -> list[str]:
    """The fields after the name: 11 user time, 12 system time, 13 and 14 those of ended children."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _memory(pid: int, what: str) -> float:
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _descendants(pid: int) -> list[int]:
    children = [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    return [found for child in children for found in (child, *_descendants(child))]


@contextmanager
def _watching(folder: Path, config: str) -> Iterator[subprocess.Popen[bytes]]:
    """``-X importtime`` writes the name of every module it loads to stderr, and costs nothing afterwards."""
    (folder / "guard.yml").write_text(config)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
    command = [sys.executable, "-X", "importtime", str(Path(sys.executable).with_name("guard")), "watch"]
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [*command, "--config", str(folder / "guard.yml"), "--state-dir", str(folder / "state")],
            env=environment,
            stdout=out,
            stderr=errors,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def _loaded(stderr: str) -> list[str]:
    """The packages of interest among the modules that were imported."""
    names = {match[1].split(".")[0] for match in re.finditer(r"^import time:.*\|\s+([\w.]+)$", stderr, re.MULTILINE)}
    return [name for name in _HEAVY if name in names]


def measure(interval: float, rounds: int) -> Table:
    with Fleet(1) as fleet, serving() as server, tempfile.TemporaryDirectory(prefix="guard-bench-") as path:
        folder = Path(path)
        image.load(fleet, "1.0.0")
        fleet.deploy("web:1.0.0")
        fleet.wait_healthy()
        services = "".join(_SERVICE.format(number=number, port=server.port) for number in range(7)) + _DOCKER
        config = f"inventory: {fleet.inventory}\ndefaults: {{interval: {interval:g}s}}\nservices:\n{services}"
        with _watching(folder, config) as process:
            # The start (imports, inventory, first look) is not idle: it is told apart, and one round goes by first.
            time.sleep(_WARM_UP_S + min(interval, 30.0))
            if process.poll() is not None:
                raise RuntimeError(f"guard watch ended: {(folder / 'stderr').read_text()[-2000:]}")
            start, began = cost(process.pid), time.monotonic()
            time.sleep(interval * rounds)
            end, passed = cost(process.pid), time.monotonic() - began
        loaded = _loaded((folder / "stderr").read_text())
        log = (folder / "stderr").read_text()
    if "healthy" not in log:
        raise RuntimeError(f"the watcher measured nothing: {log[-2000:]}")
    return _table(interval, start, end, passed, loaded)


def _table(interval: float, start: Cost, end: Cost, passed: float, loaded: Sequence[str]) -> Table:
    own, children = (end.cpu - start.cpu) / passed, (end.children_cpu - start.children_cpu) / passed
    unwanted = [name for name in loaded if name in _UNWANTED]
    rows = (
        Row("CPU, with its children", f"{own + children:.2%} of a core", f"< {CPU_GOAL:.0%}", _met(own + children, CPU_GOAL)),
        Row("  of it guard itself", f"{own:.2%} of a core"),
        Row("resident memory of guard", f"{end.rss:.0f} MB", f"< {MEMORY_GOAL_MB:.0f} MB", _met(end.rss, MEMORY_GOAL_MB)),
        Row("  its proportional share (PSS)", f"{end.pss:.0f} MB"),
        Row(f"  its children's ({', '.join(end.children) or 'none'})", f"{end.children_pss:.0f} MB"),
        Row("CPU of the start", f"{start.cpu + start.children_cpu:.1f} s"),
        Row("ansible, web and migration parts loaded", ", ".join(unwanted) or "none", "none", "missed" if unwanted else "met"),
    )  # fmt: skip
    said = (
        f"8 checks every {interval:g} s (7 http, 1 docker over a kept SSH connection), measured over {passed:.0f} s.",
        f"CPU time is counted in ticks of {1000 / _TICK:.0f} ms. Larger packages loaded: {', '.join(loaded)}.",
    )
    return Table("Idle watcher", ("", "guard watch", "goal", "part of the goal"), rows, said)


def _met(value: float, goal: float) -> str:
    return f"{value / goal:.0%}, {'met' if value < goal else 'missed'}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--interval", type=float, default=30.0, help="seconds")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    print(machine(), "", *measure(asked.interval, asked.rounds).lines(), sep="\n")


if __name__ == "__main__":
    main()
