"""Starting a run, and taking over one that an earlier guard started. The run itself lives in its shim."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guard.errors import StateError
from guard.model import HostResult
from guard.rollback import ahead, processes, record, runner, workdir
from guard.rollback.ahead import Ahead
from guard.rollback.outcome import Ending, Progress, begin, conclude, fold
from guard.rollback.record import RunResult
from guard.rollback.workdir import Asked, RunSpec

POLL_S = 0.02
_LOOK_AT_LOCK_EVERY = 10  # polls
_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The run vanished without a result. Its hosts must be looked at before anything is decided.

    Whatever was left of it on this machine has been ended, so nothing more happens to the hosts from here. ``began`` is
    False when no shim ever took the folder over: then no host was touched.
    """

    folder: Path
    hosts: Mapping[str, HostResult]
    began: bool


class RunHandle:
    """A run that is alive. ``result`` is set once ``wait`` has returned."""

    def __init__(self, folder: Path, asked: Asked, shim: subprocess.Popen[bytes] | None) -> None:
        self._folder = folder
        self._asked = asked
        self._shim = shim
        self._read = 0
        self._rest = b""
        self._progress: Progress = begin(asked.hosts)
        self.result: RunResult | None = None
        self.pipe: int | None = None  # the word's, kept open until the run has ended
        self.word = ""  # what a run that was armed in advance has heard: "go" or "disarm"
        self.kinds: dict[str, str] = {}  # host → why its module refused, by the module's own name for it

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def is_alive(self) -> bool:
        return self.result is None and not self._is_gone()

    def progress(self) -> Progress:
        """How every host stands by now."""
        self._read_events()
        return self._progress

    async def wait(self, on_result: Callable[[HostResult], None]) -> Mapping[str, HostResult]:
        """Each host's result as it comes (again when it changes), then all of them.

        Cancelling the wait leaves the run alone. When the run vanishes, ``result.ending`` is ``LOST``.
        """
        told: dict[str, HostResult] = {}

        def tell(results: Mapping[str, HostResult]) -> None:
            for host, one in results.items():
                if told.get(host) != one:
                    told[host] = one
                    on_result(one)

        polls = 0
        while self.result is None:
            gone = polls % _LOOK_AT_LOCK_EVERY == 0 and self._is_gone()
            ended = _result(self._folder)  # looked at after the lock: a shim writes it before it lets go
            self._read_events()
            tell({host: one.final for host, one in self._progress.items() if one.final and not one.running})
            if ended is not None:
                self.result = ended
            elif gone:
                lost = await asyncio.to_thread(_lost, self._folder, self._asked)
                self.result = RunResult(
                    self._folder, Ending.LOST, None, lost.hosts, "the run vanished without a result"
                )
            else:
                polls += 1
                await asyncio.sleep(POLL_S)
        await self._reap()
        tell(self.result.hosts)
        return self.result.hosts

    def cancel(self) -> None:
        """Ask the shim to end the run and everything it started. ``wait`` then returns what is known."""
        if self._shim is not None:
            if self._shim.poll() is None:
                self._shim.send_signal(signal.SIGTERM)
            return
        pid = _shim_pid(self._folder)
        if pid is not None and workdir.is_held(self._folder):
            processes.signal_all([pid], signal.SIGTERM)

    def _is_gone(self) -> bool:
        if self._shim is not None:
            return self._shim.poll() is not None
        return not workdir.is_held(self._folder)

    def _read_events(self) -> None:
        self._read, self._rest, lines = _new_lines(self._folder / workdir.EVENTS, self._read, self._rest)
        for text in lines:
            event = record.parse(text)
            if event is not None:
                self._progress = fold(self._progress, event, self._asked.targets)
                self.word = str(event.result.get("word") or self.word)
                if event.result.get("kind"):
                    self.kinds[event.host] = str(event.result["kind"])

    async def _reap(self) -> None:
        if self.pipe is not None:
            os.close(self.pipe)
            self.pipe = None
        if self._shim is not None:
            await asyncio.to_thread(self._shim.wait)


async def start(spec: RunSpec, early: Ahead | None = None) -> RunHandle:
    """Write the run's folder and start its shim, or use the one that was started early and still waits.

    StateError, UsageError or PlaybookError: nothing was started.
    """
    return await asyncio.to_thread(_start, spec, early)


async def adopt(folder: Path) -> RunHandle | RunResult | Lost:
    """Take over a run by its folder: alive → a handle; ended → its result; vanished → ``Lost``, its strays ended."""
    return await asyncio.to_thread(_adopt, folder)


def _start(spec: RunSpec, early: Ahead | None) -> RunHandle:
    lock = workdir.create(spec.folder)
    try:
        return begin_in(spec, lock, early)
    finally:
        os.close(lock)  # the shim has it now, or nobody


def begin_in(spec: RunSpec, lock: int, early: Ahead | None = None) -> RunHandle:
    """Fill the folder that was created with this lock, and give it to its shim."""
    fits = early is not None and early.waits and not spec.hooks
    shim = early if early is not None and fits else ahead.begin(os.environ, hooks=bool(spec.hooks))
    try:
        asked = workdir.fill(spec, shim.scratch)
        shim.tell(spec.folder, lock)
        return RunHandle(spec.folder, asked, shim.process)
    finally:
        shim.close()  # told or not: one that was not told ends


def _adopt(folder: Path) -> RunHandle | RunResult | Lost:
    held = workdir.is_held(folder)
    ended = _result(folder)
    if ended is not None:
        began = (folder / workdir.PID).exists()
        return Lost(folder, ended.hosts, began) if ended.ending is Ending.LOST else ended
    try:
        asked = workdir.read_asked(folder)
    except StateError:
        workdir.scrub(folder, None)
        return _mark(Lost(folder, {}, began=False))
    return RunHandle(folder, asked, None) if held else _lost(folder, asked)


def _lost(folder: Path, asked: Asked) -> Lost:
    """End what is left of the run on this machine, remove what may hold secrets, and say what is known."""
    processes.end_marked(runner.MARK, str(asked.scratch), _GRACE_S)
    progress: Progress = begin(asked.hosts)
    for text in _new_lines(folder / workdir.EVENTS, 0, b"")[2]:
        event = record.parse(text)
        if event is not None:
            progress = fold(progress, event, asked.targets)
    workdir.scrub(folder, asked.scratch)
    hosts = conclude(progress, Ending.LOST, check=asked.check)
    return _mark(Lost(folder, hosts, began=(folder / workdir.PID).exists()))


def _mark(lost: Lost) -> Lost:
    """Complete the artifacts: the folder itself says that its run was lost."""
    told = RunResult(lost.folder, Ending.LOST, None, lost.hosts, "the run vanished without a result")
    new = lost.folder / (workdir.RESULT + ".lost")
    with suppress(OSError):  # a full disk: it is lost all the same
        workdir.write(new, json.dumps(record.result_document(told, {}), indent=1))
        new.replace(lost.folder / workdir.RESULT)
    return lost


def _new_lines(path: Path, offset: int, rest: bytes) -> tuple[int, bytes, list[str]]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            new = file.read()
    except FileNotFoundError:
        return offset, rest, []
    *lines, left = (rest + new).split(b"\n")
    return offset + len(new), left, [text.decode(errors="replace") for text in lines]


def _result(folder: Path) -> RunResult | None:
    try:
        return record.read_result(folder, (folder / workdir.RESULT).read_text())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"{folder / workdir.RESULT} is damaged: {error!r}", hint="look at the hosts by hand"
        ) from error


def _shim_pid(folder: Path) -> int | None:
    """The shim's process number, if that process is still the one that wrote it down."""
    try:
        said = json.loads((folder / workdir.PID).read_text())
        pid, started = int(said["pid"]), said["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if processes.start_time(pid) == started else None
