#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Made by playbooks/assemble.py from playbooks/parts
"""Puts a Swarm service's image back, on a manager, in one task: looks, updates, waits, undoes itself.

One file without AnsibleModule, its arguments filled in as JSON text: see guard_container, with which it shares that.

The state of an update is the swarm's own: the service's spec (which image is wanted), its update status and its tasks.
The journal on the manager only adds what they cannot say: what the spec was before, and which run changed it. A run
that was killed anywhere is finished by the next one with the same plan, see ``Update.settle``.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import hashlib
import json
import os
import re
import signal
import socket
import stat
import struct
import sys
import time


# ----------------------------------------------------------------------------------------------------------- accept.py

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")
IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}\Z")
REFERENCE = re.compile(
    r"(?=.{1,512}\Z)((?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)(?::([\w][\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?\Z",
    re.ASCII,
)
BACKUP_TAG = re.compile(r"backup_[0-9]{8}_[0-9]{6}\Z")


def text(pattern, what):
    def accept(value):
        if not isinstance(value, str) or not pattern.match(value):
            raise ValueError("must be " + what)
        return value

    return accept


def number(kind, low, high):
    def accept(value):
        if isinstance(value, bool) or not isinstance(value, (int, kind)) or not low <= value <= high:
            raise ValueError(f"must be a number from {low} to {high}")
        return value

    return accept


def flag(value):
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def engine_address(value):
    if not isinstance(value, str) or not re.match(r"(unix:///[^\0]+|tcp://[a-zA-Z0-9.\[\]:-]+:[0-9]+)\Z", value):
        raise ValueError("must be unix:///path or tcp://host:port")
    return value


def folder(value):
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("must be an absolute path")
    return value


def image_reference(value):
    if not isinstance(value, str) or not (IMAGE_ID.match(value) or REFERENCE.match(value)):
        raise ValueError("must be an image reference")
    return value


def digest_reference(value):
    found = REFERENCE.match(value) if isinstance(value, str) else None
    if not found or not found.group(3):
        raise ValueError("must be repository@sha256:…")
    return value


def target_image(value):
    if not isinstance(value, dict) or set(value) - {"image", "image_id", "digest"}:
        raise ValueError("must be a mapping of image, image_id and digest")
    accepted = {"digest": None}
    for key, accept in (("image", image_reference), ("image_id", text(IMAGE_ID, "sha256:<64 hex digits>"))):
        try:
            accepted[key] = accept(value.get(key))
        except ValueError as wrong:
            raise ValueError(f"{key} {wrong}") from wrong
    if value.get("digest") is not None:
        accepted["digest"] = digest_reference(value["digest"])
    return accepted


# --------------------------------------------------------------------------------------------------------- problems.py

class Problem(Exception):
    """What stopped the work. ``kind`` is a closed word for programs, the text is for people."""

    def __init__(self, kind, text):
        Exception.__init__(self, text)
        self.kind = kind


class EngineError(Problem):
    """The engine answered with an error."""

    def __init__(self, status, text):
        Problem.__init__(self, "engine", text)
        self.status = status


class EngineGone(Problem):
    """The engine could not be reached, or went away during a request whose outcome is therefore unknown."""

    def __init__(self, text):
        Problem.__init__(self, "engine_gone", text)


# ------------------------------------------------------------------------------------------------------------- plan.py

A_NAME = text(NAME, "a name of letters, digits, '_', '.' and '-'")
ALWAYS = {"service": A_NAME, "container": A_NAME, "run_id": A_NAME}
FOR_CHANGES = {"fence": number(int, 0, 2**63), "target": target_image}
FOR_TAGGING = {"backup_tag": text(BACKUP_TAG, "backup_YYYYMMDD_HHMMSS")}
OPTIONAL = {
    "engine": (engine_address, None),
    "state_dir": (folder, None),
    "expect_image_id": (text(IMAGE_ID, "sha256:<64 hex digits>"), None),
    "health_timeout_s": (number(float, 0.1, 86400), 60),
    "stable_s": (number(float, 0, 3600), 1.0),
    "stop_timeout_s": (number(int, 0, 86400), None),
    "force": (flag, False),
    "wait_healthy": (flag, True),
}
REQUIRED = {
    "snapshot": ALWAYS,
    "prepare": dict(ALWAYS, **dict(FOR_CHANGES, **FOR_TAGGING)),
    "swap": dict(ALWAYS, **dict(FOR_CHANGES, **FOR_TAGGING)),
    "discard": dict(ALWAYS, fence=FOR_CHANGES["fence"]),
}


def read_plan(arguments, optional=OPTIONAL):
    """Check everything before anything is touched: returns (mode, plan) or raises Problem("plan")."""
    given = {key: value for key, value in arguments.items() if not key.startswith("_ansible_")}
    mode, plan = given.pop("mode", None), given.pop("plan", None)
    if mode not in REQUIRED or given or not isinstance(plan, dict):
        raise Problem(
            "plan", "the module takes mode ({}) and plan (a mapping), nothing else".format("|".join(REQUIRED))
        )
    required = REQUIRED[mode]
    allowed = dict({key: accept for key, (accept, _) in optional.items()}, **dict(FOR_CHANGES, **FOR_TAGGING), **ALWAYS)
    for key in plan:
        if key not in allowed:
            raise Problem("plan", f"plan.{key} is not known to this playbook version")
    accepted = {key: default for key, (_, default) in optional.items()}
    for key, accept in allowed.items():
        if plan.get(key) is None:
            if key in required:
                raise Problem("plan", f"plan.{key} is missing (needed for {mode})")
            continue
        try:
            accepted[key] = accept(plan[key])
        except ValueError as wrong:
            raise Problem("plan", f"plan.{key} {wrong}") from wrong
    return mode, accepted


# ----------------------------------------------------------------------------------------------------------- engine.py

API_OLDEST, API_NEWEST = (1, 41), (1, 51)
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
LOG_LINES, LOG_BYTES = 40, 8000
REQUEST_TIMEOUT_S = 60.0
PULL_TIMEOUT_S = 900.0
POLL_S = 0.02


def quoted(value):
    """Percent-encode one path segment or query value (RFC 3986 unreserved characters stay)."""
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in value.encode("utf-8"))


def path(*segments, **query):
    """An engine path: segments and query values are quoted, ``None`` values left out, ``True`` is 1."""
    pairs = [
        "{}={}".format(key, quoted("1" if value is True else str(value)))
        for key, value in query.items()
        if value is not None
    ]
    return "/" + "/".join(quoted(segment) for segment in segments) + ("?" + "&".join(pairs) if pairs else "")


def demultiplexed(data):
    """Join the frames of a log stream: stream number, three zeros, length (4 bytes, big endian), text."""
    lines, position = [], 0
    while position + 8 <= len(data):
        size = struct.unpack(">I", data[position + 4 : position + 8])[0]
        lines.append(data[position + 8 : position + 8 + size])
        position += 8 + size
    return b"".join(lines)


class Engine:
    """The Docker API over one kept connection. Written by hand: http.client and ssl cost more than they give here."""

    def __init__(self, address):
        self.address = address
        self.socket = self.reader = None
        self.version = None
        self.api = ""
        self.podman = False

    def negotiate(self):
        """Agree on the newest version both sides know (a newer one shows, and so keeps, more of a configuration)."""
        _, headers, _ = self.exchange("GET", "/_ping")
        theirs = tuple(int(part) for part in headers.get("api-version", "0.0").split("."))
        if theirs < API_OLDEST:
            raise Problem(
                "engine",
                "the engine at {} speaks API {}; at least 1.41 (Docker 20.10) is needed".format(
                    self.address, ".".join(map(str, theirs))
                ),
            )
        self.version = min(theirs, API_NEWEST)
        self.podman = "libpod-api-version" in headers
        self.api = "/v{}.{}".format(*self.version)

    def close(self):
        if self.socket is not None:
            self.reader.close()
            self.socket.close()
            self.socket = None

    def connect(self, timeout):
        if self.address.startswith("unix://"):
            made, where = socket.socket(socket.AF_UNIX), self.address[len("unix://") :]
        else:
            host, _, port = self.address[len("tcp://") :].rpartition(":")
            made, where = (
                socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET),
                (host.strip("[]"), int(port)),
            )
        made.settimeout(timeout)
        made.connect(where)
        self.socket, self.reader = made, made.makefile("rb")

    def exchange(self, method, where, body=None, timeout=REQUEST_TIMEOUT_S):
        """One request: (status, headers, bytes). EngineGone when it could not be sent or its answer did not come."""
        content = b"" if body is None else json.dumps(body).encode("ascii")
        head = f"{method} {where} HTTP/1.1\r\nHost: docker\r\nContent-Length: {len(content)}\r\n"
        head += "Content-Type: application/json\r\n\r\n" if body is not None else "\r\n"
        try:
            if self.socket is None:
                self.connect(timeout)
            self.socket.settimeout(timeout)
            self.socket.sendall(head.encode("ascii") + content)
            return self.answer()
        except (OSError, ValueError, EOFError) as broken:
            self.close()
            why = str(broken) or "it closed the connection"
            raise EngineGone(f"the engine at {self.address} did not answer {method} {where}: {why}") from broken

    def answer(self):
        line = self.reader.readline()
        if not line:
            raise EOFError("the connection was closed")
        status = int(line.split(b" ", 2)[1])
        headers = {}
        while True:
            line = self.reader.readline()
            if line in (b"\r\n", b"\n"):
                break
            if not line:
                raise EOFError("the connection was closed")
            key, _, value = line.decode("latin-1").partition(":")
            headers[key.strip().lower()] = value.strip()
        if status in (204, 304):
            return status, headers, b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return status, headers, self.chunks()
        if "content-length" in headers:
            return status, headers, self.exactly(int(headers["content-length"]))
        return status, headers, self.reader.read()

    def chunks(self):
        parts = []
        while True:
            size = int(self.reader.readline().split(b";")[0], 16)
            parts.append(self.exactly(size))
            self.reader.readline()
            if size == 0:
                return b"".join(parts)

    def exactly(self, size):
        data = self.reader.read(size)
        if len(data) != size:
            raise EOFError("the connection was closed")
        return data

    def call(self, method, where, body=None, timeout=REQUEST_TIMEOUT_S, raw=False):
        """One API call: its JSON (or bytes). EngineError carries the status and the engine's own words."""
        if self.version is None:
            self.negotiate()
        status, _, data = self.exchange(method, self.api + where, body, timeout)
        if status >= 400:
            try:
                message = json.loads(data)["message"]
            except (ValueError, KeyError, TypeError):
                message = data[:500].decode("utf-8", "replace")
            raise EngineError(status, "the engine refused {} {}: {}".format(method, where.split("?")[0], message))
        return data if raw else (json.loads(data) if data.strip() else None)

    def get(self, *segments, **query):
        """GET, or None when there is no such thing."""
        try:
            return self.call("GET", path(*segments, **query))
        except EngineError as refused:
            if refused.status == 404:
                return None
            raise

    def container(self, name):
        """The container of exactly that name. (The engine also answers to the beginning of an ID: never here.)"""
        found = self.get("containers", name, "json")
        return found if found and found["Name"] == "/" + name else None

    def image(self, reference):
        return self.get("images", reference, "json")

    def pull(self, digest):
        """Pull ``repository@sha256:…``. An error inside the progress stream is an error. (No registry login here.)"""
        repository, _, checksum = digest.partition("@")
        repository = REFERENCE.match(repository).group(1)
        data = self.call(
            "POST", path("images", "create", fromImage=repository, tag=checksum), timeout=PULL_TIMEOUT_S, raw=True
        )
        for line in data.splitlines():
            event = json.loads(line) if line.strip() else {}
            if event.get("error") or event.get("errorDetail"):
                raise Problem(
                    "pull", "pulling {} failed: {}".format(digest, event.get("error") or event["errorDetail"])
                )

    def tag(self, image_id, repository, tag):
        self.call("POST", path("images", image_id, "tag", repo=repository, tag=tag))

    def free_tag(self, repository, tag, image_id):
        """``tag``, or that of a later second where another image has it: from a rollback begun in the same second."""
        form, at = "backup_%Y%m%d_%H%M%S", tag
        while True:
            taken = self.image(f"{repository}:{at}")
            if taken is None or taken["Id"] == image_id:
                return at
            later = datetime.datetime.strptime(at, form) + datetime.timedelta(seconds=1)
            at = later.strftime(form)

    def rename(self, container_id, name):
        self.call("POST", path("containers", container_id, "rename", name=name))

    def stop(self, container, timeout_s):
        """Stop and wait until it has. ``timeout_s`` None: as the container itself says (its own, else 10 s)."""
        grace = timeout_s if timeout_s is not None else (container["Config"].get("StopTimeout") or 10)
        try:
            self.call("POST", path("containers", container["Id"], "stop", t=timeout_s), timeout=grace + 30.0)
        except EngineError as refused:
            if refused.status != 404:  # one that removes itself is gone once it has stopped
                raise

    def start(self, container_id):
        """Start; the ports of a container that just stopped may be held for some milliseconds more."""
        until = time.monotonic() + 3
        while True:
            try:
                return self.call("POST", path("containers", container_id, "start"))
            except EngineError as refused:
                busy = "already allocated" in str(refused) or "already in use" in str(refused)
                if not busy or time.monotonic() > until:
                    raise
                time.sleep(POLL_S)

    def remove(self, container_id):
        """Remove the container, its volumes never."""
        try:
            self.call("DELETE", path("containers", container_id, force=True, v="0"))
        except EngineError as refused:
            if refused.status != 404 and "already in progress" not in str(refused):
                raise

    def log_tail(self, container):
        """The last lines of a container's output as text, at most LOG_BYTES; says so when its log driver can't."""
        try:
            data = self.call(
                "GET", path("containers", container["Id"], "logs", stdout=True, stderr=True, tail=LOG_LINES), raw=True
            )
        except EngineError as refused:
            return f"(no log: {refused})"
        if not container["Config"].get("Tty"):
            data = demultiplexed(data)
        return data[-LOG_BYTES:].decode("utf-8", "replace")

    def passes(self, container_id, command):
        """Run a health check's command in the container once, as the engine would: did it end with 0?"""
        if self.podman:  # never says that a detached command has ended, but runs a check when it is asked to
            where = "/v4.0.0/libpod" + path("containers", container_id, "healthcheck")
            return json.loads(self.exchange("GET", where)[2]).get("Status") == "healthy"
        try:
            made = self.call("POST", path("containers", container_id, "exec"), {"Cmd": command})
            self.call("POST", path("exec", made["Id"], "start"), {"Detach": True})
        except EngineError:  # the container has ended, or has no such program: the next look at it will tell
            return False
        until = time.monotonic() + 5
        while time.monotonic() < until:
            seen = self.call("GET", path("exec", made["Id"], "json"))
            if not seen["Running"]:
                return seen["ExitCode"] == 0
            time.sleep(POLL_S)
        return False


# ----------------------------------------------------------------------------------------------------------- memory.py

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


# ---------------------------------------------------------------------------------------------------------- program.py

ENGINE_RETURN_S = 20.0  # how long a swap waits for an engine that went away under it


def survive_hangups():
    """A swap is not left half done because a connection ended or somebody pressed Ctrl-C: it takes seconds."""
    for number_ in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number_, signal.SIG_IGN)


def engine_of(plan):
    engine = Engine(plan["engine"] or os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE)
    engine_address(engine.address)
    return engine


def wait_for(engine):
    """Until the engine answers again, at most ENGINE_RETURN_S."""
    until = time.monotonic() + ENGINE_RETURN_S
    while True:
        try:
            return engine.negotiate()
        except EngineGone:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def result_of(arguments, read, work):
    """Arguments in, result out: the only place where a failure becomes a result."""
    plan, failed = {}, {"changed": False, "state": "failed", "steps": [], "log_tail": None}
    try:
        mode, plan = read(arguments)
        result = work(mode, plan, bool(arguments.get("_ansible_check_mode")))
    except Problem as problem:
        result = dict(failed, error=str(problem), kind=problem.kind)
        if plan.get("target"):
            result["to"] = {"image": plan["target"]["image"], "image_id": plan["target"]["image_id"]}
    except OSError as wrong:  # lock, fence or journal; a swap that is under way does without them
        where = folder_name(plan.get("state_dir"))
        result = dict(failed, error=f"guard's folder {where} can't be used: {wrong}", kind="state")
    except Exception as unexpected:  # the last resort: without a result guard would know nothing about this host
        import traceback

        result = dict(failed, error=f"unexpected: {unexpected!r}", kind="unexpected", exception=traceback.format_exc())
    for key in ("from", "to", "backup_tag", "downtime_s", "error", "container_id"):
        result.setdefault(key, None)
    if result["state"] in ("failed", "reverted"):
        result.update(failed=True, msg=result["error"])
    if arguments.get("_ansible_diff") and result["from"] and result["to"]:
        shown = ["".join("{}: {}\n".format(*pair) for pair in sorted(result[key].items())) for key in ("from", "to")]
        result["diff"] = {
            "before_header": plan["container"],
            "after_header": plan["container"],
            "before": shown[0],
            "after": shown[1],
        }
    return result


def run_as_program(text_, read, work):
    """``read``: arguments → (mode, plan). ``work``: mode, plan, check mode → result. Both raise Problem."""
    result = result_of(json.loads(text_), read, work)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    sys.exit(1 if result.get("failed") else 0)


# ---------------------------------------------------------------------------------------------------------- restore.py

PAUSES_S = (0.1, 1.0)  # a swap that an engine broke off half way is looked at afresh and brought to an end, so often


def restore_with(swap):
    """The work of a module (see ``run_as_program``) whose swap is of the class ``swap``."""

    def work(mode, plan, check_mode):
        """One mode on this host: the result. Problem when nothing was changed (or the engine is gone for good)."""
        engine = engine_of(plan)
        if mode == "snapshot":
            return swap(engine, None, plan, check_mode).snapshot()
        engine.negotiate()
        with Memory(plan, engine.address, check_mode) as memory:
            if mode != "discard":  # which asks for itself: it may always take back what is its own
                memory.refuse_older()
            task = swap(engine, memory, plan, check_mode)
            if mode != "swap":
                return getattr(task, mode)()
            if not check_mode:
                survive_hangups()
            for pause in PAUSES_S:
                try:
                    return task.swap()
                except swap.BROKEN_OFF_BY as broken:
                    if memory.facts.get("phase") not in ("swapping", "undoing"):
                        raise
                    if isinstance(broken, EngineGone):
                        wait_for(engine)
                    time.sleep(pause)
            return task.swap()

    return work


# ---------------------------------------------------------------------------------------------------------- service.py

MOVING = ("updating", "rollback_started")
STUCK = ("paused", "rollback_paused")
TASK_FAILED = ("failed", "rejected", "orphaned", "complete")  # complete: ended by itself, as when it is unhealthy


def image_of_spec(spec):
    """The reference a service's tasks are made from."""
    container = (spec.get("TaskTemplate") or {}).get("ContainerSpec")
    if not container:
        raise Problem("unsupported", f"service {spec.get('Name')} runs a plug-in, not containers")
    return container["Image"]


def force_of_spec(spec):
    return spec["TaskTemplate"].get("ForceUpdate") or 0


def with_image(spec, reference, force):
    """The same spec with another image: nothing else the user set is touched."""
    changed = json.loads(json.dumps(spec))
    changed["TaskTemplate"]["ContainerSpec"]["Image"] = reference
    changed["TaskTemplate"]["ForceUpdate"] = force
    return changed


def only_image_differs(one, other):
    return with_image(one, "", 0) == with_image(other, "", 0)


def split_digest(reference):
    """``repo:tag@sha256:…`` → (``repo:tag``, ``sha256:…`` or None)."""
    name, _, checksum = reference.partition("@")
    return name, checksum or None


def repository_of(reference):
    """The repository, without the parts that engines leave out when they show it (docker.io, library)."""
    found = REFERENCE.match(reference)
    name = found.group(1) if found else ""
    for prefix in ("index.docker.io/", "docker.io/", "library/"):
        if name.startswith(prefix):
            name = name[len(prefix) :]
    return name


def known_digest(image, reference):
    """The registry's checksum of a local image in the repository of ``reference``, or None."""
    for digest in image.get("RepoDigests") or ():
        if repository_of(digest) == repository_of(reference):
            return split_digest(digest)[1]
    return None


class Look:
    """One look at a service: the engine's object and its tasks, as they were answered."""

    def __init__(self, service, tasks):
        self.service, self.spec, self.previous = service, service["Spec"], service.get("PreviousSpec")
        self.reference, self.force = image_of_spec(self.spec), force_of_spec(self.spec)
        self.update = service.get("UpdateStatus") or {}
        self.tasks = sorted(tasks, key=lambda task: task["CreatedAt"], reverse=True)

    @property
    def at(self):
        """What tells two specs apart whose only difference is the image: [reference, force]."""
        return [self.reference, self.force]

    @property
    def previous_at(self):
        return [image_of_spec(self.previous), force_of_spec(self.previous)] if self.previous else None

    @property
    def state(self):
        return self.update.get("State") or ""

    @property
    def wanted(self):
        """How many tasks the service wants to run now."""
        return (self.service.get("ServiceStatus") or {}).get("DesiredTasks", 0)

    def of(self, at):
        """The tasks of that image, newest first."""
        return [
            task
            for task in self.tasks
            if [task["Spec"]["ContainerSpec"]["Image"], task["Spec"].get("ForceUpdate") or 0] == at
        ]

    def up(self, at=None):
        """IDs of the tasks that run (``at``: of that image, and are meant to go on running)."""
        tasks = self.tasks if at is None else [task for task in self.of(at) if task["DesiredState"] == "running"]
        return {task["ID"] for task in tasks if task["Status"]["State"] == "running"}

    def failures(self, at=None, known=()):
        """Tasks (``at``: of that image) that failed, newest first, without those in ``known``."""
        tasks = self.tasks if at is None else self.of(at)
        return [task for task in tasks if task["Status"]["State"] in TASK_FAILED and task["ID"] not in known]

    def pending(self, at):
        """Tasks of that image that run or still want to."""
        return [task for task in self.of(at) if task["DesiredState"] in ("ready", "running")]

    def patience(self):
        """Seconds in which an update may show no progress because its own settings say so: delay and monitor."""
        kind = "RollbackConfig" if self.state.startswith("rollback") else "UpdateConfig"
        config = self.spec.get(kind) or {}
        return ((config.get("Delay") or 0) + (config.get("Monitor") or 5e9)) * 1e-9


def kind_of(spec):
    """replicated or global. A job ends by itself and has nothing to go back to."""
    mode = spec.get("Mode") or {}
    for name, kind in (("Replicated", "replicated"), ("Global", "global")):
        if name in mode:
            return kind
    raise Problem("unsupported", f"service {spec.get('Name')} is a job: there is nothing to put back")


def why_failed(task):
    """A failed task in words: its slot, what the engine said, and the exit code."""
    status = task["Status"]
    ended = "ended by itself" if status["State"] == "complete" else status["State"]
    said = status.get("Err") or ended
    slot = task.get("Slot") or task.get("NodeID") or task["ID"]
    return f"task {slot}: {said}"


# ------------------------------------------------------------------------------------------------------------ steps.py

class Work:
    """One host's work for one plan. ``name`` is what it is done on."""

    def __init__(self, engine, memory, plan, check_mode):
        self.engine, self.memory, self.plan, self.check_mode = engine, memory, plan, check_mode
        self.name = plan["container"]
        self.steps, self.step_began = [], None
        self.log_tail = self.backup = self.downtime = None

    def step(self, name, **facts):
        """Begin a durable step: the journal knows before it happens."""
        self.end_step()
        self.memory.note(step=name, at=time.time(), **facts)
        self.steps.append({"name": name, "at": round(time.time(), 3), "seconds": 0.0})
        self.step_began = time.monotonic()

    def end_step(self):
        if self.step_began is not None:
            self.steps[-1]["seconds"] = round(time.monotonic() - self.step_began, 4)
            self.step_began = None

    def result(self, state, changed, old, **more):
        """The host's result. ``old`` is {image, image_id} of what ran before."""
        self.end_step()
        seen = {
            "changed": changed, "state": state, "from": old, "to": None, "backup_tag": None, "downtime_s": None,
            "error": None, "container_id": None, "steps": self.steps, "log_tail": self.log_tail,
        }  # fmt: skip
        target = self.plan.get("target")
        if target:
            seen["to"] = {"image": target["image"], "image_id": target["image_id"]}
        seen.update(more)
        return seen


# ------------------------------------------------------------------------------------------------------------ swarm.py

# Durable steps, see ``Update``.
PULL_IMAGE, PIN_IMAGE, TAG_CURRENT = "pull", "pin-target", "tag-backup"


class Overtaken(Problem):
    """Somebody else changed the service while guard waited: what they wanted counts, and nothing is undone."""

    def __init__(self, text_):
        Problem.__init__(self, "overtaken", text_)


class SwarmWork(Work):
    """One manager's work on one service, for one plan."""

    def __init__(self, engine, memory, plan, check_mode):
        Work.__init__(self, engine, memory, plan, check_mode)
        self.node = self.seen = None

    # -- looking

    def look(self):
        """The service and its tasks, now. Problem when this engine can't be asked, or there is no such service."""
        if self.node is None:
            self.node = self.manager()
        listed = self.engine.get("services", filters=json.dumps({"name": [self.name]}), status=True) or []
        found = next((service for service in listed if service["Spec"]["Name"] == self.name), None)
        if found is None:
            raise Problem("not_found", f"there is no service {self.name} in this swarm: deploy it first")
        kind_of(found["Spec"])
        tasks = self.engine.get("tasks", filters=json.dumps({"service": [found["ID"]]})) or []
        self.seen = Look(found, [task for task in tasks if (task.get("Spec") or {}).get("ContainerSpec")])
        return self.seen

    def manager(self):
        """This node's ID. Problem when it is no manager of a swarm."""
        swarm = self.engine.call("GET", "/info").get("Swarm") or {}
        if swarm.get("LocalNodeState") != "active":
            state = swarm.get("LocalNodeState") or "inactive"
            raise Problem("no_manager", f"this engine is in no swarm (its state there is {state}): name a manager")
        if not swarm.get("ControlAvailable"):
            raise Problem("no_manager", "this engine is a worker of its swarm: only a manager can update a service")
        return swarm["NodeID"]

    def described(self):
        """{image, image_id} of what the service's spec wants. ``image_id`` is "" when no image of that name is here.

        In a swarm an image is known by its registry's digest, the one name that means the same on every node. Where it
        has none, by its ID on this manager: that of a task's container here, since its tag may have moved since.
        """
        name, checksum = split_digest(self.seen.reference)
        if checksum:
            return {"image": name, "image_id": checksum}
        for task in self.seen.of(self.seen.at):
            container_id = (task["Status"].get("ContainerStatus") or {}).get("ContainerID")
            if task.get("NodeID") == self.node and container_id:
                container = self.engine.get("containers", container_id, "json")
                image = container and self.engine.image(container["Image"])
                if container:
                    return {"image": name, "image_id": known_digest(image or {}, name) or container["Image"]}
        image = self.engine.image(self.seen.reference)
        return {"image": name, "image_id": (known_digest(image, name) or image["Id"]) if image else ""}

    def local(self, image):
        """The local image of a {image, image_id}, or None when this manager does not have it."""
        found = self.engine.image(image["image_id"]) if image["image_id"] else None
        repo = repository_of(image["image"])
        return found or (
            self.engine.image("{}@{}".format(repo, image["image_id"])) if repo and image["image_id"] else None
        )

    # -- snapshot

    def snapshot(self):
        """Pin what runs now on this manager, if it has it, and say what it is."""
        self.look()
        now = self.described()
        image = self.local(now)
        if not now["image_id"] or (image is None and not split_digest(self.seen.reference)[1]):
            names = (
                f"service {self.name} names {self.seen.reference} without a digest, and this manager has no such image"
            )
            raise Problem("not_found", names + ": which image its tasks run can't be told; deploy it from a registry")
        pin, missing = None, False
        if image is not None:
            pin = self.pin_of(now)
            missing = pin not in (image.get("RepoTags") or [])
            if missing and not self.check_mode:
                self.engine.tag(image["Id"], *pin.rsplit(":", 1))
        digest = known_digest(image, now["image"]) if image else now["image_id"]
        return self.result(
            "unchanged",
            missing,
            now,
            to=now,
            container_id=self.seen.service["ID"],
            pin=pin,
            digest=f"{repository_of(now['image'])}@{digest}" if digest else None,
            tasks={"running": len(self.seen.up()), "wanted": self.seen.wanted},
            update=self.seen.update,
        )

    def pin_of(self, image):
        return "{}:guard_{}".format(repository_of(image["image"]) or "guard/" + self.name, image["image_id"][7:19])

    # -- the images

    def reference(self, look_only=False):
        """A reference that means exactly the target. The previous spec's own, if it does; a pin is made when needed."""
        target = self.plan["target"]
        name, _ = split_digest(target["image"])
        previous = image_of_spec(self.seen.previous) if self.seen.previous else None
        if target["digest"] and split_digest(target["digest"])[1] == target["image_id"]:
            self.resolvable(target)
            if previous and split_digest(previous)[1] == target["image_id"]:
                return previous
            same = REFERENCE.match(name) and repository_of(name) == repository_of(target["digest"])
            return "{}@{}".format(name if same else repository_of(target["digest"]), target["image_id"])
        image = self.engine.image(target["image_id"])
        if image is None:
            image = self.fetched(target, look_only)
        by_tag = previous is not None and not split_digest(previous)[1]
        if image is None or (by_tag and self.means(previous, image)):
            return previous
        if name in (image.get("RepoTags") or []):
            return name
        pin = self.pin_of(target)
        if pin not in (image.get("RepoTags") or []) and not look_only:
            self.step(PIN_IMAGE, pinned=pin)
            self.engine.tag(image["Id"], *pin.rsplit(":", 1))
        return pin

    def means(self, reference, image):
        found = self.engine.image(reference)
        return found is not None and found["Id"] == image["Id"]

    def resolvable(self, target):
        """Problem when neither this manager nor the registry has the image. A registry that can't say is no proof."""
        if self.local(target) is not None:
            return
        try:
            self.engine.call("GET", path("distribution", target["digest"], "json"))
        except EngineError as refused:
            text_ = str(refused).lower()
            if refused.status == 404 or "manifest unknown" in text_ or "not found" in text_:
                gone = (
                    f"the image {target['digest']} is not on this manager, and its registry does not have it any more"
                )
                raise Problem("image_gone", f"{gone}: {refused}") from refused

    def fetched(self, target, look_only):
        if not target["digest"]:
            gone = f"the image {target['image']} ({target['image_id']}) is not on this manager any more"
            hint = "take a snapshot before the next deploy, or push the image to a registry"
            raise Problem("image_gone", f"{gone} and no digest to pull it by is known; {hint}")
        if look_only:
            return None
        self.step(PULL_IMAGE)
        self.engine.pull(target["digest"])
        image = self.engine.image(target["image_id"])
        if image is None:
            raise Problem("pull", f"{target['digest']} was pulled, but it is not the image {target['image_id']}")
        return image

    def tag_backup(self, now):
        """Give the current image its backup tag, if this manager has it."""
        image = self.local(now)
        if image is None:
            return
        repo = repository_of(now["image"]) or "guard/" + self.name
        self.backup = self.engine.free_tag(repo, self.plan["backup_tag"], image["Id"])
        if f"{repo}:{self.backup}" not in (image.get("RepoTags") or ()):
            self.step(TAG_CURRENT, backup=self.backup)
            self.engine.tag(image["Id"], repo, self.backup)

    # -- requests

    def post(self, at):
        """Make the service's spec the one it is now with another image: ``at`` is [reference, force].

        By the engine's own rollback where that is the very same thing: the previous spec has that image and differs in
        nothing else. Then the user's rollback settings apply, and the swarm tells of a rollback, not of an update.
        """
        spec, previous = self.seen.spec, self.seen.previous
        where = ("services", self.seen.service["ID"], "update")
        version = self.seen.service["Version"]["Index"]
        try:
            if self.seen.previous_at == at and only_image_differs(spec, previous):
                self.engine.call(
                    "POST", path(*where, version=version, rollback="previous", registryAuthFrom="previous-spec"), spec
                )
            else:
                body = with_image(spec, *at)
                self.engine.call("POST", path(*where, version=version, registryAuthFrom="spec"), body)
        except EngineError as refused:
            if "out of sequence" not in str(refused):
                raise
            self.look()
            if self.seen.spec != spec:
                raise Overtaken(f"service {self.name} was changed by somebody else just now: {refused}") from refused
            self.post(at)  # only the swarm's own notes on the service had moved on

    def unhealthy(self, task):
        """The last word of the health check of a task that ran on this manager, when that is why it ended."""
        container_id = (task["Status"].get("ContainerStatus") or {}).get("ContainerID")
        here = container_id and task.get("NodeID") == self.node
        container = self.engine.get("containers", container_id, "json") if here else None
        health = (container or {}).get("State", {}).get("Health") or {}
        if health.get("Status") != "unhealthy":
            return ""
        last = ((health.get("Log") or [{}])[-1].get("Output") or "").strip()[-500:]
        return ", for it was unhealthy: " + (last or "its health check failed")

    def task_log(self, task):
        """The last lines of a task's output, wherever it ran; says so when they can't be had."""
        where = path("tasks", task["ID"], "logs", stdout=True, stderr=True, tail=LOG_LINES)
        try:
            data = self.engine.call("GET", where, raw=True, timeout=10.0)
        except (EngineError, EngineGone) as refused:
            return f"(no log: {refused})"
        return demultiplexed(data)[-LOG_BYTES:].decode("utf-8", "replace")


# ----------------------------------------------------------------------------------------------------------- update.py

LOOK_EVERY_S = 0.1
LOOP_FAILURES = 3  # so many failed tasks in one slot are a restart loop, whatever the update's own settings forgive
LEADER_S = 20.0  # how long a swarm may be without a leader under an update
KICKS = 5  # how often an undo that the engine paused is started again
KICK_EVERY_S = 1.0

# The durable steps, in order, after those of ``SwarmWork``. Each name is in the journal (fsynced) before its step begins.
POST_UPDATE, AWAIT_TASKS, UPDATE_DONE = "update-service", "await-tasks", "done"
POST_UNDO, AWAIT_UNDO = "undo:update-service", "undo:await-tasks"


class Update(SwarmWork):
    """The update of one service to the plan's target, and the way back."""

    BROKEN_OFF_BY = (EngineGone,)  # a swarm that refuses has changed nothing; the way back is insisted on as it is

    def __init__(self, engine, memory, plan, check_mode):
        SwarmWork.__init__(self, engine, memory, plan, check_mode)
        self.down_since = None

    # -- prepare

    def prepare(self):
        """Look whether the swap can work. Nothing is changed: every node fetches its image by itself, in its turn."""
        return self.foresee()

    def foresee(self):
        """What a swap would do."""
        self.look()
        if self.unfinished():
            return self.result("planned", True, self.memory.facts["old"])
        now = self.described()
        if now["image_id"] == self.plan["target"]["image_id"]:
            return self.result("unchanged", False, now, to=now, container_id=self.seen.service["ID"])
        self.refuse_strangers(now)
        self.reference(look_only=True)
        return self.result("planned", self.check_mode, now, container_id=self.seen.service["ID"])

    def discard(self):
        """Nothing was prepared, so there is nothing to take back."""
        self.look()
        return self.result("unchanged", False, self.described())

    def unfinished(self):
        """Is the service where an earlier run's update or undo left it?"""
        facts = self.memory.facts
        if facts.get("phase") not in ("swapping", "undoing") or facts["service_id"] != self.seen.service["ID"]:
            return False
        # The same image deployed again by somebody, later, is theirs: then the spec before it was another one.
        return self.seen.at == facts["old_at"] or [self.seen.at, self.seen.previous_at] == [
            facts["new_at"],
            facts["old_at"],
        ]

    def refuse_strangers(self, now):
        """Problem when the service is not as the plan was made for, or somebody else is at work on it just now."""
        expected = self.plan["expect_image_id"]
        if self.plan["force"] or self.unfinished():
            return
        if expected and now["image_id"] != expected:
            runs = f"service {self.name} wants {now['image']} ({now['image_id']}), not {expected}"
            why = " for which this rollback was decided: something else was deployed meanwhile"
            raise Problem("mismatch", runs + why)
        # An update to the very image that is to go is the deploy this rollback is about: a new update overtakes it.
        deploy = self.seen.previous is not None and image_of_spec(self.seen.previous) != self.seen.reference
        if self.seen.state in MOVING and not (deploy and (expected or not now["image_id"])):
            told = self.seen.update.get("Message") or self.seen.state
            busy = f"somebody else's update of service {self.name} is under way ({told})"
            raise Problem("busy", busy + ": nothing was touched; try again when it has ended")

    # -- swap

    def swap(self):
        """The target in place of what runs; on failure the service's spec is what it was. Finishes an earlier run."""
        if self.check_mode:
            return self.foresee()
        self.look()
        settled = self.settle()
        if settled:
            return settled
        unfinished, facts = self.unfinished(), self.memory.facts
        now = self.described()
        if now["image_id"] == self.plan["target"]["image_id"]:
            return self.already_there(now)
        self.refuse_strangers(now)
        before = self.seen.at
        if unfinished:  # what an earlier run wanted here does not count: what was before it does
            now, before = facts["old"], facts["old_at"]
        else:
            self.memory.begin(phase="prepared")
        self.tag_backup(now)
        reference = self.reference()
        at = self.next_at(reference)
        self.step(
            POST_UPDATE, phase="swapping", service_id=self.seen.service["ID"], run_id=self.plan["run_id"],
            old=now, old_at=before, new_at=at, target_id=self.plan["target"]["image_id"], backup=self.backup,
            ran=len(self.seen.up()), failed_before=[task["ID"] for task in self.seen.failures()],
            update_before=self.seen.update.get("StartedAt"), reason=None,
        )  # fmt: skip
        self.downtime = 0.0 if self.seen.up() else None
        self.post(at)
        return self.forward()

    def next_at(self, reference):
        """[reference, force] to post: as in the previous spec where that is it; a new force when only a tag moved."""
        previous = self.seen.previous
        if reference == self.seen.reference:
            return [reference, self.seen.force + 1]
        if previous and image_of_spec(previous) == reference and only_image_differs(self.seen.spec, previous):
            return [reference, force_of_spec(previous)]
        return [reference, self.seen.force]

    def already_there(self, now):
        """The service wants the target already: wait for an update to it that somebody else began; change nothing."""
        waited = self.seen.state in MOVING
        self.memory.facts = {}
        self.await_tasks(self.seen.at)
        return self.result("unchanged", False, now, to=now, container_id=self.seen.service["ID"], waited=waited)

    def settle(self):
        """Bring an interrupted update to one end. Returns its result, or None when a fresh start is right.

        | spec | journal  | it was cut                         | so                              |
        |------|----------|------------------------------------|---------------------------------|
        | new  | swapping | after the update was posted        | go on; a new target starts anew |
        | old  | swapping | before it, or the engine went back | afresh; or wait for the engine  |
        | any  | undoing  | in an undo                         | undo; a new run starts anew     |
        | else | any      | somebody deployed since            | as if there were no journal     |
        """
        facts = self.memory.facts
        if not self.unfinished():
            return None
        self.backup = facts.get("backup")
        same_run = facts.get("run_id") == self.plan["run_id"]
        if facts["phase"] == "undoing":
            return self.undo(facts.get("reason") or "an earlier run was interrupted") if same_run else None
        if self.seen.at == facts["new_at"]:
            return self.forward() if facts["target_id"] == self.plan["target"]["image_id"] else None
        if same_run and self.gave_up():
            return self.undo(self.gave_up())
        return None

    def gave_up(self):
        """Why the engine went back to the old spec by itself, or None when it did not."""
        by_itself = self.seen.state.startswith("rollback") and self.seen.previous is None
        since = self.seen.update.get("StartedAt") != self.memory.facts.get("update_before")
        return self.told() if by_itself and since else None

    def forward(self):
        """From the posted update to done."""
        facts = self.memory.facts
        self.step(AWAIT_TASKS)
        try:
            if self.plan["wait_healthy"]:
                self.await_tasks(facts["new_at"])
            else:
                self.await_put_back(facts["new_at"], facts["old_at"])
            now = self.described()
            if now["image_id"] != facts["target_id"]:
                raise Problem("mismatch", f"{now['image']} turned out to be {now['image_id']}: its tag moved just now")
        except (EngineGone, Overtaken):
            raise
        except Problem as failed:
            return self.undo(str(failed))
        self.step(UPDATE_DONE, phase="done")
        return self.result(
            "restored", True, facts["old"], to=now, container_id=self.seen.service["ID"],
            backup_tag=facts.get("backup"), downtime_s=None if self.downtime is None else round(self.downtime, 3),
        )  # fmt: skip

    # -- waiting

    def await_tasks(self, at):
        """Until the swarm calls the update completed and as many tasks as wanted have run for ``stable_s``.

        A running task of a container with a health check is a healthy one. Problem says why it does not get there:
        paused or taken back by the engine, a restart loop, or no progress for ``health_timeout_s`` beside the update's
        own delay and monitor times.
        """
        progress_at, progress, since, before = time.monotonic(), None, None, None
        known = self.memory.facts.get("failed_before") or ()
        while True:
            self.look_again()
            now, seen, good = time.monotonic(), self.seen, self.seen.up(at)
            if seen.at != at:
                self.not_ours()
            if seen.state in STUCK:
                raise Problem("not_up", self.told())
            self.refuse_loop(at, known)
            if (good, seen.state) != progress:
                progress, progress_at = (good, seen.state), now
            ended = seen.state not in MOVING and len(good) == seen.wanted and len(seen.pending(at)) == len(good)
            since = None if not ended else now if since is None or good != before else since
            before = good
            if since is not None and now - since >= self.plan["stable_s"]:
                return
            if now - progress_at > self.plan["health_timeout_s"] + (seen.patience() if seen.state in MOVING else 0):
                lacking = f"{len(good)} of {seen.wanted} tasks run the restored image"
                waited = "{} after {:.0f} s without progress".format(lacking, self.plan["health_timeout_s"])
                raise Problem("unhealthy", self.told(waited))
            time.sleep(LOOK_EVERY_S)

    def look_again(self):
        """Look, and measure how long no task at all ran since the update (None: none ran before it either)."""
        self.insist(self.look)
        now, running = time.monotonic(), bool(self.seen.up())
        if self.down_since is not None:
            self.downtime, self.down_since = self.downtime + now - self.down_since, None
        if not running and self.downtime is not None:
            self.down_since = now

    def insist(self, request):
        """A swarm that is choosing another leader answers with errors for a while: nothing is left half for that."""
        until = time.monotonic() + LEADER_S
        while True:
            try:
                return request()
            except EngineError as refused:
                if refused.status < 500 or time.monotonic() > until:
                    raise
                time.sleep(LOOK_EVERY_S)

    def not_ours(self):
        """The spec is not the posted one any more: the engine took it back, or somebody else changed it."""
        if self.seen.at == self.memory.facts.get("old_at") and self.gave_up():
            raise Problem("not_up", self.gave_up())
        raise Overtaken(
            f"service {self.name} was changed to {self.seen.reference} by somebody else; that is left alone"
        )

    def refuse_loop(self, at, known):
        counts = {}
        for task in self.seen.failures(at, known):
            slot = task.get("Slot") or task.get("NodeID")
            counts[slot] = counts.get(slot, 0) + 1
            if counts[slot] >= LOOP_FAILURES:
                raise Problem("not_up", self.told("the restored tasks restart in a loop"))

    def told(self, first=None):
        """Why it failed, in words: what the swarm says of the update, and of the newest task that failed."""
        facts = self.memory.facts
        failed = self.seen.failures(facts.get("new_at") or self.seen.at, facts.get("failed_before") or ())
        if failed and self.log_tail is None:
            self.log_tail = self.task_log(failed[0])
        said = first or self.seen.update.get("Message") or self.seen.state
        return f"{said}: {why_failed(failed[0])}{self.unhealthy(failed[0])}" if failed else said

    # -- undo

    def undo(self, reason):
        """The spec from before is back, and as many tasks of it run as ran before (or the swarm does what it can)."""
        facts = self.memory.facts
        self.step(POST_UNDO, phase="undoing", reason=reason)
        self.look_again()
        if self.seen.at == facts["new_at"]:
            self.insist(lambda: self.post(facts["old_at"]))
        self.step(AWAIT_UNDO)
        error = self.await_return(facts["old_at"], facts["new_at"], facts["ran"])
        self.step(UPDATE_DONE, phase="done")
        return self.result(
            "failed" if error else "reverted", True, facts["old"], error=f"{reason}; {error}" if error else reason,
            container_id=self.seen.service["ID"], backup_tag=facts.get("backup"), downtime_s=None if self.downtime is None else round(self.downtime, 3),
        )  # fmt: skip

    def await_put_back(self, at, other):
        """As ``await_tasks`` for an image that was not well before either: its tasks need only be the only ones."""
        error = self.await_return(at, other, 0)
        if error:
            raise Problem("not_up", self.told(error))

    def await_return(self, at, other, ran):
        """Until no task of ``other`` is left and ``ran`` tasks of ``at`` run (again). Returns what is wrong, or None.

        What was there may not have been well either: an undo that the engine pauses over it is started again, so that
        no task of the target stays.
        """
        kicks, kicked_at, began = 0, time.monotonic(), time.monotonic()
        while True:
            self.look_again()
            seen, now = self.seen, time.monotonic()
            if seen.at != at:
                return f"somebody else changed the service to {seen.reference} meanwhile"
            left, back = seen.pending(other), len(seen.up(at))
            if not left and back >= min(ran, seen.wanted):
                return None
            if seen.state in STUCK and left and kicks < KICKS and now - kicked_at > KICK_EVERY_S:
                kicks, kicked_at = kicks + 1, now
                self.post(seen.at)
            if now - began > self.plan["health_timeout_s"] + seen.patience():
                if left:
                    return f"{len(left)} tasks still run the other image, and the swarm does not replace them"
                return f"of what ran before, {back} of {ran} tasks run again"
            time.sleep(LOOK_EVERY_S)


# ------------------------------------------------------------------------------------------------------ guard_swarm.py

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""

DOCUMENTATION = r"""
module: guard_swarm
short_description: Put the previous image of a Swarm service back in one task
description: Talks to the Docker engine of a manager. See the playbook folder's manifest for the whole.
options:
  mode: {type: str, required: true, choices: [snapshot, prepare, swap, discard]}
  plan: {type: dict, required: true, description: What to do. Data only, never evaluated.}
"""


def swarm_service(value):
    if not isinstance(value, dict) or set(value) != {"service"}:
        raise ValueError("must be a mapping of service")
    return {"service": A_NAME(value["service"])}


def expected_id(value):
    """An image ID, or "" for a spec whose image no manager knows (a deploy of an image that does not exist)."""
    return None if value == "" else text(IMAGE_ID, "sha256:<64 hex digits>")(value)


def read_swarm_plan(arguments):
    """As for a container; ``swarm.service`` is the service's name, else ``container`` is."""
    mode, plan = read_plan(arguments, dict(OPTIONAL, swarm=(swarm_service, None), expect_image_id=(expected_id, None)))
    if plan["swarm"]:
        plan["container"] = plan["swarm"]["service"]
    return mode, plan


if __name__ == "__main__":
    run_as_program(ARGUMENTS, read_swarm_plan, restore_with(Update))
