"""The hosts of the scenarios: one throw-away fleet, owned by a process of its own in the background.

    fleet.py up                start it unless it lives, and wait until it is ready
    fleet.py stage             make the hosts as a scenario wants them (JSON on stdin, see ``Stage``); writes its plans
    fleet.py interrupt         begin the rollback that was staged, and kill it in the middle, on every host
    fleet.py power_cut HOST…   and revive HOST…
    fleet.py down              end it; nothing of it is left

A fleet ends with its owner, however that ends. The owner ends at ``down``, at SIGTERM, when the ``molecule test`` that
it was started for is gone (also by Ctrl-C or SIGKILL), and when nobody has asked for anything in an hour. In
$MOLECULE_EPHEMERAL_DIRECTORY it keeps ``fleet.json`` (whose it is), ``fleet.log``, ``inventory/fleet.yml`` and
``plans.yml``: the extra variables of the playbooks, written as guard writes them.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from guard.demo.fleet import Fleet
from guard.demo.ground import FleetError, started_at, sweep, wait_until
from guard.demo.host import Host
from guard.demo.image import Behaviour, image_id, web_image
from guard.model import Image
from guard.report.documents import image_document
from guard.rollback import processes
from guard.rollback.workdir import variables_text
from guard.service.session import DEFAULT_ENGINE

PLAYBOOK = Path(os.environ.get("GUARD_PLAYBOOK") or Path(__file__).parents[2] / "playbooks/container/1.0.0")
SIZE = 3
PORT = 18080  # not 8080: a container that somebody published on all addresses of this machine would be in the way
IDLE_S = 3600.0
START_S, END_S = 120.0, 60.0
IMAGES = {
    "web:1.0.0": Behaviour.GOOD,
    "web:1.1.0": Behaviour.ERROR,  # the bad release
    "web:0.9.0": Behaviour.EXIT,  # an earlier one that does not start any more
}
AWAITS_HEALTH = '"step": "await-new"'  # in the journal on a host: the new container runs, the old one is stopped


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario begins with.

    ``runs`` and ``targets``: an image for all hosts, or one per host. ``lost``: hosts that have lost their target's
    image. ``options``: further arguments of ``docker run``.
    """

    runs: str | Mapping[str, str] = "web:1.1.0"
    targets: str | Mapping[str, str] = "web:1.0.0"
    batches: Sequence[int] = (1, 2)
    on_batch_failure: str = "stop"
    lost: Sequence[str] = ()
    options: Sequence[str] = field(default=())

    def of(self, images: str | Mapping[str, str], host: str) -> str:
        return images if isinstance(images, str) else images[host]


def plan(host: Host, target: Image, running: str) -> dict[str, object]:
    """One host's plan, key by key as guard makes it (service/execute.py)."""
    return {
        "service": "web",
        "container": host.container(),
        "engine": DEFAULT_ENGINE,
        "run_id": "rb-20261123-101112-cafe",
        "fence": 1,
        "target": image_document(target),
        "expect_image_id": running,
        "backup_tag": "backup_20261123_101112",
        "health_timeout_s": 20.0,
        "stop_timeout_s": None,
        "force": False,
    }


class Owner:
    """The process that the hosts live and die with."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self._folder = folder
        self._fleet = fleet
        self._images = {name: web_image(name, behaviour) for name, behaviour in IMAGES.items()}
        self._ids = {name: image_id(image) for name, image in self._images.items()}

    def stage(self, asked: Stage) -> None:
        fleet = self._fleet
        fleet.each(lambda host: host.clear(self._images))
        for image in IMAGES:
            hosts = [host for host in fleet.hosts if asked.of(asked.runs, host.name) == image]
            fleet.deploy(image, port=PORT, args=asked.options, hosts=hosts)
        for name in asked.lost:
            fleet.host(name).docker("rmi", "--force", asked.of(asked.targets, name))
        self._write_inventory()
        plans = {
            host.name: plan(
                host,
                Image(name := asked.of(asked.targets, host.name), self._ids[name]),
                self._ids[asked.of(asked.runs, host.name)],
            )
            for host in fleet.hosts
        }
        self._write_plans(
            {
                "guard_plans": plans,
                "guard_batches": list(asked.batches),
                "guard_on_batch_failure": asked.on_batch_failure,
            }
        )

    def power_cut(self, names: Sequence[str]) -> None:
        for name in names:
            self._fleet.host(name).power_cut()

    def revive(self, names: Sequence[str]) -> None:
        for name in names:
            self._fleet.host(name).revive()

    def interrupt(self) -> None:
        """Kill the module on every host while it waits for its new container, then ansible-playbook."""
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self._folder / "inventory")]
        options = ["-e", f"@{self._folder / 'plans.yml'}", str(PLAYBOOK / "restore.yml")]
        run = subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL)
        left = {host.name for host in self._fleet.hosts}

        def all_killed() -> bool:
            left.difference_update(name for name in tuple(left) if _kill_module(self._fleet.host(name)))
            return not left

        try:
            wait_until(all_killed, 60, f"the swap on {', '.join(sorted(left))} to be in the middle")
        finally:
            processes.signal_all([run.pid, *processes.descendants(run.pid)], signal.SIGKILL)
            run.wait()

    def ready(self) -> None:
        """The first plans are empty: Ansible wants the file to be there."""
        self._fleet.each(lambda host: host.clear(self._images))
        self._write_inventory()
        self._write_plans({})

    def _write_inventory(self) -> None:
        """The fleet's own, and per host what runs there now: the verification compares with it."""
        inventory = yaml.safe_load(self._fleet.inventory.read_text())
        inventory["web"]["vars"]["web_port"] = PORT
        for host in self._fleet.hosts:
            seen = json.loads(host.docker("inspect", host.container(), check=False) or "[]")
            inventory["web"]["hosts"][host.name]["web_before"] = {
                "id": seen[0]["Id"] if seen else None,
                "started": seen[0]["State"]["StartedAt"] if seen else None,
            }
        path = self._folder / "inventory/fleet.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(inventory, sort_keys=False))

    def _write_plans(self, variables: Mapping[str, object]) -> None:
        (self._folder / "plans.yml").write_text(variables_text(variables))


def _kill_module(host: Host) -> bool:
    """Kill the swap on a host when it awaits its new container's health. Whether it was killed."""
    journal, lock = "/var/lib/guard/web@web.journal", "/var/lib/guard/web.lock"
    script = f"grep -qs '{AWAITS_HEALTH}' {journal} && kill -KILL $(sed 's/.*pid //' {lock}) && echo killed"
    return host.exec(["sh", "-c", script], check=False).strip() == "killed"


# -- the owner's life


def own(folder: Path, watched: int) -> None:
    """Bring the fleet up and do what is asked for until one of the ends above comes."""
    watching = [os.pidfd_open(watched)] if watched else []
    record: dict[str, object] = {"pid": os.getpid(), "started": started_at(os.getpid())}
    _write(folder / "fleet.json", record)
    with Fleet(SIZE) as fleet, socket.socket(socket.AF_UNIX) as control:
        owner = Owner(folder, fleet)
        waiting: list[socket.socket | int] = [control, *watching]
        owner.ready()
        control.bind(str(fleet.folder / "control"))
        control.listen()
        _write(folder / "fleet.json", {**record, "control": control.getsockname()})
        while control in select.select(waiting, [], [], IDLE_S)[0]:
            connection, _ = control.accept()
            with connection, connection.makefile("rw") as lines:
                json.dump({"error": _do(owner, json.loads(lines.readline()))}, lines)
    for name in ("fleet.json", "state.yml"):  # state.yml: Molecule would believe that its hosts are still there
        (folder / name).unlink(missing_ok=True)


def _do(owner: Owner, asked: Mapping[str, Any]) -> str | None:
    try:
        match asked["command"]:
            case "stage":
                owner.stage(Stage(**asked["given"]))
            case "interrupt":
                owner.interrupt()
            case "power_cut":
                owner.power_cut(asked["arguments"])
            case "revive":
                owner.revive(asked["arguments"])
    except (FleetError, subprocess.SubprocessError, OSError, LookupError, TypeError) as error:
        return f"{asked['command']}: {error!r}"
    return None


# -- from the playbooks


def up(folder: Path) -> None:
    if _control(folder) is not None:
        return
    down(folder)
    with (folder / "fleet.log").open("ab") as log:
        owner = subprocess.Popen(
            [sys.executable, __file__, "own", str(_molecule_test() or 0)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def ready() -> bool:
        if owner.poll() is not None:
            raise FleetError(f"the fleet did not start:\n{(folder / 'fleet.log').read_text()[-2000:]}")
        return _control(folder) is not None

    wait_until(ready, START_S, f"the fleet to be ready, see {folder / 'fleet.log'}")


def down(folder: Path) -> None:
    record = _read(folder)
    pid = record.get("pid")
    if pid is not None and started_at(pid) == record["started"]:
        os.kill(pid, signal.SIGTERM)
        try:
            wait_until(lambda: started_at(pid) != record["started"], END_S, "the fleet to end")
        except FleetError:
            os.kill(pid, signal.SIGKILL)
            time.sleep(1)
    sweep()
    for name in ("fleet.json", "inventory/fleet.yml", "plans.yml"):
        (folder / name).unlink(missing_ok=True)


def ask(folder: Path, command: str, arguments: Sequence[str]) -> None:
    up(folder)
    given = json.load(sys.stdin) if command == "stage" else {}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(_control(folder)))
        with connection.makefile("rw") as lines:
            lines.write(json.dumps({"command": command, "arguments": arguments, "given": given}) + "\n")
            lines.flush()
            error = json.loads(lines.read())["error"]
    if error:
        raise FleetError(f"{error}\n{(folder / 'fleet.log').read_text()[-2000:]}")


def _control(folder: Path) -> str | None:
    """Where a living and ready owner listens."""
    record = _read(folder)
    living = record.get("pid") is not None and started_at(record["pid"]) == record["started"]
    return record.get("control") if living else None


def _molecule_test() -> int | None:
    """The ``molecule test`` above this process, unless it is to leave its hosts; other commands leave them anyway."""
    pid = os.getppid()
    while pid > 1:
        with suppress(OSError):
            argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "molecule" in [Path(argument).name for argument in argv[:3]]:
                return pid if "test" in argv and "never" not in " ".join(argv) else None
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            continue
        return None
    return None


def _read(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "fleet.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def _write(path: Path, record: Mapping[str, object]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(record))
    new.replace(path)


def main(arguments: Sequence[str]) -> None:
    folder = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    match arguments:
        case ["up"]:
            up(folder)
        case ["down"]:
            down(folder)
        case ["own", watched]:
            own(folder, int(watched))
        case [("stage" | "interrupt" | "power_cut" | "revive") as command, *rest]:
            ask(folder, command, rest)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except FleetError as error:
        sys.exit(f"fleet.py: {error}")
