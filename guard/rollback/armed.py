"""A rollback armed in advance: everything prepared, Ansible connected, and one word away from the swap.

The word goes through a named pipe in the run's folder. Only this process has it open for writing, so whatever ends this
process says ``disarm`` as well: the run then takes back what it prepared and removes its folder, without guard.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from guard.errors import StateError
from guard.model import HostResult, HostState
from guard.rollback import run, workdir
from guard.rollback.run import RunHandle
from guard.rollback.workdir import RunSpec

LONGEST_S = 1800.0  # after that the run disarms itself: connections and processes are not kept for a row without end
DISARM_S = 40.0  # how long the taking back is waited for; it goes on without us
POLL_S = 0.02


class ArmedRun:
    """A run that waits for the word. The first word counts; nothing is swapped without ``go``."""

    def __init__(self, handle: RunHandle, pipe: int) -> None:
        self._handle = handle
        self._pipe: int | None = pipe

    @property
    def folder(self) -> Path:
        return self._handle.folder

    @property
    def is_alive(self) -> bool:
        """Whether a word would still be heard. False as well when it disarmed itself."""
        self._handle.progress()
        still = self._handle.is_alive and not self._handle.word
        return still and self._pipe is not None and (self.folder / workdir.WORD).exists()

    def prepared(self) -> Mapping[str, HostResult] | None:
        """How the preparation ended on each host; None while it has not ended on all of them."""
        seen = {host: one.final or one.prepared for host, one in self._handle.progress().items()}
        return {h: r for h, r in seen.items() if r is not None} if all(seen.values()) else None

    def go(self, plan: Mapping[str, object]) -> RunHandle:
        """Swap. ``plan`` are values of every host's plan that are known only now. The run is then one like any other.

        It may be said before everything is prepared. ``RunHandle.word`` tells afterwards which word was heard.
        """
        if self._pipe is not None:
            os.write(self._pipe, json.dumps({"word": "go", "plan": dict(plan)}).encode() + b"\n")
            self._handle.pipe, self._pipe = self._pipe, None  # closed now, the word could be lost before it is heard
        return self._handle

    async def disarm(self) -> bool:
        """Take back what was prepared, and wait for that. True when nothing is left, neither on hosts nor here."""
        if self._pipe is not None:
            os.close(self._pipe)  # that says it
            self._pipe = None
        until = time.monotonic() + DISARM_S
        while self._handle.is_alive and time.monotonic() < until:
            await asyncio.sleep(POLL_S)
        return not self.folder.exists()


async def arm(spec: RunSpec) -> ArmedRun:
    """Start preparing. ``spec.armed_s`` is how long the word is waited for. Raises what ``run.start`` raises."""
    return await asyncio.to_thread(_arm, spec)


def _arm(spec: RunSpec) -> ArmedRun:
    lock = workdir.create(spec.folder)
    pipe: int | None = None
    try:
        try:
            os.mkfifo(spec.folder / workdir.WORD, 0o600)
            # For reading too, or opening would wait for a reader. No child inherits it.
            pipe = os.open(spec.folder / workdir.WORD, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise StateError(f"cannot make {spec.folder / workdir.WORD}: {error.strerror}") from error
        armed = ArmedRun(run.begin_in(spec, lock), pipe)
        pipe = None
        return armed
    except BaseException:
        workdir.remove(spec.folder)  # nothing was started from it
        raise
    finally:
        os.close(lock)  # the shim has it now, or nobody
        if pipe is not None:
            os.close(pipe)


def leftovers(state_dir: Path) -> Iterator[Path]:
    """Folders of armed runs that are not alive: disarmed but not everywhere, killed, or killed after the word."""
    for pipe in sorted((state_dir / "runs").glob(f"*/*/{workdir.WORD}")):
        if not workdir.is_held(pipe.parent):
            yield pipe.parent


def is_clean(results: Mapping[str, HostResult]) -> bool:
    """Whether the word may be given for these preparations: every host prepared, or right already."""
    return all(one.state in (HostState.PLANNED, HostState.UNCHANGED) for one in results.values())
