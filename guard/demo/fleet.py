"""A throw-away fleet: real hosts on one machine, with an inventory that Ansible can use as it is. Needs root.

    with Fleet(size=3) as fleet:
        fleet.load(web_image("web:1.0.0"))
        fleet.deploy("web:1.0.0")
        subprocess.run(["ansible", "-i", fleet.inventory, "all", "-m", "ping"])

When the block ends, by whatever way, nothing of it is left. If the owner is killed outright, the hosts end with it,
and the next fleet sweeps up what else it left behind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guard.demo.base import SERVICE_PORT, BaseFleet, interpreter
from guard.demo.ground import SSH_PORT, FleetError, Ground, claim, release, run
from guard.demo.host import Host
from guard.demo.image import static_busybox

MAX_SIZE = 200
_NEEDED = {  # command: Debian package
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
    "dockerd": "docker.io",
    "docker": "docker.io",
}


class Fleet(BaseFleet[Host]):
    """``size`` hosts web1…webN, each with an engine of its own, or all on one with ``shared_engine``.

    ``base`` is where the fleet's folder is made (default /run/guard-fleet; keep it short: sockets live below it).
    ``engine`` is added to the configuration file of the engines, e.g. ``{"live-restore": True}``.
    """

    def __init__(
        self,
        size: int = 3,
        base: Path | None = None,
        *,
        shared_engine: bool = False,
        engine: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= size <= MAX_SIZE:
            raise FleetError(f"a fleet has 1 to {MAX_SIZE} hosts, not {size}")
        self._size = size
        self._base = base
        self._shared_engine = shared_engine
        self._engine = dict(engine or {})
        self._ground: Ground | None = None
        self._all: list[Host] = []  # with the host of the shared engine, if there is one

    @property
    def folder(self) -> Path:
        """The fleet's folder, a tmpfs that goes with it."""
        if self._ground is None:
            raise FleetError("the fleet is not running")
        return self._ground.folder

    @property
    def repository(self) -> str:
        return "web"

    # -- below this line nothing is for users of the class

    def _bring_up(self) -> None:
        _require_machine()
        self._ground = claim(self._size + 1, 1 if self._shared_engine else self._size, self._base)
        self._make_hosts(self._ground)
        for host in self._all:
            host.power_on()
        for host in self._all:
            host.wait_ready()

    def _take_down(self) -> None:
        for host in reversed(self._all):
            host.power_cut()
        if self._ground is not None:
            release(self._ground)
            self._ground = None
        self._all = []

    def _one_host_per_engine(self) -> Sequence[Host]:
        return self.hosts[:1] if self._shared_engine else self.hosts

    def _make_hosts(self, ground: Ground) -> None:
        shared = None
        if self._shared_engine:
            shared = Host(ground, "engine", self._size + 1, sshd=False, engine_index=1)
            self._all = [shared]
        numbers = range(1, self._size + 1)
        self.hosts = [Host(ground, f"web{number}", number, engine_of=shared) for number in numbers]
        self._all = [*self._all, *self.hosts]
        keys = ground.folder / "keys"
        keys.mkdir(mode=0o700)
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(lambda name: _keygen(keys / name), ["user", *(host.name for host in self._all)]))
        public = (keys / "user.pub").read_text()
        for host in self._all:
            host.prepare(public, keys / host.name, self._engine)
        (ground.folder / "known_hosts").write_text(
            "".join(f"[{host.address}]:{SSH_PORT} {(keys / f'{host.name}.pub').read_text()}" for host in self.hosts)
        )
        self.inventory.write_text(_inventory(ground.folder, self.hosts))


def _keygen(path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "guard-fleet", "-f", str(path))


def _inventory(folder: Path, hosts: Sequence[Host]) -> str:
    pinned = f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    lines = ["web:", "  hosts:"]
    for host in hosts:
        lines += [f"    {host.name}:", f"      ansible_host: {host.address}"]
        lines += [f"      container_name: {host.container()}"]
    lines += [
        "  vars:",
        f"    web_port: {SERVICE_PORT}",
        f"    ansible_port: {SSH_PORT}",
        "    ansible_user: root",
        f"    ansible_ssh_private_key_file: {folder}/keys/user",
        f"    ansible_ssh_common_args: {pinned}",
        f"    ansible_python_interpreter: {interpreter()}",
    ]
    return "\n".join(lines) + "\n"


def _require_machine() -> None:
    """FleetError that names the fix when this machine cannot carry a fleet."""
    if os.geteuid() != 0:
        raise FleetError("a fleet of hosts needs root", hint="run it as root, or use an existing Docker engine")
    missing = {package for command, package in _NEEDED.items() if shutil.which(command) is None}
    if missing:
        raise FleetError(
            "this machine lacks what a fleet is made of",
            hint=f"apt-get install {' '.join(sorted(missing))}",
        )
    if Path(interpreter()).resolve().is_relative_to("/root"):
        raise FleetError(
            "a host does not see this machine's /root, where its only Python is", hint="apt-get install python3"
        )
    static_busybox()
