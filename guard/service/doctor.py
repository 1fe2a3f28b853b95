"""What of this machine and of the hosts would stand in the way of a rollback, with the fix of each. Changes nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from guard.errors import EngineError, GuardError
from guard.model import Host, HostMeans
from guard.ports import Engines
from guard.service.ready import ENOUGH_BYTES, PYTHON

LEAST = {"ansible-core": (2, 19), "ansible-runner": (2, 4)}
ENOUGH_STATE_BYTES = 256 << 20
CLOCK_S = 5.0  # a host's clock may be this far off before times in logs stop making sense side by side
HOSTS_AT_ONCE = 20
_SHARED_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"})


class Verdict(StrEnum):
    """``WARNING`` is worth knowing; with a ``PROBLEM`` some command will not work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """``fix`` says what to do; "" where nothing is wrong. ``host`` is "" for this machine."""

    subject: str
    verdict: Verdict
    text: str
    fix: str = ""
    host: str = ""


def programs(environ: Mapping[str, str], *, remote: bool) -> Iterator[Finding]:
    """Python, what guard runs with, and ssh where hosts are ``remote``."""
    yield Finding("Python", Verdict.OK, ".".join(map(str, sys.version_info[:3])))
    for package, least in LEAST.items():
        yield _package(package, least)
    yield _playbook_command(environ)
    if not remote:
        return
    ssh = shutil.which("ssh", path=environ.get("PATH"))
    if ssh is None:
        yield Finding("ssh", Verdict.PROBLEM, "there is no ssh on PATH", "apt-get install openssh-client")
    else:
        yield Finding("ssh", Verdict.OK, ssh)


def _package(package: str, least: tuple[int, int]) -> Finding:
    wanted = ".".join(map(str, least))
    fix = f"install it into guard's own environment: {sys.executable} -m pip install '{package}>={wanted}'"
    try:
        found = version(package)
    except PackageNotFoundError:
        return Finding(package, Verdict.PROBLEM, "is not installed", fix)
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    if numbers < least:
        return Finding(package, Verdict.PROBLEM, f"{found} is too old, guard needs {wanted}", fix)
    return Finding(package, Verdict.OK, found)


def _playbook_command(environ: Mapping[str, str]) -> Finding:
    """Runs take the ansible-playbook of guard's own environment, whatever stands first on PATH."""
    own = Path(sys.executable).parent / "ansible-playbook"
    first = shutil.which("ansible-playbook", path=environ.get("PATH"))
    if not own.exists() and first is None:
        fix = f"install ansible-core into guard's own environment: {sys.executable} -m pip install ansible-core"
        return Finding("PATH", Verdict.PROBLEM, "there is no ansible-playbook", fix)
    if own.exists() and first is not None and Path(first).resolve() != own.resolve():
        text = f"a shell here finds {first}, and guard uses its own {own}"
        return Finding("PATH", Verdict.WARNING, text, f"to use the same by hand, put {own.parent} first in PATH")
    return Finding("PATH", Verdict.OK, str(own if own.exists() else first))


def state_folder(folder: Path) -> Iterator[Finding]:
    """The folder of store and artifacts; one that is still to be made is judged by where it would be."""
    there = folder
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        fix = "choose another with --state-dir or $GUARD_STATE_DIR, or give this user the right to write there"
        yield Finding("state folder", Verdict.PROBLEM, f"{folder} cannot be written", fix)
        return
    if there == folder and (mode := stat.S_IMODE(folder.stat().st_mode)) & 0o077:
        text = f"{folder} has mode {mode:04o}: others can look into what is kept there"
        yield Finding("state folder", Verdict.WARNING, text, f"chmod 700 {folder}")
    kind = _file_system(there)
    if kind in _SHARED_FILE_SYSTEMS:
        text = f"{folder} is on {kind}: SQLite's locks do not hold there"
        yield Finding("state folder", Verdict.PROBLEM, text, "choose a folder on a local disk with --state-dir")
    free = shutil.disk_usage(there).free
    if free < ENOUGH_STATE_BYTES:
        text = f"{free >> 20} MiB are free at {folder}"
        fix = f"free some, or choose another folder: {ENOUGH_STATE_BYTES >> 20} MiB are a sensible least"
        yield Finding("disk", Verdict.PROBLEM, text, fix)
    else:
        yield Finding("state folder", Verdict.OK, f"{folder}, {free >> 30} GiB free")


def _file_system(folder: Path) -> str:
    """The type of the file system a folder is on, or ""."""
    found, length = "", -1
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if len(where) > length and folder.resolve().is_relative_to(where):
            found, length = kind, len(where)
    return found


def tried(subject: str, work: Callable[[], str], fix: str) -> Finding:
    """What ``work`` says of itself, or its error with that error's own hint."""
    try:
        return Finding(subject, Verdict.OK, work())
    except GuardError as error:
        return Finding(subject, Verdict.PROBLEM, error.message, error.hint or fix)


async def hosts(engines: Engines, wanted: Sequence[Host | None]) -> list[Finding]:
    """Engine, clock, disk and Python of each host (None: the local engine), all at the same time."""
    places = asyncio.Semaphore(HOSTS_AT_ONCE)

    async def one(host: Host | None) -> list[Finding]:
        async with places:
            return await _host(engines, host)

    return [finding for found in await asyncio.gather(*map(one, wanted)) for finding in found]


async def _host(engines: Engines, host: Host | None) -> list[Finding]:
    name = host.name if host is not None else "localhost"
    try:
        means = await engines.on(host).means()
    except EngineError as error:
        fix = error.hint or "see that guard's user can log in there, and that the engine runs"
        return [Finding("engine", Verdict.PROBLEM, error.message, fix, name)]
    except TimeoutError:
        fix = "see what keeps that host busy: a rollback would wait for it as well"
        return [Finding("engine", Verdict.PROBLEM, "the host did not answer in time", fix, name)]
    return list(_means(means, name))


def _means(means: HostMeans, name: str) -> Iterator[Finding]:
    told = [f"engine {means.engine or 'of unknown version'}"]
    if means.free_bytes is not None and means.free_bytes < ENOUGH_BYTES:
        text = f"{means.free_bytes >> 20} MiB are free for the engine"
        yield Finding("disk", Verdict.PROBLEM, text, "free some there: docker image prune, docker builder prune", name)
    elif means.free_bytes is not None:
        told.append(f"{means.free_bytes >> 30} GiB free")
    if means.python is not None and means.python < PYTHON:
        has = "no Python" if means.python == (0, 0) else f"Python {means.python[0]}.{means.python[1]}"
        fix = f"install python3 ({PYTHON[0]}.{PYTHON[1]} or newer), or set ansible_python_interpreter for the host"
        yield Finding("Python", Verdict.PROBLEM, has, fix, name)
    elif means.python is not None:
        told.append(f"Python {means.python[0]}.{means.python[1]}")
    if means.ahead_s is not None and abs(means.ahead_s) > CLOCK_S:
        text = f"the clock is {abs(means.ahead_s):.0f} s {'ahead of' if means.ahead_s > 0 else 'behind'} this machine's"
        fix = "let both keep time by NTP (timedatectl set-ntp true)"
        yield Finding("clock", Verdict.WARNING, text, fix, name)
    yield Finding("engine", Verdict.OK, ", ".join(told), host=name)
