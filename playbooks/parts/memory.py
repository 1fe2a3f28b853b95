"""guard's memory on a host: lock, fence and journal."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import time

from .engine import DEFAULT_ENGINE
from .problems import Problem

LOCK_WAIT_S = 10.0


def folder_name(chosen):
    """Where guard's folder on this host is."""
    return chosen or ("/var/lib/guard" if os.geteuid() == 0 else os.path.expanduser("~/.local/state/guard"))


def state_folder(chosen, look_only):
    """guard's folder on this host, made 0700 when missing. Refused when somebody else could write into it."""
    chosen = folder_name(chosen)
    if look_only:
        return chosen
    try:
        os.makedirs(chosen, 0o700, exist_ok=True)
        seen = os.lstat(chosen)
    except OSError as wrong:
        raise Problem("state", f"guard's folder {chosen} can't be used: {wrong}") from wrong
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
        raise Problem("state", f"guard's folder {chosen} must be a directory that only its user can write to")
    return chosen


def write_durably(name, content):
    """Replace a file so that either the old or the new content is there after a power cut."""
    handle = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.rename(name + ".new", name)
    parent = os.open(os.path.dirname(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


class Memory:
    """The lock, the fence and the journal of one container on this host. Use it as a context: it holds the lock.

    ``look_only`` (check mode) reads what is there and writes nothing, not even the lock.
    """

    def __init__(self, plan, engine, look_only):
        where = state_folder(plan["state_dir"], look_only)
        self.look_only = look_only
        suffix = "" if engine == DEFAULT_ENGINE else "@" + hashlib.sha256(engine.encode()).hexdigest()[:8]
        self.plan = plan
        self.lock_name = os.path.join(where, plan["container"] + suffix + ".lock")  # one container, one lock
        name = os.path.join(where, "{}@{}{}".format(plan["service"], plan["container"], suffix))
        self.fence_name, self.journal_name = name + ".fence", name + ".journal"
        self.facts, self.handle, self.lock = {}, None, None

    def __enter__(self):
        if self.look_only:
            self.facts = self.read()
            return self
        self.lock = os.open(self.lock_name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    holder = os.pread(self.lock, 200, 0).decode("utf-8", "replace").strip()
                    name = self.plan["container"]
                    told = f"another guard run works on container {name} here ({holder}); try again when it has ended"
                    raise Problem("locked", told) from None
                time.sleep(0.05)
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, f"run {self.plan['run_id']}, pid {os.getpid()}\n".encode(), 0)
        self.facts = self.read()
        return self

    def __exit__(self, *_):
        self.close()
        if self.lock is not None:
            os.close(self.lock)

    def read(self):
        """The facts of all lines together. A last line cut short by a crash is as if it was never begun."""
        facts = {}
        try:
            with open(self.journal_name, "rb") as lines:
                for line in lines:
                    facts.update(json.loads(line))
        except FileNotFoundError:
            return {}
        except ValueError:
            pass
        return facts

    def refuse_older(self):
        """Compare the fence, and remember it unless only looking. A lower one belongs to a guard that was replaced."""
        try:
            with open(self.fence_name, "rb") as stored:
                known = int(stored.read())
        except FileNotFoundError:
            known = -1
        except ValueError:
            raise Problem("state", f"{self.fence_name} is damaged; remove it when no guard run is active") from None
        mine = self.plan["fence"]
        if mine < known:
            told = f"this run has fence {mine}, but fence {known} was here already: another guard took the service over"
            raise Problem("fenced", "fenced: " + told)
        if mine > known and not self.look_only:
            write_durably(self.fence_name, b"%d\n" % mine)

    def begin(self, **facts):
        """A new journal for a new piece of work: old lines go, ``facts`` are its first line."""
        self.close()
        self.facts = dict(facts, run_id=self.plan["run_id"], fence=self.plan["fence"])
        write_durably(self.journal_name, json.dumps(self.facts).encode() + b"\n")

    def note(self, **facts):
        """Append facts, on disk when this returns.

        Not while a swap is under way and the disk has become full: to stop there could leave nothing running. That it
        is under way is on disk already, and the names of the containers say how far it has come.
        """
        under_way = self.facts.get("phase") in ("swapping", "undoing")
        self.facts.update(facts)
        try:
            self.append(json.dumps(facts).encode() + b"\n")
        except OSError as wrong:
            if not under_way:
                raise Problem("state", f"guard's journal {self.journal_name} can't be written: {wrong}") from wrong

    def append(self, line):
        """All of the line, or none of it."""
        if self.handle is None:
            self.handle = os.open(self.journal_name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            size = os.fstat(self.handle).st_size
            if size and os.pread(self.handle, 1, size - 1) != b"\n":
                os.write(self.handle, b"\n")
        size = os.fstat(self.handle).st_size
        try:
            if os.write(self.handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self.handle)
        except OSError:
            os.ftruncate(self.handle, size)
            raise

    def close(self):
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
