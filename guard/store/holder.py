"""Who holds a lease: a text that names the process well enough to tell, on the same machine, that it is dead.

``host:pid:machine:start:nonce``, where ``machine`` is a digest of boot id and pid namespace, and ``start`` when the
process began, in clock ticks since boot. A holder on another machine, from another boot or in another pid namespace (a
container) is never judged: its lease runs out on the database's clock.
"""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    host: str
    pid: int
    machine: str
    start: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.machine}:{self.start}:{self.nonce}"


def this_process() -> str:
    """A new holder text for this process. Two calls give two holders: keep it for as long as the lease is wanted."""
    pid = os.getpid()
    return str(Holder(_host(), pid, _machine(), _start(pid) or 0, uuid.uuid4().hex[:12]))


def parse(text: str) -> Holder | None:
    """The parts of a holder text, or None for one that was not made by ``this_process``."""
    match text.split(":"):
        case [host, pid, machine, start, nonce] if pid.isdecimal() and start.isdecimal() and int(pid) > 0:
            return Holder(host, int(pid), machine, int(start), nonce)
    return None


def is_surely_dead(text: str) -> bool:
    """True only when the holder lived on this machine, in this boot and pid namespace, and its process is gone."""
    holder = parse(text)
    if holder is None or not holder.start or not holder.machine:
        return False
    if (holder.host, holder.machine) != (_host(), _machine()):
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it exists and is another user's; /proc may be hidden from us (hidepid), so only a readable stat counts
    start = _start(holder.pid)
    return start is not None and (start != holder.start or _is_zombie(holder.pid))


def describe(text: str) -> str:
    """The holder as an operator would look for it."""
    holder = parse(text)
    return f"process {holder.pid} on {holder.host}" if holder else text


def _host() -> str:
    return socket.gethostname().replace(":", "_")


def _machine() -> str:
    """ "" where the kernel does not say: such a holder is never judged dead."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:12]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; the second, the name, may itself contain spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _start(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else None


def _is_zombie(pid: int) -> bool:
    """Dead but not yet reaped by its parent. One whose other threads still run is not dead."""
    if _stat(pid)[:1] != ["Z"]:
        return False
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()) <= 1
    except OSError:
        return False
