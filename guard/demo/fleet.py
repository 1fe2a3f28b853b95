"""A throw-away fleet: real hosts on one machine, with an inventory that Ansible can use as it is. Needs root.

    with Fleet(size=3) as fleet:
        fleet.load(web_image("web:1.0.0"))
        fleet.deploy("web:1.0.0")
        subprocess.run(["ansible", "-i", fleet.inventory, "all", "-m", "ping"])

When the block ends, by whatever way, nothing of it is left. If the owner is killed outright, the hosts end with it,
and the next fleet sweeps up what else it left behind.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from guard.demo.ground import SSH_PORT, FleetError, Ground, claim, release, run, wait_until
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


class Fleet:
    """``size`` hosts web1…webN, each with an engine of its own, or all on one with ``shared_engine``.

    ``base`` is where the fleet's folder is made (default /run/guard-fleet; keep it short: sockets live below it).
    ``engine`` is added to the configuration file of the engines, e.g. ``{"live-restore": True}``.
    """

    repository = "web"  # the image repository that callers should use here; a LocalFleet has one of its own

    def __init__(
        self,
        size: int = 3,
        base: Path | None = None,
        *,
        shared_engine: bool = False,
        engine: Mapping[str, object] | None = None,
    ) -> None:
        if not 1 <= size <= MAX_SIZE:
            raise FleetError(f"a fleet has 1 to {MAX_SIZE} hosts, not {size}")
        self._size = size
        self._base = base
        self._shared_engine = shared_engine
        self._engine = dict(engine or {})
        self._ground: Ground | None = None
        self._all: list[Host] = []  # with the host of the shared engine, if there is one
        self._sigterm: Callable[[int, FrameType | None], object] | int | None = None
        self.hosts: list[Host] = []

    # -- life

    def start(self) -> Self:
        """Start every host and wait until all of them answer; on any failure nothing is left behind."""
        _require_machine()
        try:
            self._on_sigterm()
            atexit.register(self.stop)
            self._ground = claim(self._size + 1, 1 if self._shared_engine else self._size, self._base)
            self._make_hosts(self._ground)
            for host in self._all:
                host.power_on()
            for host in self._all:
                host.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process and remove everything the fleet made. May be called again."""
        for host in reversed(self._all):
            host.power_cut()
        if self._ground is not None:
            release(self._ground)
            self._ground = None
        self._all, self.hosts = [], []
        atexit.unregister(self.stop)
        self._restore_sigterm()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- what is in it

    @property
    def folder(self) -> Path:
        """The fleet's folder, a tmpfs that goes with it."""
        if self._ground is None:
            raise FleetError("the fleet is not running")
        return self._ground.folder

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    def host(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        raise FleetError(f"no host {name} in this fleet: it has {', '.join(host.name for host in self.hosts)}")

    # -- what is done with it

    def load(self, image: bytes) -> None:
        """Load an image on every host, in parallel."""
        self.each(lambda host: host.load(image), self.hosts[:1] if self._shared_engine else self.hosts)

    def deploy(
        self,
        image: str,
        name: str = "web",
        port: int | None = 8080,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        *,
        hosts: Iterable[Host] | None = None,
    ) -> None:
        """Replace the container on all (or the given) hosts, as a deploy tool would: remove, then run.

        The container's port 8080 is published on the host's address as ``port`` (None: not published); ``args`` are
        further arguments of ``docker run``. It does not wait for the service to answer: see ``wait_healthy``.
        """
        options = [f"--env={key}={value}" for key, value in (env or {}).items()]

        def replace(host: Host) -> None:
            # On an engine of its own the address is the engine's default; a shared one must be told.
            address = f"{host.address}:" if self._shared_engine else ""
            published = [f"--publish={address}{port}:8080"] if port else []
            container = host.container(name)
            host.docker("rm", "--force", container, check=False)
            common = ["--detach", f"--name={container}", "--restart=unless-stopped"]
            host.docker("run", *common, *published, *options, *args, image)

        self.each(replace, hosts)

    def wait_healthy(self, port: int = 8080, timeout: float = 20.0, hosts: Iterable[Host] | None = None) -> None:
        """Wait until /healthz answers 200 on all (or the given) hosts; FleetError after ``timeout`` seconds."""

        def healthy(host: Host) -> bool:
            with contextlib.suppress(OSError):
                return host.get(port=port, timeout=1.0)[0] == 200
            return False

        def wait(host: Host) -> None:
            wait_until(lambda: healthy(host), timeout, f"{host.name} to answer 200 on port {port}")

        self.each(wait, hosts)

    def each(self, act: Callable[[Host], None], hosts: Iterable[Host] | None = None) -> None:
        """Do something on all (or the given) hosts in parallel; the first error is raised when all have ended."""
        with ThreadPoolExecutor(max_workers=16) as pool:
            for done in [pool.submit(act, host) for host in (self.hosts if hosts is None else hosts)]:
                done.result()

    # -- below this line nothing is for users of the class

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

    def _on_sigterm(self) -> None:
        """SIGTERM would end Python without any clean-up; an owner with a handler of its own keeps it."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._sigterm = signal.signal(signal.SIGTERM, _terminate)

    def _restore_sigterm(self) -> None:
        if self._sigterm is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._sigterm)
            self._sigterm = None


def _terminate(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _keygen(path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "guard-fleet", "-f", str(path))


def _inventory(folder: Path, hosts: Sequence[Host]) -> str:
    pinned = f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    interpreter = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    lines = ["web:", "  hosts:"]
    for host in hosts:
        lines += [f"    {host.name}:", f"      ansible_host: {host.address}"]
        lines += [f"      container_name: {host.container()}"]
    lines += [
        "  vars:",
        f"    ansible_port: {SSH_PORT}",
        "    ansible_user: root",
        f"    ansible_ssh_private_key_file: {folder}/keys/user",
        f"    ansible_ssh_common_args: {pinned}",
        f"    ansible_python_interpreter: {interpreter}",
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
    static_busybox()
