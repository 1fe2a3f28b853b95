"""One program, run to its end or to a deadline, with bounded memory. No shell, and nothing of it is left behind.

Not asyncio's own subprocesses: some versions wait until every copy of the pipes is closed, and a program that left a
child behind would then never be over. Here the end of the program itself counts, seen through a pidfd.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OUTPUT_LIMIT = 64 * 1024
_ERRORS_LIMIT = 4 * 1024
_CHUNK = 64 * 1024
_PAUSE_S = 0.01  # between two reads of what is thrown away: a program that never stops writing is not worth a core
_REAP_S = 0.1  # after SIGKILL; whoever takes longer hangs in the kernel, and is reaped when another program is started


@dataclass(frozen=True, slots=True)
class Ended:
    """``code``: the exit code, or minus the signal's number; None when it was ended at the deadline."""

    code: int | None
    output: bytes
    errors: bytes


async def run(argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> Ended:
    """OSError when the program could not be started. Whatever it left in its process group is killed."""
    with contextlib.ExitStack() as open_things:
        output, errors = (_Pipe(limit, open_things) for limit in (OUTPUT_LIMIT, _ERRORS_LIMIT))
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output.inlet,
            stderr=errors.inlet,
            env=dict(env),
            cwd="/",
            start_new_session=True,
        )
        open_things.callback(_end_group, process)  # before it is reaped: until then its number is nobody else's
        for pipe in (output, errors):
            pipe.start()
        over = _end_of(process, open_things)
        try:
            async with asyncio.timeout(timeout_s):
                await over.wait()
        except TimeoutError:
            await _kill(process, over)
            return Ended(None, output.taken(), errors.taken())
        return Ended(_end_group(process), output.taken(), errors.taken())


def _end_of(process: subprocess.Popen[bytes], open_things: contextlib.ExitStack) -> asyncio.Event:
    """Set when the program itself is over; it is not reaped by that."""
    over = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    open_things.callback(os.close, descriptor)
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, over.set)
    open_things.callback(loop.remove_reader, descriptor)
    return over


def _end_group(process: subprocess.Popen[bytes]) -> int | None:
    """Kill all that is left of the group, and reap the program if it is over. Its code, or None."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: all of it runs as someone else
            os.killpg(process.pid, signal.SIGKILL)
    return process.poll()


async def _kill(process: subprocess.Popen[bytes], over: asyncio.Event) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_REAP_S):
            await over.wait()


class _Pipe:
    """Keeps the first ``limit`` bytes and throws the rest away, so that the writer never waits for a reader."""

    def __init__(self, limit: int, open_things: contextlib.ExitStack) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._loop = asyncio.get_running_loop()
        self._outlet, self.inlet = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.inlet, True)
        self._pause: asyncio.TimerHandle | None = None
        open_things.callback(self._close)

    def start(self) -> None:
        """Once the program has its end of it."""
        os.close(self.inlet)
        self.inlet = -1
        self._loop.add_reader(self._outlet, self._read)

    def taken(self) -> bytes:
        """What was written so far, as much as is kept; waits for nothing."""
        while len(self._kept) < self._limit and self._read():
            pass
        return bytes(self._kept)

    def _read(self) -> bool:
        """Whether there was anything."""
        try:
            part = os.read(self._outlet, _CHUNK)
        except BlockingIOError:
            return False
        if not part:
            self._loop.remove_reader(self._outlet)
            return False
        self._kept += part[: self._limit - len(self._kept)]
        if len(self._kept) >= self._limit and self._pause is None:
            self._loop.remove_reader(self._outlet)
            self._pause = self._loop.call_later(_PAUSE_S, self._go_on)
        return True

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._outlet, self._read)

    def _close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._outlet)
        os.close(self._outlet)
        if self.inlet >= 0:
            os.close(self.inlet)
