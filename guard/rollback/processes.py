"""Finding and ending the processes of a run, through /proc."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def start_time(pid: int) -> str | None:
    """When the process began (clock ticks since boot): with its number, a name that is not used twice. None: gone."""
    fields = _stat(pid)
    return fields[19] if fields else None


def descendants(root: int) -> tuple[int, ...]:
    """Every living process below ``root`` (zombies are not living), whatever its session or group."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    todo = list(children.get(root, ()))
    while todo:
        pid = todo.pop()
        todo.extend(children.get(pid, ()))
        fields = _stat(pid)
        if fields is not None and fields[0] not in "ZX":
            found.append(pid)
    return tuple(found)


def marked(name: str, value: str) -> tuple[int, ...]:
    """Living processes, other than this one, whose environment has ``name=value``; only those that we may read."""
    wanted = f"{name}={value}".encode()
    found = []
    for pid in _pids():
        try:
            environ = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        fields = _stat(pid)
        if pid != os.getpid() and wanted in environ.split(b"\0") and fields is not None and fields[0] not in "ZX":
            found.append(pid)
    return tuple(found)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def end_all(root: int, grace_s: float) -> None:
    """End every descendant of ``root``: SIGTERM, then after ``grace_s`` SIGKILL, until there is none."""
    _end(lambda: descendants(root), grace_s)


def end_marked(name: str, value: str, grace_s: float) -> tuple[int, ...]:
    """End every process that carries the mark. Returns those there were."""
    first = marked(name, value)
    _end(lambda: marked(name, value), grace_s)
    return first


def _end(living: Callable[[], tuple[int, ...]], grace_s: float) -> None:
    until = time.monotonic() + grace_s
    told: set[int] = set()
    while pids := living():
        if time.monotonic() > until:
            signal_all(pids, signal.SIGKILL)
        else:
            signal_all(set(pids) - told, signal.SIGTERM)
            told.update(pids)
        time.sleep(0.005)


def _pids() -> list[int]:
    return [int(entry.name) for entry in os.scandir(_PROC) if entry.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """The fields after the name, state first (proc(5)): 0 state, 1 parent, 19 start time."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
