"""``python -m guard.rollback.shim SCRATCH``: the small process that a run belongs to.

It loads Ansible, then waits for its run: a folder and the lock on it, see ``ahead``. It has a session of its own, holds
that lock for its whole life, adopts every orphan of the run, writes redacted events as they come, and writes
``result.json`` by rename after every process of the run has ended. SIGTERM cancels: all descendants get SIGTERM, and
two seconds later SIGKILL. A run that was armed in advance and disarmed on every host leaves no folder.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from guard.rollback import ahead, processes, record, runner, workdir
from guard.rollback.outcome import Ending, Event, EventKind, begin, conclude, fold
from guard.rollback.redact import Redactor
from guard.rollback.workdir import Asked

_PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 2.0


class Ender:
    """Ends the run's processes on SIGTERM and at the deadline. Signal handlers only: no thread a fork would lose."""

    def __init__(self) -> None:
        self.ending = Ending.FINISHED
        self._asked = False

    def arm(self, timeout_s: float) -> None:
        """ITIMER_REAL counts on a clock that does not jump with the wall clock."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGALRM})

    def disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    @property
    def asked(self) -> bool:
        return self._asked

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        self._end(Ending.CANCELLED)

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        self._end(Ending.TIMED_OUT)

    def _end(self, why: Ending) -> None:
        """First politely; from then on every alarm kills, ten times a second, until the run has returned."""
        if not self._asked:
            self._asked, self.ending = True, why
            processes.signal_all(processes.descendants(os.getpid()), signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, GRACE_S, 0.1)
        elif why is Ending.TIMED_OUT:
            processes.signal_all(processes.descendants(os.getpid()), signal.SIGKILL)


class Recorder:
    """Takes ansible-runner's events: masks them, writes them, and keeps the progress of every host."""

    def __init__(self, folder: Path, asked: Asked, redactor: Redactor) -> None:
        self._folder = folder
        self._asked = asked
        self._redactor = redactor
        self._events = _append(folder / workdir.EVENTS)
        self._stdout = _append(folder / workdir.STDOUT)
        self._number = 0
        self.progress = begin(asked.hosts)
        self.problem = ""
        self._word = ""
        self._taken_back: set[str] = set()

    @property
    def told_to_go(self) -> bool:
        return self._word == "go"

    @property
    def left_nothing(self) -> bool:
        """The run was armed in advance and disarmed, and every host has taken back what was prepared there."""
        return self._word == "disarm" and self._taken_back >= set(self._asked.hosts)

    def take(self, raw: Mapping[str, object]) -> None:
        """Never raises OSError, which ansible-runner would swallow: what could not be written breaks the result."""
        try:
            self._take(raw)
        except OSError as error:
            self.problem = self.problem or f"the run's events could not be written: {error}"

    def _take(self, raw: Mapping[str, object]) -> None:
        event = record.event_of(raw)
        if event is not None:
            masked = self._redactor.value(event.result)
            seen = (
                Event(event.kind, event.host, event.task, masked, event.ignored) if isinstance(masked, dict) else event
            )
            self.progress = fold(self.progress, record.slim(seen), self._asked.targets)
            if record.is_module_result(seen):
                self._evidence(seen)
                if self._word and event.kind is EventKind.OK:
                    self._taken_back.add(event.host)
            elif self._asked.armed:
                self._word = str(event.result.get("word") or self._word)
            self._number += 1
            text = record.line(record.slim(seen), self._number, _now())
            os.write(self._events, text.encode())
            if event.kind is not EventKind.START:
                os.fdatasync(self._events)
        stdout = raw.get("stdout")
        if isinstance(stdout, str) and stdout:
            os.write(self._stdout, (self._redactor.text(stdout) + "\n").encode(errors="replace"))

    def _evidence(self, event: Event) -> None:
        if event.host not in self._asked.hosts:
            return
        folder = self._folder / workdir.HOSTS / event.host
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        rest = {
            key: value for key, value in event.result.items() if key != "log_tail" and not key.startswith("_ansible")
        }
        _replace(folder / "result.json", json.dumps(rest, indent=1, default=str))
        log = event.result.get("log_tail")
        if isinstance(log, str) and log:
            _replace(folder / "container.log", log)

    def close(self) -> None:
        for descriptor in (self._events, self._stdout):
            try:
                os.fsync(descriptor)
            except OSError as error:
                self.problem = self.problem or f"the run's events could not be written: {error}"
            os.close(descriptor)


def run(folder: Path, loaded: runner.Loaded | Exception) -> None:
    """The whole life of a run, from its folder to ``result.json``."""
    began = _now()
    asked = workdir.read_asked(folder)
    redactor = Redactor(_secrets(folder))
    recorder = Recorder(folder, asked, redactor)
    ender = Ender()
    # A word that is given before Ansible waits for it stays in the pipe as long as somebody could read it.
    kept = os.open(folder / workdir.WORD, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) if asked.armed else None
    rc: int | None = None
    problem = ""
    ender.arm(asked.timeout_s)
    try:
        if not ender.asked:
            if isinstance(loaded, Exception):
                raise loaded
            rc = loaded.play(folder, asked, recorder.take)
    except Exception as error:  # noqa: BLE001 - whatever ansible-runner raises is recorded, with its traceback
        problem = f"ansible-runner failed: {error!r}"
        sys.stderr.write(redactor.text(traceback.format_exc()))
    ender.disarm()
    if kept is not None:
        os.close(kept)
    processes.end_all(os.getpid(), grace_s=GRACE_S)
    recorder.close()
    problem = problem or recorder.problem
    if rc is None and not problem and ender.ending is Ending.FINISHED:
        problem = "ansible-playbook was killed"
    ending = Ending.BROKEN if problem and ender.ending is Ending.FINISHED else ender.ending
    if rc == 127 and not any(one.seen for one in recorder.progress.values()):
        ending, problem = Ending.BROKEN, "ansible-playbook could not be started; stdout.log says why"
    hosts = conclude(recorder.progress, ending, check=asked.check or asked.prepares)
    result = record.RunResult(folder, ending, rc, hosts, redactor.text(problem))
    workdir.scrub(folder, asked.scratch)
    if recorder.left_nothing:
        workdir.remove(folder)
        return
    if recorder.told_to_go:
        (folder / workdir.WORD).unlink(missing_ok=True)  # from now on a run like any other
    times = {"started_at": began, "ended_at": _now()}
    _replace(folder / workdir.RESULT, json.dumps(record.result_document(result, times), indent=1), durable=True)


def _secrets(folder: Path) -> list[str]:
    path = folder / workdir.SECRETS
    secrets = [str(secret) for secret in json.loads(path.read_text())]
    path.unlink()
    return secrets


def _append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _replace(path: Path, text: str, *, durable: bool = False) -> None:
    """Write by rename: a reader sees all of it or nothing. ``durable``: also after a power cut."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", errors="replace") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)
    if durable:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main(arguments: list[str]) -> int:
    """``SCRATCH``, with the line to guard as standard input."""
    scratch = Path(arguments[0])
    os.umask(0o077)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    loaded = _load(scratch)
    told = ahead.receive(0)
    if told is None:
        processes.end_all(os.getpid(), grace_s=0.0)  # it only loaded: nothing is lost
        shutil.rmtree(scratch, ignore_errors=True)
        return 0
    folder, _lock = told  # held, and given to nobody, until this process ends
    _take_over(folder, scratch)
    _replace(folder / workdir.PID, json.dumps({"pid": os.getpid(), "started": processes.start_time(os.getpid())}))
    run(folder, loaded)
    return 0


def _load(scratch: Path) -> runner.Loaded | Exception:
    """What goes wrong here becomes the result of the run, once there is one."""
    try:
        return runner.Loaded(scratch)
    except Exception as error:  # noqa: BLE001 - raised again by the run, and recorded with its traceback
        return error


def _take_over(folder: Path, scratch: Path) -> None:
    """From here on the folder is this process's own: its log, and where it stands."""
    log = _append(folder / workdir.SHIM_LOG)
    os.write(log, (scratch / workdir.SHIM_LOG).read_bytes())
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.chdir(folder)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # everything is written; a tidy interpreter shutdown would only keep the lock longer
