"""``python -m bench restore [--hosts 1 10 30 100] [--repeat N]``: every way to put the previous image back, in turns.

A round takes every way once for its time alone, and once more for the downtime while a few hosts are asked every 10 ms
from outside: the asking takes part of a small machine. The plain playbooks are slow, so they are asked every 50 ms in
the same run; from 30 hosts on they run once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bench import community
from bench.figures import Spread, Table, machine
from bench.memory import Peak
from bench.ways import BAD, GOOD, PORT, NotArmed, Took, Ways
from guard.demo.fleet import Fleet
from guard.rollback.forks import default_forks

SHARED_FROM = 50  # hosts: so many engines of their own do not fit a small machine
MINUTES = 20.0  # no further round is begun after so long
_ASKED_HOSTS = 3
_PLAIN_TO, _PLAIN_ONCE_FROM = 200, 30  # hosts
_HOST_NETWORK_TO = 10


@dataclass(frozen=True, slots=True)
class Way:
    """``slow``: a plain playbook. ``timed`` and ``asked``: what a round measures of it."""

    what: str
    restore: Callable[[], Took]
    slow: bool = False
    timed: bool = True
    asked: bool = True
    host_network: bool = False


@dataclass(slots=True)
class Measured:
    """Seconds. ``downtime``: of each asked host, from outside; ``module``: by the module itself."""

    wall: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)
    downtime: list[float] = field(default_factory=list)
    module: list[float] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)


COMMUNITY, COMMANDS = "plain playbook, community.docker", "plain playbook, `command: docker`"
ARMED = "guard, armed"
OURS = ("guard, plan to last host", "guard, armed", "guard, whole command")
GUARD, GUARD_HOST = "guard rollback", "guard rollback, host network"
BY_HAND, TOGETHER, HAND_HOST = "by hand, one host at a time", "by hand, as many at once", "by hand, host network"
COLD, WARM, TWICE = "bare SSH, one call, cold", "bare SSH, one call, warm", "bare SSH, prepare all, then swap"


def ways_of(ways: Ways) -> list[Way]:
    """What is compared on a fleet, in the order of a first round."""
    size = len(ways.fleet.hosts)
    plain = [Way(COMMUNITY, ways.community, slow=True), Way(COMMANDS, ways.commands, slow=True)]
    hand = [Way(BY_HAND, ways.by_hand, timed=False)]
    together = [Way(TOGETHER, ways.by_hand_together, timed=False)] if size > 1 else []
    network = [
        Way(GUARD_HOST, ways.guard, timed=False, host_network=True),
        Way(HAND_HOST, ways.by_hand, timed=False, host_network=True),
    ]
    return [
        *(plain if size < _PLAIN_TO else []),
        Way(GUARD, ways.guard),
        Way(ARMED, ways.armed, asked=False),  # it is down already: by the module's own clock only
        *hand,
        *together,
        Way(COLD, ways.ssh_cold),
        Way(WARM, ways.ssh_warm),
        Way(TWICE, ways.ssh_twice),
        *(network if size <= _HOST_NETWORK_TO else []),
    ]


class Bench:
    """One fleet, and what was measured on it."""

    def __init__(self, ways: Ways, folder: Path) -> None:
        self.ways = ways
        self._folder = folder
        self._fleet = ways.fleet
        self.list = ways_of(ways)
        self.measured = {way.what: Measured() for way in self.list}

    def round(self, number: int, say: Callable[[str], None]) -> None:
        """Every way once; each round begins with another."""
        turn = number % len(self.list)
        for way in (*self.list[turn:], *self.list[:turn]):
            if way.slow and number and len(self._fleet.hosts) >= _PLAIN_ONCE_FROM:
                continue
            say(f"  {way.what}")
            if way.slow:
                self._slow(way)
                continue
            if way.timed:
                try:
                    self._note(way, self._restored(way))
                except NotArmed:
                    say("    not armed when the threshold came: left out")
            if way.asked:
                with self._asking(way, 10):
                    took = self._restored(way, deployed=True)
                self.measured[way.what].module += took.module_downtime

    def weigh(self, say: Callable[[str], None]) -> None:
        """One more restore by guard, for the memory of the control node."""
        say("  memory of the control node")
        measured = self.measured[GUARD]

        self.ways.peak = measured.peaks.append
        try:
            self._restored(next(way for way in self.list if way.what == GUARD))
        finally:
            self.ways.peak = None

    def _slow(self, way: Way) -> None:
        with self._asking(way, 50):
            took = self._restored(way, deployed=True)
        self._note(way, took)

    def _note(self, way: Way, took: Took) -> None:
        measured = self.measured[way.what]
        measured.wall.append(took.wall)
        if took.run is not None:
            measured.run.append(took.run)
        if not way.asked:
            measured.module += took.module_downtime

    def _restored(self, way: Way, *, deployed: bool = False) -> Took:
        if not deployed:
            self._deploy(way)
        took = way.restore()
        self._require(way)
        return took

    def _deploy(self, way: Way) -> None:
        """Both images are good: only then is the gap in good answers the swap's own."""
        if way.host_network:
            for host in self._fleet.hosts:
                listen = {"LISTEN": f"{host.address}:{PORT}"}
                self._fleet.deploy(BAD, port=None, env=listen, args=["--network=host"], hosts=[host])
        else:
            self._fleet.deploy(BAD, port=PORT)
        self._fleet.wait_healthy(PORT, timeout=60)

    @contextmanager
    def _asking(self, way: Way, every_ms: int) -> Iterator[None]:
        self._deploy(way)
        file = self._folder / "answers.json"
        hosts = self._fleet.hosts
        step = max(1, (len(hosts) - 1) // (_ASKED_HOSTS - 1)) if len(hosts) > 1 else 1
        addresses = [f"{host.address}:{PORT}" for host in hosts[::step][:_ASKED_HOSTS]]
        poller = subprocess.Popen([sys.executable, "-m", "bench.poller", str(file), str(every_ms), *addresses])
        time.sleep(1.0)  # good answers before, as reference
        try:
            yield
            self._fleet.wait_healthy(PORT)
            time.sleep(0.2)
        finally:
            poller.terminate()
            poller.wait()
        for times in json.loads(file.read_text()).values():
            self.measured[way.what].downtime.append(max(later - earlier for earlier, later in pairwise(times)))

    def _require(self, way: Way) -> None:
        wanted = f"{BAD if way.what in (BY_HAND, TOGETHER, HAND_HOST) else GOOD} true"
        for host in self._fleet.hosts:
            runs = host.docker("inspect", "--format", "{{.Config.Image}} {{.State.Running}}", host.container())
            if runs != wanted:
                raise RuntimeError(f"{host.name} runs {runs!r} after {way.what}")


def measure(hosts: Sequence[int], repeat: int, until: float, say: Callable[[str], None]) -> Iterator[Table]:
    """At least one round per size; no further one is begun after ``until`` (monotonic seconds)."""
    for size in hosts:
        shared = size >= SHARED_FROM
        with Fleet(size, shared_engine=shared) as fleet, tempfile.TemporaryDirectory(prefix="guard-bench-") as name:
            bench = Bench(Ways(fleet, Path(name)), Path(name))
            for number in range(repeat):
                if number and time.monotonic() > until:
                    break
                say(f"restore on {size} hosts, round {number + 1} of {repeat}")
                bench.round(number, say)
            bench.weigh(say)
        yield from _tables(size, shared, bench.measured)


def _tables(size: int, shared: bool, measured: dict[str, Measured]) -> Iterator[Table]:
    where = f"{size} host{'s' if size > 1 else ''}{', one engine' if shared else ''}, {default_forks(size)} at a time"
    yield _times(where, measured)
    yield _downtimes(where, measured)
    most = max(measured[GUARD].peaks, key=lambda peak: peak.megabytes)
    memory = (("guard, its run and ansible", f"{most.megabytes:.0f} MB", str(most.processes)),)
    yield Table(f"Restore on {where}: the control node", ("", "peak memory (PSS)", "processes then"), memory)


def _times(where: str, measured: dict[str, Measured]) -> Table:
    """Every way's time, and guard's three against it."""
    guard, armed = measured[GUARD], measured[ARMED]
    ours = (guard.run, armed.run, guard.wall)
    others = [(what, m.wall) for what, m in measured.items() if m.wall and what not in (GUARD, ARMED)]
    rows = [(what, Spread.of(wall).shown(), *(_than(wall, mine) for mine in ours)) for what, wall in others]
    rows += [(what, Spread.of(mine).shown(), "", "", "") for what, mine in zip(OURS, ours, strict=True) if mine]
    return Table(f"Restore on {where}: time", ("", "time", *(f"vs {what}" for what in OURS)), tuple(rows), _SAID)


def _downtimes(where: str, measured: dict[str, Measured]) -> Table:
    rows = []
    for what, one in measured.items():
        base = measured.get(HAND_HOST) if what in (GUARD_HOST, HAND_HOST) else measured[BY_HAND]
        if one.downtime and base is not None:
            ratio = Spread.of(one.downtime).middle / Spread.of(base.downtime).middle
            rows.append((what, Spread.of(one.downtime).shown(), f"{ratio:.2f} times by hand"))
    inside = {f"{GUARD}, by the module's own clock": GUARD, f"{ARMED}, by the module's own clock": ARMED}
    rows += [
        (what, Spread.of(measured[way].module).shown(), "") for what, way in inside.items() if measured[way].module
    ]
    return Table(f"Restore on {where}: downtime of a host", ("", "downtime", "ratio"), tuple(rows), _SAID_DOWN)


def _than(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """guard against this way, said so that it cannot be read the wrong way round."""
    if not ours:
        return "-"
    ratio = Spread.of(theirs).middle / Spread.of(ours).middle
    return f"{ratio:.1f} times faster" if ratio > 1 else f"takes {1 / ratio:.2f} times as long"


_SAID = (
    "guard's first time is from the decided plan to the last host's result, armed from the decision at the threshold.",
    "Plain playbooks: six tasks (inspect, tag, stop, remove, run, verify), default settings, no facts gathered.",
    "guard's whole command has more in it: its own start, the inventory, a look at every host, the record, a round of",
    "all checks (verify_for: 0s). Every restore by the module waits until the new container has stayed up (0.25 s).",
)
_SAID_DOWN = (
    f"Longest gap in good answers, asked every 10 ms (plain playbooks: 50 ms) over fresh connections, of {_ASKED_HOSTS} hosts;",
    "published port on a bridge, unless it says host network. By hand: stop and start by API of the same container.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench restore", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10, 30, 100])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="no further round is begun after so long")
    asked = parser.parse_args(arguments)
    print(f"Measured on: {machine()}, community.docker {community.version()}", flush=True)
    began = time.monotonic()
    for table in measure(
        asked.hosts, asked.repeat, began + asked.minutes * 60, lambda text: print(text, file=sys.stderr, flush=True)
    ):
        print("", *table.lines(), sep="\n", flush=True)
    print(f"\nAll of it took {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
