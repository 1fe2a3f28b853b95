"""The way to an engine over a kept SSH connection: one ssh process per host, with a socket forwarded through it.

What the host runs for guard is ``cat``, in the connection's own session. It makes three things simple: the greeting
before it says that the connection stands; what guard writes to it comes back, so a frozen connection can be told from
a frozen engine; and when guard dies, however suddenly, its input ends, ``cat`` ends, and ssh with it.

Where the SSH user may not open the engine's socket and the inventory says ``ansible_become``, each request goes through
a relay instead: a few lines of Python that ``sudo -n`` starts on the host, over the same connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from pathlib import Path
from typing import TypeVar

from guard.engines.docker_api import Symptom
from guard.engines.ssh_command import Login
from guard.engines.wire import CHUNK, Wire, dial_unix
from guard.errors import EngineDown, EngineError, EngineUnreachable
from guard.model import HostMeans

_GREETING = b"guard-ready\n"
_COMMAND = "sh -c 'echo guard-ready; exec cat'"
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 8.0
_AUTHENTICATION_S = 5.0  # on top of ConnectTimeout, which ends before the keys are asked for
_STDERR_LINES = 20

Stream = TypeVar("Stream")

# Copies between its standard streams and the socket; says the errno's name on stderr when there is nothing to copy to.
RELAY = """
import errno, os, selectors, socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as e:
    sys.stderr.write("guard-relay: %s\\n" % errno.errorcode.get(e.errno, e))
    sys.exit(3)
ways = {0: s.sendall, s.fileno(): lambda data: os.write(1, data)}
wait = selectors.DefaultSelector()
for fd in ways:
    wait.register(fd, selectors.EVENT_READ)
while True:
    for key, _ in wait.select():
        data = os.read(key.fd, 65536)
        if not data:
            sys.exit(0)
        while data:
            sent = ways[key.fd](data)
            data = data[sent:] if sent else b""
"""


class SshWay:
    """The kept connection of one host. Use it from one event loop; ``close`` it at the end.

    It is opened by the first ``dial`` and again by a later one when it broke. While a host cannot be reached, dials
    fail at once with what ssh said, and the next attempt waits: 0.5 s, then twice as long up to 8 s.
    """

    def __init__(self, login: Login, remote_socket: str, folder: Path, number: int) -> None:
        self._login = login
        self._remote = remote_socket
        self._local = folder / f"{number}.s"
        self._control = folder / f"{number}.c"
        self._opening: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._dismissed: set[asyncio.Task[None]] = set()
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._echo = asyncio.Event()
        self._relay = False
        self._problem: EngineUnreachable | None = None
        self._next_try = 0.0
        self._delay = _FIRST_DELAY_S

    @property
    def where(self) -> str:
        return f"the engine on {self._login.host}"

    async def dial(self) -> Wire:
        await self._open()
        if self._relay:
            return await self._dial_relay()
        try:
            return await dial_unix(str(self._local))
        except OSError as error:
            raise EngineUnreachable(f"{self.where}: the SSH connection has just ended") from error

    async def diagnose(self, symptom: Symptom) -> EngineError:
        if symptom is Symptom.SILENT:
            if await self._answers():
                return EngineDown(f"{self.where} does not answer, although the SSH connection does")
            return EngineUnreachable(f"{self.where}: the SSH connection has just ended")
        return self._verdict(await self._look(self._login.sudo if self._relay else ()))

    async def means(self, folder: str) -> HostMeans:
        """One command for both: ``df``'s line, then Python's version. What is not printed could not be found out."""
        await self._open()
        python = f"{shlex.quote(self._login.python)} -c 'import sys; print(*sys.version_info[:2])' || echo 0 0"
        script = f"df -Pk {shlex.quote(folder)} | tail -n 1; {python}"
        argv = self._login.session(self._control, shlex.join((*self._login.sudo, "sh", "-c", script)))
        process = await self._spawn(argv, stdin=DEVNULL, stderr=DEVNULL)
        try:
            stdout, _ = await process.communicate()
        finally:
            await _ended(process)
        return _means(stdout.decode(errors="replace").splitlines())

    async def close(self) -> None:
        """Ends ssh and whatever it started. The way must not be used afterwards."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._end()

    # --- the connection ---

    async def _open(self) -> None:
        if self._process is not None and self._process.returncode is None and self._opening is None:
            return
        if self._opening is None:
            if self._problem is not None and asyncio.get_running_loop().time() < self._next_try:
                raise EngineUnreachable(self._problem.message, hint=self._problem.hint)
            self._opening = asyncio.create_task(self._connect())
            self._opening.add_done_callback(self._opened)
        # Shielded: a check's deadline must not end the attempt that others wait for too.
        await asyncio.shield(self._opening)

    def _opened(self, attempt: asyncio.Task[None]) -> None:
        self._opening = None
        error = None if attempt.cancelled() else attempt.exception()
        if isinstance(error, EngineUnreachable):
            self._problem = error
            self._next_try = asyncio.get_running_loop().time() + self._delay
            self._delay = min(2 * self._delay, _LONGEST_DELAY_S)
        elif not attempt.cancelled():
            self._problem, self._delay = None, _FIRST_DELAY_S

    async def _connect(self) -> None:
        await self._end()
        self._stderr.clear()
        argv = self._login.master(self._control, self._local, self._remote, _COMMAND)
        process = self._process = await self._spawn(argv)
        limit = self._login.connect_timeout_s + _AUTHENTICATION_S
        try:
            async with asyncio.timeout(limit):
                await self._greeted(process)
                if self._login.sudo:
                    self._relay = await self._look(()) in ("EACCES", "EPERM")
        except TimeoutError:
            await self._end()
            raise self._unreachable(f"no SSH connection within {limit:g} s") from None
        except BaseException:
            await self._end()
            raise

    async def _spawn(self, argv: tuple[str, ...], **streams: int) -> Process:
        """A session of its own: Ctrl-C is meant for guard, which may have a rollback to finish over this connection."""
        pipes = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, **streams}
        try:
            return await asyncio.create_subprocess_exec(
                *argv, stdin=pipes["stdin"], stdout=pipes["stdout"], stderr=pipes["stderr"], start_new_session=True
            )
        except OSError as error:
            hint = "Install an SSH client." if isinstance(error, FileNotFoundError) else None
            raise EngineUnreachable(
                f"{self.where}: {argv[0]} could not be started: {error.strerror}", hint=hint
            ) from error

    async def _greeted(self, process: Process) -> None:
        stdout = _piped(process.stdout)
        stderr = asyncio.create_task(self._keep_stderr(_piped(process.stderr)))
        self._readers = [stderr]
        while (line := await _line(stdout)) != _GREETING:  # a shell's start-up files may be talkative
            if not line:
                await stderr
                await process.wait()
                raise self._unreachable("the SSH connection failed")
        self._readers.append(asyncio.create_task(self._hear_echo(stdout)))

    def _unreachable(self, what: str) -> EngineUnreachable:
        said = [line for line in self._stderr if line and not line.startswith("@")]
        reason = " ".join(said[-3:])
        return EngineUnreachable(f"{self._login.host}: {what}" + (f": {reason}" if reason else ""))

    async def _keep_stderr(self, stderr: asyncio.StreamReader) -> None:
        while line := await _line(stderr):
            self._stderr.append(line.decode(errors="replace").strip()[:500])

    async def _hear_echo(self, stdout: asyncio.StreamReader) -> None:
        while await stdout.read(CHUNK):
            self._echo.set()

    async def _answers(self) -> bool:
        """Whether what is written into the connection comes back. Waits as long as the caller lets it."""
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            return False
        self._echo.clear()
        process.stdin.write(b"\n")
        await self._echo.wait()
        return True

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _ended(process)
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, *self._dismissed, return_exceptions=True)
        self._readers = []

    # --- commands on the host, over the connection ---

    def _relay_command(self, prefix: tuple[str, ...]) -> str:
        return shlex.join((*prefix, self._login.python, "-c", RELAY, self._remote))

    async def _dial_relay(self) -> Wire:
        argv = self._login.session(self._control, self._relay_command(self._login.sudo))
        process = await self._spawn(argv, stderr=DEVNULL)
        return Wire(_piped(process.stdout), _piped(process.stdin), lambda: self._dismiss(process))

    def _dismiss(self, process: Process) -> None:
        task = asyncio.create_task(_ended(process))
        self._dismissed.add(task)
        task.add_done_callback(self._dismissed.discard)

    async def _look(self, prefix: tuple[str, ...]) -> str:
        """Connect to the engine's socket on the host itself: "ok", an errno's name, or what went wrong before that."""
        argv = self._login.session(self._control, self._relay_command(prefix))
        process = await self._spawn(argv, stdin=DEVNULL)
        try:
            _, stderr = await process.communicate()
        finally:
            await _ended(process)
        if process.returncode == 0:
            return "ok"
        lines = stderr.decode(errors="replace").strip().splitlines() or [f"the command ended with {process.returncode}"]
        return lines[-1].removeprefix("guard-relay: ")[:500]

    def _verdict(self, found: str) -> EngineError:
        match found:
            case "ENOENT" | "ECONNREFUSED":
                return EngineDown(f"{self.where} is down: nothing listens at {self._remote} ({found})")
            case "EACCES" | "EPERM":
                return EngineUnreachable(
                    f"{self.where}: the SSH user may not open {self._remote}",
                    hint="Add the user to the group docker there, or set ansible_become: true (passwordless sudo).",
                )
            case "ok" if not self._relay:
                return EngineUnreachable(
                    f"{self.where}: it runs, but the connection forwarded to {self._remote} was refused",
                    hint="The sshd there must allow it: AllowStreamLocalForwarding yes, no `restrict` on the key.",
                )
            case "ok":
                return EngineDown(f"{self.where} closes connections without an answer")
        return EngineUnreachable(f"{self.where}: {found}", hint="guard needs python3 there, and with become a sudo -n.")


def _means(lines: list[str]) -> HostMeans:
    free = next((int(f[3]) * 1024 for f in (line.split() for line in lines) if len(f) > 5 and f[3].isdigit()), None)
    version = next((line.split() for line in lines if re.fullmatch(r"\d+ \d+", line)), None)
    return HostMeans(free, (int(version[0]), int(version[1])) if version else None)


def _piped(stream: Stream | None) -> Stream:
    if stream is None:
        raise RuntimeError("the process was started without this pipe")
    return stream


async def _line(stream: asyncio.StreamReader) -> bytes:
    """A line, or b"" at the end. An overlong one is skipped: no line that matters here is."""
    while True:
        try:
            return await stream.readline()
        except ValueError:
            continue


def _kill(process: Process) -> None:
    """End ssh and its ProxyCommand. Its transport is closed by asyncio once the process has ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


async def _ended(process: Process) -> None:
    """Wait until the process is gone: SIGTERM lets ssh remove its sockets, and after 1 s SIGKILL does not ask."""
    _kill(process)
    try:
        async with asyncio.timeout(1.0):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
