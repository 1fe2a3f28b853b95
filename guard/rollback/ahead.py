"""A run's process started ahead of its run: Python and Ansible are loaded while guard still looks and decides.

What is started here is a shim without a run. It has loaded Ansible, touches no host, and waits for a folder and its
lock on its end of a socket. When the other end closes without that, because guard has changed its mind or is gone,
it ends and takes its scratch folder along. Every run begins this way; only how long it waits differs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from guard.errors import StateError
from guard.rollback import runner, workdir

_FORKS = 5  # only until a run says its own


class Ahead:
    """A shim that waits for its run. ``tell`` gives it one, ``close`` lets it end."""

    def __init__(self, scratch: Path, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self.scratch = scratch
        self.process = process
        self._line = line

    @property
    def waits(self) -> bool:
        return self._line.fileno() >= 0 and self.process.poll() is None

    def tell(self, folder: Path, lock: int) -> None:
        """The folder is filled: run it. StateError when the shim has ended meanwhile: then nothing was started."""
        try:
            socket.send_fds(self._line, [json.dumps(str(folder)).encode()], [lock])
        except OSError as error:
            raise StateError(f"the run's process has ended before its run: {error.strerror}") from error
        finally:
            self.close()

    def close(self) -> None:
        self._line.close()


def begin(environ: Mapping[str, str], *, hooks: bool = False) -> Ahead:
    """Start a shim that waits. SIGTERM is blocked across the start: an early cancel waits until it can be answered.

    ``hooks``: its run has some. Where their collections are, Ansible wants to know when it is loaded.
    """
    scratch = workdir.new_scratch()
    workdir.write(scratch / workdir.CONFIG, workdir.config_text(scratch, _FORKS, environ if hooks else None))
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    log = os.open(scratch / workdir.SHIM_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "guard.rollback.shim", str(scratch)],
            cwd=scratch,
            env=runner.environment(scratch, environ),
            stdin=theirs.fileno(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        shutil.rmtree(scratch, ignore_errors=True)
        raise StateError(f"cannot start the run's process: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        os.close(log)
    return Ahead(scratch, process, ours)


def receive(descriptor: int) -> tuple[Path, int] | None:
    """The shim's end: the folder and its lock, or None when there will be no run. Waits as long as it takes."""
    with socket.socket(fileno=os.dup(descriptor)) as line:
        said, locks, _, _ = socket.recv_fds(line, 65536, 1)
    if not said or not locks:
        return None
    os.set_inheritable(locks[0], False)
    return Path(json.loads(said)), locks[0]
