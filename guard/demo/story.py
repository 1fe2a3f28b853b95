"""The whole story once: a good release, a snapshot, a bad release, a gate that puts the good one back, the record.

Every command below is the real one, run as a user would run it, against hosts that are made for it and go with it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from guard.demo.base import BaseFleet
from guard.demo.image import Behaviour
from guard.errors import GuardError

GATE_ROLLED_BACK = 3
CONFIG = """\
# The demo's own configuration: one service on three hosts, checked every second.
inventory: {inventory}
defaults: {{interval: 1s, timeout: 2s, failure_threshold: 3, warning_threshold: 2}}
services:
  - name: web
    hosts: web
    container: "{{{{ container_name }}}}"
    rollback: {{verify_for: 5s}}
    checks:
      - type: http
        url: "http://{{{{ ansible_host }}}}:{{{{ web_port }}}}/healthz"
        expect: {{status: 200, json: {{status: ok}}}}
      - type: docker
"""


class StoryFailed(GuardError):
    """A step of the demo did not end as it must. It is the demo's own failure: the fleet is gone all the same."""


def tell(say: Callable[[str], None]) -> None:
    """Run the story on a fleet that fits this machine. StoryFailed, FleetError or KeyboardInterrupt end it cleanly."""
    began = time.monotonic()
    fleet = _fleet(say)
    with fleet:
        say(f"   {len(fleet.hosts)} hosts up after {time.monotonic() - began:.1f} s\n")
        _Story(fleet, say).run()
        say("\n== That was it. Removing the fleet ...")
    say(f"   nothing of it is left. The whole story took {time.monotonic() - began:.0f} s.")


def _fleet(say: Callable[[str], None]) -> BaseFleet[Any]:
    if os.geteuid() == 0:
        from guard.demo.fleet import Fleet

        say("== A throw-away fleet: 3 hosts, each with its own sshd, its own dockerd and its own loopback address")
        return Fleet(3)
    from guard.demo.local import LocalFleet

    say("== No root here, so no hosts of our own: 3 containers on the Docker engine of this machine stand for hosts,")
    say("   and Ansible uses local connections. Nothing else on that engine is touched.")
    return LocalFleet(3)


class _Story:
    def __init__(self, fleet: BaseFleet[Any], say: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._say = say
        self._config = fleet.folder / "guard.yml"
        self._config.write_text(CONFIG.format(inventory=fleet.inventory))
        self._state = fleet.folder / "state"

    def run(self) -> None:
        good = self._fleet.provide("1.0.0")
        bad = self._fleet.provide("1.1.0", Behaviour.ERROR)
        self._say(f"== Deploy {good} on every host: it is healthy")
        self._fleet.deploy(good)
        self._fleet.wait_healthy()
        self._show()
        self._say("\n== Before the next deploy: record what runs, pin it, prove that a rollback could work")
        self._guard("snapshot", "web", expect=0)
        self._say(f"\n== Deploy {bad}: it starts, and answers 500")
        self._fleet.deploy(bad)
        self._say("\n== The pipeline step after a deploy")
        self._guard("gate", "web", "--for", "30s", expect=GATE_ROLLED_BACK)
        self._say("   exit code 3: unhealthy, rolled back and verified on every host. No pipeline is green after this.")
        self._say(f"\n== The proof: what runs on the hosts now is {good} again")
        self._show()
        self._prove(good)
        self._say("\n== The record")
        self._guard("history", expect=0)
        runs = sorted(self._state.glob("runs/rb-*"))
        self._say(f"\n== The artifacts of the rollback, in {runs[-1]} (they go with the fleet)")
        self._list(runs[-1])

    def _guard(self, *arguments: str, expect: int) -> None:
        command = ["guard", *arguments]
        self._say(f"$ {shlex.join(command)}")
        environment = {
            **os.environ,
            "GUARD_CONFIG": str(self._config),
            "GUARD_STATE_DIR": str(self._state),
            "PYTHONUNBUFFERED": "1",
        }
        if os.geteuid() != 0:
            environment["DOCKER_HOST"] = f"unix://{self._fleet.hosts[0].docker_socket}"
        code = _stream([sys.executable, "-m", "guard", *arguments], environment, self._say)
        if code != expect:
            raise StoryFailed(
                f"`guard {shlex.join(arguments)}` ended with {code}, and the story expects {expect}",
                hint="run it again; if it stays so, please report what is printed above",
            )

    def _show(self) -> None:
        for host in self._fleet.hosts:
            status, body = host.get()
            self._say(f"   {host.name}  GET http://{host.address}:{host.outside_port(8080)}/healthz  {status}  {body}")

    def _prove(self, good: str) -> None:
        for host in self._fleet.hosts:
            wanted = host.docker("image", "inspect", "--format", "{{.Id}}", good)
            running = host.docker("inspect", "--format", "{{.Image}}", host.container())
            if running != wanted:
                raise StoryFailed(f"{host.name} runs {running}, not {good} ({wanted})")

    def _list(self, folder: Path) -> None:
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and "playbook" not in p.parts):
            self._say(f"   {path.relative_to(folder)}  ({path.stat().st_size} bytes)")


def _stream(command: Sequence[str], environment: dict[str, str], say: Callable[[str], None]) -> int:
    """Print what the command prints as it comes. On Ctrl-C the terminal tells the command itself; it is waited for."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in process.stdout or ():
            say("   " + line.rstrip("\n"))
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait(30)
        raise
