"""What fleets take from the machine they stand on, and how it is given back: folders, addresses, subnets, cgroups.

Everything carries the fleet's name (``guard-fleet-ID``) or lies in a range that only fleets use, so that two fleets run
side by side, and what a killed one left behind can be told from what others own:

- a tmpfs at ``/run/guard-fleet/ID``, with ``owner.json``: pid and start time of the process that owns the fleet
- the loopback addresses ``127.77.SLOT.1`` and up
- ``/24`` blocks of 198.18.0.0/15 (set aside for tests by RFC 2544, never routed), two per engine
- control groups below ``/guard-fleet-ID``
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from guard.errors import GuardError

BASE = Path("/run/guard-fleet")
SSH_PORT = 2222
_NETWORK = ipaddress.ip_network("198.18.0.0/15")


class FleetError(GuardError):
    """The throw-away fleet cannot be started, or one of its hosts did not do what it was told."""


@dataclass(frozen=True)
class Ground:
    """One fleet's share of the machine. ``blocks`` are indexes of /24 blocks in 198.18.0.0/15."""

    folder: Path
    slot: int
    blocks: tuple[int, ...]
    owner_pid: int
    owner_started: int

    @property
    def ident(self) -> str:
        return self.folder.name

    @property
    def cgroup(self) -> str:
        return f"guard-fleet-{self.ident}"

    def address(self, index: int) -> str:
        """Loopback address of the host with this index, which counts from 1."""
        return f"127.77.{self.slot}.{index}"

    def bridge(self, index: int) -> str:
        """Name of the bridge of the engine with this index; at most 15 characters, as the kernel demands."""
        return f"gf{self.ident}-{index}"

    def bridge_subnet(self, index: int) -> ipaddress.IPv4Network:
        return _block(self.blocks[2 * index - 2])

    def network_pool(self, index: int) -> ipaddress.IPv4Network:
        """Where the engine with this index takes the subnets of user-defined networks from."""
        return _block(self.blocks[2 * index - 1])


def _block(number: int) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network((int(_NETWORK.network_address) + number * 256, 24))


def claim(hosts: int, engines: int, base: Path | None = None) -> Ground:
    """Sweep what killed fleets left, then reserve a folder (a fresh tmpfs), addresses and subnets."""
    base = base or BASE
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked(base):
        living = _sweep(base)
        taken = {number for ground in living for number in ground.blocks}
        ground = Ground(
            folder=base / secrets.token_hex(3),
            slot=_free_slot({ground.slot for ground in living}, hosts),
            blocks=_free_blocks(taken, 2 * engines),
            owner_pid=os.getpid(),
            owner_started=started_at(os.getpid()) or 0,
        )
        try:
            ground.folder.mkdir(mode=0o755)
            run("mount", "-t", "tmpfs", "-o", "mode=0755", "guard-fleet", str(ground.folder))
            record = {**asdict(ground), "folder": str(ground.folder)}
            (ground.folder / "owner.json").write_text(json.dumps(record))
        except BaseException:  # Ctrl-C as well: the caller does not know the ground yet and cannot give it back
            release(ground)
            raise
    return ground


def release(ground: Ground) -> None:
    """Give everything back. May be called again, also after it was interrupted half-way."""
    _end_hosts(ground)
    _delete_bridges(ground)
    _delete_cgroups(ground.cgroup)
    if os.path.ismount(ground.folder):
        run("umount", "--lazy", str(ground.folder))
    with contextlib.suppress(FileNotFoundError):
        ground.folder.rmdir()


def sweep(base: Path | None = None) -> None:
    """Remove what fleets of dead owners left behind; fleets of living owners are not touched."""
    base = base or BASE
    if base.is_dir():
        with _locked(base):
            _sweep(base)


def _sweep(base: Path) -> list[Ground]:
    """The fleets whose owners live. Call it with the lock held: a fleet is made and registered under it."""
    living = []
    for folder in sorted(path for path in base.iterdir() if path.is_dir()):
        try:
            record = json.loads((folder / "owner.json").read_text())
        except FileNotFoundError:
            # Killed between making the folder and registering, or the machine was started anew.
            if os.path.ismount(folder):
                run("umount", "--lazy", str(folder))
            with contextlib.suppress(OSError):  # not empty: not made by claim(), so not ours to remove
                folder.rmdir()
            continue
        ground = Ground(**{**record, "folder": folder, "blocks": tuple(record["blocks"])})
        if started_at(ground.owner_pid) == ground.owner_started:
            living.append(ground)
        else:
            release(ground)
    return living


@contextlib.contextmanager
def _locked(base: Path) -> Iterator[None]:
    with (base / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free_slot(taken: set[int], hosts: int) -> int:
    for slot in range(1, 255):
        if slot not in taken and all(_is_free(f"127.77.{slot}.{i}") for i in range(1, hosts + 1)):
            return slot
    raise FleetError("no loopback addresses are left for another fleet", hint="stop some other fleet first")


def _is_free(address: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, SSH_PORT))
        except OSError:
            return False
    return True


def _free_blocks(taken: set[int], count: int) -> tuple[int, ...]:
    used = [network for network in _networks_in_use() if network.overlaps(_NETWORK)]
    free = []
    for number in range(_NETWORK.num_addresses // 256):
        if number not in taken and not any(_block(number).overlaps(network) for network in used):
            free.append(number)
        if len(free) == count:
            return tuple(free)
    raise FleetError(f"no {count} free subnets in {_NETWORK}", hint="stop some other fleet first")


def _networks_in_use() -> list[ipaddress.IPv4Network]:
    """Networks of all interfaces and routes, without the default route."""
    found = []
    for link in json.loads(run("ip", "-j", "-4", "addr") or "[]"):
        for address in link["addr_info"]:
            found.append(f"{address['local']}/{address['prefixlen']}")
    for route in json.loads(run("ip", "-j", "-4", "route") or "[]"):
        if route["dst"] != "default":
            found.append(route["dst"])
    return [ipaddress.IPv4Network(text, strict=False) for text in found]


def _end_hosts(ground: Ground) -> None:
    for record in ground.folder.glob("*/pid"):
        text = record.read_text().strip()
        if text and is_host(int(text), record.parent):  # empty for an instant while a host boots
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(text), signal.SIGKILL)
            wait_until(partial(_is_gone, int(text)), 10, f"the end of host {record.parent.name}")


def _is_gone(pid: int) -> bool:
    return started_at(pid) is None


def is_host(pid: int, folder: Path) -> bool:
    """Whether this pid is (still) the init of the host in ``folder``, and not a stranger with a reused number."""
    try:
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _delete_bridges(ground: Ground) -> None:
    """Delete the engines' bridges and those of networks made in the engines (``br-`` and the network's ID)."""
    databases = [path.read_bytes() for path in ground.folder.glob("*/docker/network/files/local-kv.db")]
    for path in Path("/sys/class/net").glob("*/bridge"):
        name = path.parent.name
        network = name.removeprefix("br-").encode()
        if name.startswith(f"gf{ground.ident}-") or any(network in database for database in databases):
            run("ip", "link", "delete", name, check=False)  # an engine may have removed it at this very moment


def _delete_cgroups(name: str) -> None:
    """A control group can only be removed once the kernel has reaped its last process: retried for 5 s."""
    base = Path("/sys/fs/cgroup")
    tops = [top for top in (base / name, *(part / name for part in base.glob("*/"))) if top.is_dir()]

    def removed() -> bool:
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        return not any(top.exists() for top in tops)

    wait_until(removed, 5, f"the removal of the control groups {name}")


def started_at(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def run(*argv: str, check: bool = True, given: str | bytes | None = None) -> str:
    """Run a command to its end and return its stdout; a failure is a FleetError with what it wrote to stderr."""
    given = given.encode() if isinstance(given, str) else given
    done = subprocess.run(argv, input=given, capture_output=True, check=False, timeout=120)
    if check and done.returncode:
        problem = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise FleetError(f"{' '.join(argv)} ended with {done.returncode}: {problem}")
    return done.stdout.decode(errors="replace")


def wait_until(happened: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until ``happened()`` is true; FleetError after ``seconds``. For events the kernel gives no handle to."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise FleetError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.01)
