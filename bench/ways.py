"""The ways a service's previous image comes back on all hosts of one fleet, each started and timed as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench import community, image, playbooks
from bench.memory import Peak
from guard.demo.fleet import Fleet
from guard.demo.host import Host
from guard.rollback.forks import default_forks
from playbooks.parts.engine import Engine

GOOD, BAD = "web:1.0.0", "web:1.1.0"
PORT = playbooks.PORT
_BIN = Path(sys.executable).parent
_ROOT = Path(__file__).parent.parent
_MODULE = _ROOT / "playbooks/container/1.0.0/library/guard_container.py"
_LONGEST_S = 600
_MARK = "GUARD_BENCH"
# The command itself, on so many hosts at a time: a setting for that would be one nobody needs.
_GUARD = """\
import sys
from guard.rollback import workdir
forks = int(sys.argv.pop(1))
workdir.default_forks = lambda *_: forks
from guard.cli import main
sys.exit(main())
"""

_CONFIG = """\
inventory: {inventory}
defaults: {{interval: {interval:g}s}}
services:
  - name: web
    hosts: web
    container: "{{{{ container_name }}}}"
    rollback: {{playbook: container@1, verify_for: 0s, min_gap: 0s}}
    checks:
      - {{type: http, url: "http://{{{{ ansible_host }}}}:{port}/healthz", expect: {{status: 200, json: {{status: ok}}}}}}
      - {{type: docker}}
"""


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds: ``wall`` of the command; ``run`` from guard's decided plan to the last host's result."""

    wall: float
    run: float | None = None
    module_downtime: tuple[float, ...] = ()


class NotArmed(RuntimeError):
    """The machine was too busy, or the check interval too short, to be armed in time."""


class Ways:
    """One fleet with every way to restore it. ``peak``, when set, is given what each command used at most."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self._folder = folder
        self.peak: Callable[[Peak], None] | None = None
        self.forks = default_forks(len(fleet.hosts))
        self._environment = {
            "PATH": f"{_BIN}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "GUARD_CONFIG": str(folder / "guard.yml"),
            "GUARD_STATE_DIR": str(folder / "state"),
            "ANSIBLE_COLLECTIONS_PATH": str(community.collections()),
            _MARK: str(folder),
        }
        # Two intervals lie between a gate's first failed check and the threshold: time to get armed on a busy machine.
        interval = 5.0 + 0.2 * len(fleet.hosts)
        config = _CONFIG.format(inventory=fleet.inventory, port=PORT, interval=interval)
        (folder / "guard.yml").write_text(config)
        (folder / "commands.yml").write_text(playbooks.COMMANDS)
        (folder / "community.yml").write_text(playbooks.COMMUNITY)
        community.equip(fleet)
        image.load(fleet, "1.0.0", "1.1.0")
        self._image_id = fleet.hosts[0].docker("image", "inspect", "--format", "{{.Id}}", GOOD)

    # -- the ways

    def community(self) -> Took:
        return Took(self._run("ansible-playbook", "-i", str(self.fleet.inventory), "community.yml")[0])

    def commands(self) -> Took:
        return Took(self._run("ansible-playbook", "-i", str(self.fleet.inventory), "commands.yml")[0])

    def guard(self) -> Took:
        guard = (sys.executable, "-c", _GUARD, str(self.forks))
        wall, out = self._run(*guard, "rollback", "web", "--to", GOOD, "--force", "--output", "json")
        record = json.loads(out)
        run = _last_event(Path(record["artifacts"])) - seconds(record["started_at"])
        return Took(wall, run, tuple(host["downtime_s"] for host in record["hosts"].values()))

    def armed(self) -> Took:
        """A gate over a service that has turned bad: from the decision at the threshold to the last host's result.

        NotArmed when the threshold came before everything was prepared: that is no armed rollback.
        """
        self.fleet.each(lambda host: host.docker("exec", host.container(), "/bin/busybox", "rm", "/www/healthz"))
        own = {"GUARD_STATE_DIR": str(self._folder / "state-armed")}
        wall, out = self._run("guard", "gate", "web", "--for", "5m", "--output", "json", own=own, expected=3)
        record = json.loads(out)["rollbacks"][0]
        artifacts = Path(record["artifacts"])
        waiting = [
            seconds(e["at"])
            for e in _events(artifacts)
            if e["task"].startswith("Wait") and e["event"] == "runner_on_start"
        ]
        if not waiting or min(waiting) > seconds(record["started_at"]):
            raise NotArmed
        run = _last_event(artifacts) - seconds(record["started_at"])
        return Took(wall, run, tuple(host["downtime_s"] for host in record["hosts"].values()))

    def ssh_cold(self) -> Took:
        """One call does it all: no host waits until all others are prepared."""
        return self._bare(["swap"], shared=False)

    def ssh_warm(self) -> Took:
        return self._bare(["swap"], shared=True, warm=True)

    def ssh_twice(self) -> Took:
        """As guard's order demands: everything prepared on all hosts, then the swaps, over the same connections."""
        return self._bare(["prepare", "swap"], shared=True)

    def by_hand(self) -> Took:
        """Stop and start the running container by API, one host after the other."""
        return self._by_hand(workers=1)

    def by_hand_together(self) -> Took:
        """The same on as many hosts at once as guard works on."""
        return self._by_hand(workers=self.forks)

    # -- below this line nothing is for users of the class

    def _by_hand(self, workers: int) -> Took:
        def cycle(host: Host) -> None:
            engine = Engine(f"unix://{host.docker_socket}")
            container = engine.container(host.container())
            engine.stop(container, None)
            engine.start(container["Id"])
            engine.close()

        began = time.monotonic()
        with ThreadPoolExecutor(max_workers=workers) as pool:
            for done in [pool.submit(cycle, host) for host in self.fleet.hosts]:
                done.result()
        return Took(time.monotonic() - began)

    def _bare(self, modes: list[str], *, shared: bool, warm: bool = False) -> Took:
        ssh = {host.name: self._ssh(host, shared=shared) for host in self.fleet.hosts}
        asked = {
            "module": str(_MODULE),
            "forks": self.forks,
            "ssh": ssh,
            "modes": modes,
            "plans": {host.name: self._plan(host) for host in self.fleet.hosts},
        }
        file = self._folder / "bare_ssh.json"
        file.write_text(json.dumps(asked))
        if warm:
            self.fleet.each(lambda host: _quietly([*ssh[host.name], "true"]))
        try:
            return Took(self._run(sys.executable, "-m", "bench.bare_ssh", str(file))[0])
        finally:
            if shared:
                self.fleet.each(lambda host: _quietly([*ssh[host.name][:-1], "-O", "exit", host.address]))

    def _ssh(self, host: Host, *, shared: bool) -> list[str]:
        folder = self.fleet.folder
        sharing = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={folder}/%C"]
        pinned = f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        login = ["-p", str(host.ssh_port), "-i", str(folder / "keys/user"), "-l", "root"]
        return ["ssh", "-C", *(sharing if shared else []), *pinned.split(), *login, "-T", host.address]

    def _plan(self, host: Host) -> Mapping[str, object]:
        now = time.time_ns()
        return {
            "service": "bench",
            "container": host.container(),
            "run_id": f"bench-{now}",
            "fence": now,
            "target": {"image": GOOD, "image_id": self._image_id, "digest": None},
            "backup_tag": datetime.now().strftime("backup_%Y%m%d_%H%M%S"),
        }

    def _run(self, *command: str, own: Mapping[str, str] | None = None, expected: int = 0) -> tuple[float, str]:
        began = time.monotonic()
        with subprocess.Popen(
            [str(_BIN / command[0]), *command[1:]],
            cwd=_ROOT if "bench.bare_ssh" in command else self._folder,
            env={**self._environment, **(own or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                if self.peak is None:
                    out, errors = process.communicate(timeout=_LONGEST_S)
                else:
                    with Peak(process.pid, (_MARK, str(self._folder)), 0.05) as peak:
                        out, errors = process.communicate(timeout=_LONGEST_S)
                    self.peak(peak)
            finally:
                process.kill()
        took = time.monotonic() - began
        if process.returncode != expected:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}\n{out}\n{errors}")
        return took, out


def _quietly(argv: list[str]) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)


def _events(artifacts: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in next(artifacts.glob("run-*/events.jsonl")).read_text().splitlines()]


def _last_event(artifacts: Path) -> float:
    """When the last host's result of a rollback came (seconds since the epoch)."""
    return max(seconds(event["at"]) for event in _events(artifacts) if event["event"] == "runner_on_ok")


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
