"""``python -m bench.restore [--hosts 1 10] [--repeat N]``: ``guard rollback`` against a plain six-task playbook.

Both put the same image back on the same hosts, in turns. Each is run for its wall time alone, and for its downtime
while every host is asked every 10 ms: on 10 hosts the asking itself takes much of a small machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from bench import image
from bench.figures import Row, Spread, Table, machine, times
from guard.demo.fleet import Fleet

GOOD, BAD = "web:1.0.0", "web:1.1.0"
_BIN = Path(sys.executable).parent
_LONGEST_S = 240

_CONFIG = """\
inventory: {inventory}
services:
  - name: web
    hosts: web
    container: web
    rollback: {{playbook: container@1, verify_for: 0s, min_gap: 0s}}
    checks:
      - {{type: http, url: "http://{{{{ ansible_host }}}}:8080/healthz", expect: {{status: 200, json: {{status: ok}}}}}}
      - {{type: docker}}
"""

# As people write it, with Ansible's default settings. Two gifts: no facts are gathered, and the interpreter is known.
_NAIVE = """\
- hosts: web
  gather_facts: false
  vars:
    stamp: "{{ now(utc=true, fmt='%Y%m%d_%H%M%S') }}"
  tasks:
    - name: Inspect
      command: docker inspect --format {% raw %}{{.Image}}{% endraw %} web
      register: current
    - name: Tag
      command: docker tag {{ current.stdout }} web:backup_{{ stamp }}
    - name: Stop
      command: docker stop web
    - name: Remove
      command: docker rm web
    - name: Run
      command: docker run --detach --name web --publish 8080:8080 --restart unless-stopped web:1.0.0
    - name: Verify
      command: docker inspect --format {% raw %}{{.State.Running}}{% endraw %} web
      register: verified
      failed_when: verified.stdout != 'true'
"""


@dataclass(slots=True)
class Measured:
    """Seconds. ``wall``: of the command; ``downtime``: of each host in each polled run."""

    wall: list[float] = field(default_factory=list)
    downtime: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)  # guard's: from the decided plan to the last host's result
    swap: list[float] = field(default_factory=list)  # guard's: the restore module's own downtime of each host


class Bench:
    """One fleet with both ways to restore it."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._fleet = fleet
        self._folder = folder
        self._environment = {
            "PATH": f"{_BIN}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "GUARD_CONFIG": str(folder / "guard.yml"),
            "GUARD_STATE_DIR": str(folder / "state"),
        }
        (folder / "guard.yml").write_text(_CONFIG.format(inventory=fleet.inventory))
        (folder / "naive.yml").write_text(_NAIVE)
        image.load(fleet, "1.0.0", "1.1.0")
        self.guard, self.naive = Measured(), Measured()

    def deploy(self) -> None:
        """Both images are good: only then is the gap in good answers the swap's own."""
        self._fleet.deploy(BAD)
        self._fleet.wait_healthy()

    def once(self, *, polled: bool) -> None:
        """Both ways, one after the other."""
        for measured, restore in ((self.guard, self._guard), (self.naive, self._naive)):
            self.deploy()
            if polled:
                with self._polling(measured):
                    restore(polled)
            else:
                measured.wall.append(restore(polled))
            self._require_good()

    def _guard(self, polled: bool) -> float:
        took, out = self._run("guard", "rollback", "web", "--to", GOOD, "--force", "--output", "json")
        record = json.loads(out)
        if not polled:
            self.guard.run.append(_ended(Path(record["artifacts"])) - _time(record["started_at"]))
        self.guard.swap += [host["downtime_s"] for host in record["hosts"].values()]
        return took

    def _naive(self, _polled: bool) -> float:
        return self._run("ansible-playbook", "-i", str(self._fleet.inventory), "naive.yml")[0]

    def _run(self, *command: str) -> tuple[float, str]:
        began = time.monotonic()
        done = subprocess.run(
            [str(_BIN / command[0]), *command[1:]],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
        took = time.monotonic() - began
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return took, done.stdout

    @contextmanager
    def _polling(self, measured: Measured) -> Iterator[None]:
        file = self._folder / "answers.json"
        addresses = [f"{host.address}:8080" for host in self._fleet.hosts]
        poller = subprocess.Popen([sys.executable, "-m", "bench.poller", str(file), *addresses])
        time.sleep(1.0)  # good answers before, as reference
        try:
            yield
            time.sleep(0.5)
        finally:
            poller.terminate()
            poller.wait()
        for times_ in json.loads(file.read_text()).values():
            measured.downtime.append(max(later - earlier for earlier, later in pairwise(times_)))

    def _require_good(self) -> None:
        for host in self._fleet.hosts:
            runs = host.docker("inspect", "--format", "{{.Config.Image}} {{.State.Running}}", "web")
            if runs != f"{GOOD} true":
                raise RuntimeError(f"{host.name} runs {runs!r} after the restore")


def _ended(artifacts: Path) -> float:
    """When the last host's result of a rollback came (seconds since the epoch)."""
    lines = next(artifacts.glob("run-*/events.jsonl")).read_text().splitlines()
    return max(_time(json.loads(line)["at"]) for line in lines)


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def measure(hosts: Sequence[int], repeat: int, until: float, say: Callable[[str], None]) -> list[Table]:
    """At least one round per size; no further one is begun after ``until`` (monotonic seconds)."""
    tables = []
    for size in hosts:
        with Fleet(size) as fleet, tempfile.TemporaryDirectory(prefix="guard-bench-") as folder:
            bench = Bench(fleet, Path(folder))
            for number in range(repeat):
                if number and time.monotonic() > until:
                    break
                say(f"restore on {size} hosts, round {number + 1} of {repeat}")
                bench.once(polled=False)
                bench.once(polled=True)
        tables.append(_table(size, bench))
    return tables


def _table(size: int, bench: Bench) -> Table:
    guard, naive = bench.guard, bench.naive
    wall = Spread.of(naive.wall).shown()
    rows = (
        Row("wall time of the command", Spread.of(guard.wall).shown(), wall, times(naive.wall, guard.wall)),
        Row("from plan to last host done", Spread.of(guard.run).shown(), wall, times(naive.wall, guard.run)),
        Row(
            "downtime of a host, seen from outside",
            Spread.of(guard.downtime).shown(),
            Spread.of(naive.downtime).shown(),
            times(naive.downtime, guard.downtime),
        ),
        Row("downtime of a host, by the module", Spread.of(guard.swap).shown()),
    )
    return Table(
        f"Restore on {size} host{'s' if size > 1 else ''}", ("", "guard rollback", "six tasks", "ratio"), rows, _SAID
    )


_SAID = (
    "Six tasks: inspect, tag, stop, remove, run, verify by `command: docker …`, default settings, no facts gathered.",
    "guard's time has more in it: its own start, the inventory, a look at every host, the record, one second in which",
    "the new container must stay up, and a round of all checks (verify_for: 0s). The playbook verifies by one look.",
    "Wall times without polling. Downtime: longest gap in good answers, asked every 10 ms over fresh connections.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.restore", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args(arguments)
    print(machine())
    for table in measure(asked.hosts, asked.repeat, time.monotonic() + 480, lambda text: print(text, file=sys.stderr)):
        print("", *table.lines(), sep="\n")


if __name__ == "__main__":
    main()
