#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Made by playbooks/assemble.py from playbooks/parts
"""Puts the image of a Compose service back: the swap of its container, and a pin in its project.

The container is swapped as guard_container does it (see there, and ``Swap``); what is added is that the next
``docker compose up`` of the project keeps what was restored (see ``Project``).
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


# ----------------------------------------------------------------------------------------------------------- points.py

# The durable steps, in order. Each name is in the journal (fsynced) before its step begins.
PULL, PIN, TAG_BACKUP = "pull", "pin-target", "tag-backup"
CREATE, CONNECT, SPARE = "create-new", "connect-new", "create-spare"
RENAME_OLD, RENAME_NEW, HOLD_OLD = "rename-old", "rename-new", "hold-old"
STOP_OLD, START_NEW, AWAIT_NEW, REMOVE_OLD = "stop-old", "start-new", "await-new", "remove-old"
STOP_NEW, PARK_NEW, RETURN_OLD = "undo:stop-new", "undo:park-new", "undo:return-old"
RELEASE_OLD, START_OLD, REMOVE_NEW = "undo:release-old", "undo:start-old", "undo:remove-new"
DISCARD, DONE = "discard", "done"
PREPARE_STEPS = (PULL, PIN, TAG_BACKUP, CREATE, CONNECT, SPARE)
SWAP_STEPS = (RENAME_OLD, RENAME_NEW, HOLD_OLD, STOP_OLD, START_NEW, AWAIT_NEW, REMOVE_OLD, DONE)
UNDO_STEPS = (STOP_NEW, PARK_NEW, RETURN_OLD, RELEASE_OLD, START_OLD, REMOVE_NEW, DONE)
STEPS = tuple(dict.fromkeys(PREPARE_STEPS + SWAP_STEPS + UNDO_STEPS + (DISCARD,)))  # all there are


# ---------------------------------------------------------------------------------------------------------- project.py

LABEL = "com.docker.compose."
PIN_LABEL = "deployment-guard.pin"
SERVICE = re.compile(r"[a-zA-Z0-9._-]{1,255}\Z")
# What Compose looks for in a folder, in its order; of each kind it takes the first that is there.
MAIN_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_NAMES = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip
ENTRY_KEYS = {"service", "image", "local", "rollback", "instead_of", "instead_of_id", "over", "at"}
LARGEST_BYTES = 256 * 1024
FILE_LOCK_WAIT_S = 10.0
CLI_TIMEOUT_S = 10
HEADER = """\
# guard wrote this file when it rolled back services of this Compose project, so that the next `docker compose up` keeps
# what was restored. Read this before you deploy: as long as a service is listed here, its image is the one below,
# whatever the other files say.
# How it goes: `guard snapshot` before the next deploy takes its service out. By hand: delete this file.
# Whoever names the files of the project with -f must name this one too, behind the others.
services:
"""


def entry_text(entry):
    """One service of the file. The comment holds the entry itself; everything follows from it."""
    lines = [
        "  # guard: " + json.dumps(entry, sort_keys=True),
        "  {}:".format(json.dumps(entry["service"])),
        "    image: {}".format(json.dumps(entry["image"])),
    ]
    if entry["local"]:  # a tag that no registry has: nothing to pull
        lines.append("    pull_policy: never")
    lines += ["    labels:", "      {}: {}".format(PIN_LABEL, json.dumps(entry["rollback"]))]
    return "\n".join(lines) + "\n"


def file_text(entries):
    return HEADER + "".join(entry_text(entries[service]) for service in sorted(entries))


def entries_of(text):
    """{service: entry} of guard's own file; None when anybody else wrote or changed it."""
    entries = {}
    for line in text.splitlines():
        if line.startswith("  # guard: "):
            try:
                entry = json.loads(line[len("  # guard: ") :])
            except ValueError:
                return None
            if not isinstance(entry, dict) or set(entry) != ENTRY_KEYS:
                return None
            entries[str(entry["service"])] = entry
    return entries if entries and file_text(entries) == text else None


def compose_unit(value):
    """An acceptor (see accept.py): {project, service}."""
    given = value.values() if isinstance(value, dict) and set(value) == {"project", "service"} else [None]
    if not all(isinstance(name, str) and SERVICE.match(name) for name in given):
        raise ValueError("must be a mapping of project and service, both names")
    return value


def text_of(name):
    """The text of a file; None when there is none, or it can't be read as text."""
    try:
        with open(name, "rb") as file:
            return file.read(LARGEST_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


class Project:
    """The project of a service, as the labels of its container tell it."""

    def __init__(self, labels, name, service):
        self.name, self.service = name, service
        self.folder = labels.get(LABEL + "project.working_dir") or ""
        self.files = [file for file in (labels.get(LABEL + "project.config_files") or "").split(",") if file]
        self.known_hash = labels.get(LABEL + "config-hash")
        self.main = next((found for found in map(self.beside, MAIN_NAMES) if os.path.exists(found)), None)
        self.override, self.obstacle = self.place()

    def beside(self, name):
        return os.path.join(self.folder, name)

    def place(self):
        """(the override file, None), or (None, why there can be none that the next ``docker compose up`` reads)."""
        if not SERVICE.match(self.service) or not os.path.isabs(self.folder) or not self.files:
            return None, "its container does not say which files it was made from"
        missing = [file for file in self.files if not os.path.exists(file) and not self.could_be_ours(file)]
        if missing:
            return None, f"{missing[0]} is not on this host"
        if re.search(r"^\s*(export\s+)?COMPOSE_FILE\s*[=:]", text_of(self.beside(".env")) or "", re.MULTILINE):
            return None, "COMPOSE_FILE in {} says which files are read".format(self.beside(".env"))
        present = [found for found in map(self.beside, OVERRIDE_NAMES) if os.path.lexists(found)]
        if present and entries_of(text_of(present[0]) or "") is None:
            return None, f"{present[0]} is there already and is not guard's"
        stem, ending = os.path.splitext(self.main or "")
        override = present[0] if present else stem + ".override" + ending
        if [file for file in self.files if file != override] != [self.main]:
            return None, "it was started with files of its own: " + ", ".join(self.files)
        if not os.access(self.folder, os.W_OK):
            return None, f"{self.folder} can't be written to"
        return override, None

    def could_be_ours(self, file):
        """An override that is gone: guard's own of an earlier rollback, taken out since."""
        return os.path.dirname(file) == self.folder and os.path.basename(file) in OVERRIDE_NAMES

    # -- guard's file

    def entries(self):
        return (entries_of(text_of(self.override) or "") or {}) if self.override else {}

    def entry(self):
        """What guard has pinned the service to, or None."""
        return self.entries().get(self.service)

    def put(self, entry):
        """Pin the service, or with None take its pin out; other services' pins stay. Problem when it can't be done."""
        if self.override is None:
            raise Problem("compose", self.obstacle)
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.lock(folder)
                if os.path.lexists(self.override) and entries_of(text_of(self.override) or "") is None:
                    raise Problem("compose", f"{self.override} was changed by somebody else meanwhile")
                if self.entry() == entry:
                    return
                entries = self.with_entry(entry)
                if entries:
                    self.replace(file_text(entries))
                else:
                    os.unlink(self.override)
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as wrong:
            raise Problem("compose", f"{self.override} can't be written: {wrong}") from wrong

    def lock(self, folder):
        """Services of one project may be rolled back at the same time: one at a time on their one file."""
        until = time.monotonic() + FILE_LOCK_WAIT_S
        while True:
            try:
                return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def replace(self, text):
        """The old or the new file, whole, after a power cut; with the owner and the mode of the main file."""
        new = self.beside(f".{os.path.basename(self.override)}.guard-new")
        if os.path.lexists(new):
            os.unlink(new)
        like = os.stat(self.main)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.geteuid() == 0:
                os.fchown(handle, like.st_uid, like.st_gid)
            os.fchmod(handle, like.st_mode & 0o664)
            os.write(handle, text.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(new, self.override)

    # -- Compose's own view

    def hash_with(self, entry):
        """The config-hash of the service once ``entry`` is put; None when Compose is not here to say it, or when the
        files are not any more what the running container was made from.
        """
        if self.known_hash is None or self.config_hash(self.files, None) != self.known_hash:
            return None
        entries = self.with_entry(entry)
        return self.config_hash([self.main], file_text(entries) if entries else None)

    def files_with(self, entry):
        """The project's files once ``entry`` is put, as Compose writes them into a label."""
        return ",".join([self.main, self.override] if self.with_entry(entry) else [self.main])

    def with_entry(self, entry):
        entries = self.entries()
        entries.pop(self.service, None)
        if entry is not None:
            entries[self.service] = entry
        return entries

    def config_hash(self, files, more):
        """What ``docker compose config --hash`` says of the service; ``more`` is one further file's text."""
        import subprocess

        named = [part for file in files + (["-"] if more else []) for part in ("-f", file)]
        project = ["--project-name", self.name, "--project-directory", self.folder]
        command = ["docker", "compose", *project, *named, "config", "--hash", self.service]
        try:
            done = subprocess.run(
                command,
                input=(more or "").encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self.folder,
                timeout=CLI_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        found = re.search(rf"^{re.escape(self.service)} ([0-9a-f]{{64}})$", done.stdout.decode(), re.MULTILINE)
        return found.group(1) if found and done.returncode == 0 else None


# --------------------------------------------------------------------------------------------------------- announce.py

def announce(container, bridges):
    """Tell the host's bridge the container's address and MAC, as its first ARP answer would.

    docker-proxy accepts a connection while the container's interface is not up yet; that lookup is lost and the
    kernel retries after a second, in which the port looks dead. Entering the neighbour lets the packets go at once
    (RTM_NEWNEIGH, rtnetlink(7)). Not permitted or not on this host: nothing happens, the retry remains.
    """
    for network in (container["NetworkSettings"].get("Networks") or {}).values():
        bridge, mac = bridges.get(network.get("NetworkID")), network.get("MacAddress")
        for family, address in (
            (socket.AF_INET, network.get("IPAddress")),
            (socket.AF_INET6, network.get("GlobalIPv6Address")),
        ):
            if not (bridge and mac and address):
                continue
            hardware = bytes(int(part, 16) for part in mac.split(":"))
            raw = socket.inet_pton(family, address)
            link = (
                struct.pack("=HH", 4 + len(raw), 1)
                + raw
                + struct.pack("=HH", 4 + len(hardware), 2)
                + hardware
                + b"\0\0"
            )
            reachable = 2
            try:
                body = struct.pack("=BBHiHBB", family, 0, 0, socket.if_nametoindex(bridge), reachable, 0, 0) + link
                with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
                    newneigh, request_create_replace = 28, 0x501
                    kernel.send(struct.pack("=IHHII", 16 + len(body), newneigh, request_create_replace, 1, 0) + body)
            except OSError:
                return  # an optimisation only: without the right to it, the kernel finds the address by itself


def published_bridges(engine, container):
    """{network ID: bridge device} of the bridge networks a container with published ports is in."""
    host = container["HostConfig"]
    if not (host.get("PortBindings") or host.get("PublishAllPorts")) or not engine.address.startswith("unix://"):
        return {}
    bridges = {}
    for name in container["NetworkSettings"].get("Networks") or {}:
        network = engine.get("networks", name) or {}
        if network.get("Driver") == "bridge":
            device = (network.get("Options") or {}).get("com.docker.network.bridge.name")
            bridges[network["Id"]] = device or "br-" + network["Id"][:12]
    return bridges


# -------------------------------------------------------------------------------------------------------- container.py

IMAGE_SUPPLIED = ("WorkingDir", "User", "StopSignal", "Shell")
USER_SET = (
    "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce",
    "NetworkDisabled", "StopTimeout",
)  # fmt: skip


def replacement(old, old_image, reference, api):
    """The create body for ``old``'s configuration on another image: (body, networks to connect, networks to leave).

    What the user set stays. What ``old`` has from its image (compared with that image's own configuration) is left
    out, so that the new image's defaults apply. What the engine chose (short-ID host name and alias, addresses, host
    ports) is left out too; anonymous volumes become named, so that the data stays.
    """
    config, image, host = old["Config"], old_image.get("Config") or {}, json.loads(json.dumps(old["HostConfig"]))
    body = {key: config[key] for key in USER_SET if config.get(key) is not None}
    body["Image"] = reference
    for key in IMAGE_SUPPLIED:
        if config.get(key) and config[key] != image.get(key):
            body[key] = config[key]
    body["Env"] = own_variables(config.get("Env") or [], image.get("Env") or [])
    image_labels = image.get("Labels") or {}
    body["Labels"] = {
        key: value for key, value in (config.get("Labels") or {}).items() if image_labels.get(key) != value
    }
    body.update(command(config, image))
    health = health_check(config.get("Healthcheck"), image.get("Healthcheck"))
    if health:
        body["Healthcheck"] = health
    bound = host.get("PortBindings") or {}
    image_ports, image_volumes = image.get("ExposedPorts") or {}, image.get("Volumes") or {}
    exposed = {port: {} for port in config.get("ExposedPorts") or {} if port in bound or port not in image_ports}
    body["Volumes"] = {where: {} for where in config.get("Volumes") or {} if where not in image_volumes}
    keep_volumes(old, host)
    host["Links"] = [link_argument(link) for link in host.get("Links") or ()] or None
    mode = host.get("NetworkMode") or "default"
    if not mode.startswith("container:"):
        body["ExposedPorts"] = exposed
        chosen_by_engine = {None, "", old["Id"][:12], os.uname().nodename if mode == "host" else None}
        if host.get("UTSMode") != "host" and config.get("Hostname") not in chosen_by_engine:
            body["Hostname"] = config["Hostname"]
    else:
        body.pop("Domainname", None)
    body["HostConfig"] = host
    first, others, leave = (None, {}, []) if config.get("NetworkDisabled") else networks(old, mode, api)
    if config.get("MacAddress"):
        if api < (1, 44) or mode in ("host", "none"):
            body["MacAddress"] = config["MacAddress"]
        else:
            first = first or {"bridge" if mode == "default" else mode: {}}
            next(iter(first.values()))["MacAddress"] = config["MacAddress"]
    if api >= (1, 44) and others and not leave:  # all at once: a MAC address is taken over at creation only
        first, others = dict(first or {"bridge": {}}, **others), {}
    if first:
        body["NetworkingConfig"] = {"EndpointsConfig": first}
    return body, others, leave


def own_variables(seen, image):
    """The variables of ``seen`` that the user set, in their order.

    The engine puts the user's first and then adds, in their order, those of the image that the user did not set. So
    the shortest beginning that leaves exactly these is the user's, values equal to the image's included.
    """
    for end in range(len(seen) + 1):
        mine = {entry.partition("=")[0] for entry in seen[:end]}
        if seen[end:] == [entry for entry in image if entry.partition("=")[0] not in mine]:
            return seen[:end]
    return [entry for entry in seen if entry not in image]


def command(config, image):
    """Entrypoint and Cmd to send. The engine takes the image's Cmd only when the user set no entrypoint."""
    entrypoint, cmd = config.get("Entrypoint"), config.get("Cmd")
    user_entrypoint = (entrypoint or None) != (image.get("Entrypoint") or None) or (image.get("Cmd") and not cmd)
    if user_entrypoint:
        return {"Entrypoint": entrypoint or [""], "Cmd": cmd or []}
    return {"Cmd": cmd} if (cmd or None) != (image.get("Cmd") or None) else {}


def health_check(mine, image):
    """Only the fields of a health check that differ from the image's: the engine fills in the rest field by field."""
    image = image or {}
    return {key: value for key, value in (mine or {}).items() if value and value != image.get(key)}


def keep_volumes(old, host):
    """Name the anonymous volumes of ``old`` in ``host`` (a HostConfig): the replacement mounts the same data."""
    tidy = os.path.normpath
    by_target = {
        tidy(mount["Destination"]): mount for mount in old.get("Mounts") or () if mount.get("Type") == "volume"
    }
    taken = set()
    for mount in host.get("Mounts") or ():
        taken.add(tidy(mount["Target"]))
        if mount.get("Type") == "volume" and not mount.get("Source") and tidy(mount["Target"]) in by_target:
            mount["Source"] = by_target[tidy(mount["Target"])]["Name"]
    for bind in host.get("Binds") or ():
        taken.update(tidy(part) for part in bind.split(":")[1:2])
    for where in sorted(tidy(where) for where in old["Config"].get("Volumes") or {}):
        mount = by_target.get(where)
        if mount and where not in taken:
            # nocopy: creating the replacement must not write into a volume that is in use.
            bind = "{}:{}:{}".format(mount["Name"], where, "nocopy" if mount.get("RW", True) else "ro,nocopy")
            host["Binds"] = (host.get("Binds") or []) + [bind]


def link_argument(link):
    """``/db:/web/alias`` (as inspected) → ``db:alias`` (as created)."""
    child, _, alias = link.partition(":")
    return "{}:{}".format(child.lstrip("/"), alias.rsplit("/", 1)[-1])


def networks(old, mode, api):
    """(the network to create with, {the others}, [networks to leave]) with what the user set on each endpoint.

    Engines do not say who chose the MAC address in a further network. From API 1.44 on, where one can be set there, it
    is kept, unless it is made from the IPv4 address as the engine itself does.
    """
    if mode in ("host", "none") or mode.startswith("container:"):
        return None, {}, []
    attached = (old.get("NetworkSettings") or {}).get("Networks") or {}
    wanted = {}
    first = None
    for name, seen in attached.items():
        aliases = [alias for alias in seen.get("Aliases") or () if alias != old["Id"][:12]]
        kept = {"IPAMConfig": seen.get("IPAMConfig"), "Links": seen.get("Links"), "Aliases": aliases}
        kept.update(DriverOpts=seen.get("DriverOpts"), GwPriority=seen.get("GwPriority"))
        wanted[name] = {key: value for key, value in kept.items() if value}
        if name == mode or (mode == "default" and name == "bridge") or (seen.get("NetworkID") or "-").startswith(mode):
            first = name
    if first is None:
        return None, wanted, ["bridge" if mode == "default" else mode]
    others = {name: kept for name, kept in wanted.items() if name != first}
    for name, kept in others.items():
        mac = attached[name].get("MacAddress")
        made = "02:42:" + ":".join("%02x" % int(part) for part in (attached[name].get("IPAddress") or "0").split("."))
        if api >= (1, 44) and mac and mac != made:
            kept["MacAddress"] = mac
    plain_bridge = mode in ("default", "bridge") and not wanted[first]
    return (None if plain_bridge else {first: wanted[first]}), others, []


def without_gone_network(body, others):
    """The same as ``replacement`` gives, for a container whose first network is gone: another one is the first."""
    first = next(iter(others), None)
    body = dict(body, HostConfig=dict(body["HostConfig"], NetworkMode=first or "none"))
    if first:
        body["NetworkingConfig"] = {"EndpointsConfig": {first: others[first]}}
    return body, {name: kept for name, kept in others.items() if name != first}, []


def is_id(reference):
    """An image ID, whole or shortened: it would also pass for a name with a tag."""
    return bool(re.match(r"(sha256:)?[0-9a-f]{12,64}\Z", reference))


def repository(container, image):
    """The repository a container's image belongs to (its own reference's, else a tag's or digest's of the image)."""
    for reference in (
        [container["Config"].get("Image") or ""] + (image.get("RepoTags") or []) + (image.get("RepoDigests") or [])
    ):
        found = REFERENCE.match(reference)
        if found and not is_id(reference) and "<none>" not in reference:
            return found.group(1)
    return "guard/" + (re.sub(r"[^a-z0-9]+", "-", container["Name"].lower()).strip("-") or "container")


def described(container, image):
    """{image, image_id}: the reference a container was created from, readable where possible, and the truth."""
    reference = container["Config"].get("Image") or ""
    if is_id(reference) and (image or {}).get("RepoTags"):
        reference = image["RepoTags"][0]
    return {"image": reference, "image_id": container["Image"]}


def alive(container):
    state = container["State"]
    return bool(state["Running"]) and not state.get("Restarting") and not state.get("Paused")


def never_started(container):
    return container["State"]["Status"] == "created" and container["State"]["StartedAt"].startswith("0001-")


def answers(container):
    """Does a program in the container accept connections on every published TCP port? False when none can be asked."""
    networks_ = (container["NetworkSettings"].get("Networks") or {}).values()
    address = next((seen["IPAddress"] for seen in networks_ if seen.get("IPAddress")), None)
    ports = [port for port, bound in (container["NetworkSettings"].get("Ports") or {}).items() if bound]
    if not address or not ports or not all(port.endswith("/tcp") for port in ports):
        return False
    for port in ports:
        try:
            socket.create_connection((address, int(port[:-4])), timeout=0.05).close()
        except OSError:
            return False
    return True


def health_command(config):
    """The argv of a container's health check, or None when it has none that can be run."""
    test = (config.get("Healthcheck") or {}).get("Test") or []
    if test[:1] == ["CMD"] and len(test) > 1:
        return test[1:]
    if test[:1] == ["CMD-SHELL"] and len(test) == 2:
        return (config.get("Shell") or ["/bin/sh", "-c"]) + [test[1]]
    return None


def fingerprint(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------- masking.py

SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|credential|dsn|auth", re.IGNORECASE)
SHORTEST_SECRET = 4


def masked(said, container):
    """The text, with the values of environment variables that are named like a secret masked."""
    pairs = [pair.partition("=") for pair in container["Config"].get("Env") or ()]
    values = {value for name, _, value in pairs if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET}
    for value in sorted(values, key=len, reverse=True):
        said = said.replace(value, "********")
    return said


# ---------------------------------------------------------------------------------------------------------- hazards.py

def refuse_hazards(engine, old):
    """Problem("hazard") when ``old`` could not be started again if it had to be put back, or others depend on it.

    (Whoever replaces the container by hand has the same trouble, but afterwards.)
    """
    found = list(cut_off(engine, old))
    if old["State"]["Running"]:
        found += list(no_way_back(engine, old))
    if found:
        why = "; ".join(found)
        raise Problem("hazard", f"nothing was touched: {why}. --force goes on all the same")


def no_way_back(engine, old):
    """Why the engine would refuse to start ``old`` once it was stopped, although it runs now."""
    host = old["HostConfig"]
    for setting in ("NetworkMode", "PidMode", "IpcMode"):
        kind, _, other = (host.get(setting) or "").partition(":")
        if kind == "container":
            seen = engine.get("containers", other, "json")
            if not seen or not seen["State"]["Running"]:
                yield f"it shares the {setting[:-4].lower()} namespace of container {other[:12]}, which does not run"
    for mount in old.get("Mounts") or ():
        # Engines make a missing folder anew when they start a container, in the place of a missing file, too. What was
        # mounted is still seen from inside; where that cannot be looked at, the source is not on this host either.
        source, inside = mount.get("Source") or "", "/proc/{}/root{}".format(old["State"]["Pid"], mount["Destination"])
        missing = mount.get("Type") == "bind" and not os.path.lexists(source)
        if missing and os.path.exists(inside) and not os.path.isdir(inside):
            yield f"{source}, which is mounted at {mount['Destination']}, is gone from this host: put it back first"
    mode, attached = host.get("NetworkMode") or "default", old["NetworkSettings"].get("Networks") or {}
    known = mode in ("default", "bridge", "host", "none") or mode.startswith("container:") or mode in attached
    if engine.version >= (1, 44) and not known and engine.get("networks", mode) is None:
        yield f"the network {mode}, which it was made with, is gone, and this engine starts no container without it"


def cut_off(engine, old):
    """Who lives in the network namespace of ``old``, and would be left without a network."""
    shared = "container:" + old["Id"]
    for other in engine.call("GET", path("containers", "json", all=True)):
        if (other.get("HostConfig") or {}).get("NetworkMode") in (shared, "container:" + old["Name"][1:]):
            name = other["Names"][0].lstrip("/")
            yield f"container {name} lives in its network ({shared[:22]}) and would be left without: recreate it, too"


# ----------------------------------------------------------------------------------------------------------- podman.py

# Options of `podman run` that its answers (or the container's own OCI file) give back: those with a value, those without.
GIVEN_BACK = (
    "--add-host", "--cap-add", "--cap-drop", "--cidfile", "--cpu-period", "--cpu-quota", "--cpu-shares",
    "--cpus", "--cpuset-cpus", "--cpuset-mems", "--detach-keys", "--device", "--dns", "--dns-opt",
    "--dns-option", "--dns-search", "--entrypoint", "--env", "--env-file", "--expose", "--group-add",
    "--health-cmd", "--health-interval", "--health-retries", "--health-start-period", "--health-timeout",
    "--hostname", "--ipc", "--label", "--label-file", "--log-driver", "--log-opt", "--memory",
    "--memory-reservation", "--memory-swap", "--name", "--net", "--network", "--network-alias",
    "--oom-score-adj", "--pid", "--pids-limit", "--platform", "--publish", "--pull", "--restart", "--shm-size",
    "--stop-signal", "--stop-timeout", "--sysctl", "--tmpfs", "--ulimit", "--user", "--uts", "--volume",
    "--volumes-from", "--workdir", "-c", "-e", "-h", "-l", "-m", "-p", "-u", "-v", "-w",
)  # fmt: skip
GIVEN_BACK_FLAGS = (
    "--detach", "--init", "--interactive", "--no-healthcheck", "--privileged", "--publish-all", "--quiet",
    "--read-only", "--replace", "--rm", "--tls-verify", "--tty", "-P", "-d", "-i", "-q", "-t",
)  # fmt: skip


def recreated(engine, old, old_image, reference):
    """``replacement`` for the engine at hand. Problem("podman") for what Podman does not give back."""
    if not engine.podman:
        return replacement(old, old_image, reference, engine.version)
    seen = json.loads(engine.exchange("GET", "/v4.0.0/libpod" + path("containers", old["Id"], "json"))[2])
    given = options(seen["Config"].get("CreateCommand") or [])
    refuse(old, seen, given)
    shaped, networks = docker_shape(old, seen, old_image, given)
    body, _, _ = replacement(shaped, old_image, reference, engine.version)
    if networks:
        body["NetworkingConfig"] = {"EndpointsConfig": networks}
    return body, {}, []


def options(command):
    """{option: [values]} of a `podman run` or `podman create` command line, up to the image."""
    found, begun = {}, False
    words = iter(command)
    for word in words:
        if not begun:
            begun = word in ("run", "create")
        elif not word.startswith("-"):
            break
        else:
            if word[1] != "-" and len(word) > 2:  # -it, -p80:80
                flags = [letter for letter in word[1:] if "-" + letter in GIVEN_BACK_FLAGS]
                if len(flags) == len(word) - 1:
                    found.update({"-" + letter: [] for letter in flags})
                    continue
                word = word[:2] + "=" + word[2:]
            name, joined, value = word.partition("=")
            takes = name not in GIVEN_BACK_FLAGS and not joined
            found.setdefault(name, []).append(next(words, "") if takes else value)
    return found


def refuse(old, seen, given):
    unit = (old["Config"].get("Labels") or {}).get("PODMAN_SYSTEMD_UNIT")
    lost = sorted(set(given) - set(GIVEN_BACK + GIVEN_BACK_FLAGS) - {"--security-opt", "--mount"})
    lost += [f"--security-opt {value}" for value in given.get("--security-opt", ()) if value != "no-new-privileges"]
    lost += [f"--network {value}" for key in ("--network", "--net") for value in given.get(key, ()) if ":" in value[1:]]
    lost += [f"--mount {value}" for value in given.get("--mount", ()) if not plain_mount(value)]
    lost += [f"--health-interval {value}" for value in given.get("--health-interval", ()) if value == "disable"]
    why = None
    if unit:
        why = f"it belongs to the systemd unit {unit}: systemd would not know the replacement; change the image there"
    elif seen.get("Pod"):
        why = f"it is part of pod {seen['Pod'][:12]}; containers of pods are not replaced"
    elif lost:
        why = f"it was made with {', '.join(lost)}, and Podman does not say so in a way that it could be made again"
    if why:
        raise Problem(
            "podman", f"nothing was touched: container {old['Name'][1:]} cannot be replaced through Podman: {why}"
        )


def plain_mount(value):
    """A bind, volume or tmpfs mount without options that Podman would not tell again."""
    keys = dict(part.partition("=")[::2] for part in value.split(","))
    known = {"type", "src", "source", "dst", "destination", "target", "ro", "readonly", "rw", "tmpfs-size"}
    return keys.get("type", "volume") in ("bind", "volume", "tmpfs") and not set(keys) - known


def docker_shape(old, seen, image, given):
    """(``old`` as Docker would describe it, its endpoints). ``seen`` is Podman's own description of it."""
    shaped = json.loads(json.dumps(old))
    config, host, of_image = shaped["Config"], shaped["HostConfig"], image.get("Config") or {}
    from_image = of_image.get("Env") or []  # in no order that would tell whose they are
    config["Env"] = [e for e in config["Env"] if e not in from_image and not made_by_podman(e, config, of_image)]
    config["StopSignal"] = own_signal(config.get("StopSignal"), of_image.get("StopSignal"))
    if config.get("WorkingDir") == "/":
        config["WorkingDir"] = None
    log = seen["HostConfig"].get("LogConfig") or {}
    limits = {"max-size": log.get("Size"), "tag": log.get("Tag")}
    host["LogConfig"] = {
        "Type": log.get("Type") or "",
        "Config": {key: value for key, value in limits.items() if value and value != "0B"},
    }
    host["Sysctls"] = sysctls(seen["OCIConfigPath"])
    for limit in host.get("Ulimits") or ():
        limit["Name"] = limit["Name"].replace("RLIMIT_", "").lower()
    for device in host.get("Devices") or ():
        device["CgroupPermissions"] = device["CgroupPermissions"] or "rwm"
    if host.get("NanoCpus"):
        host["CpuPeriod"] = host["CpuQuota"] = 0
    if host.get("MemorySwappiness") == -1:
        host["MemorySwappiness"] = None
    host["Runtime"] = None
    if "--init" in given or (seen["Config"].get("Annotations") or {}).get("io.podman.annotations.init") == "TRUE":
        host["Init"] = True
    networks = {}
    attached = shaped["NetworkSettings"].get("Networks") or {}
    for name, endpoint in attached.items():
        networks[name] = {"Aliases": [alias for alias in endpoint.get("Aliases") or () if alias != old["Id"][:12]]}
    if host["NetworkMode"] != "bridge":
        networks = {}
    shaped["NetworkSettings"]["Networks"] = {"bridge": {}}
    return shaped, networks


def made_by_podman(entry, config, image):
    """Variables that Podman adds to what the user and the image say."""
    name = entry.partition("=")[0]
    own = {"TERM=xterm", "container=podman", "HOME=/", "HOME=/root", "HOSTNAME=" + (config.get("Hostname") or "")}
    return entry in own or (name == "PATH" and not any(mine.startswith("PATH=") for mine in image.get("Env") or ()))


def own_signal(number, image):
    """The name of a stop signal (Podman gives its number), None when it is the image's or the default."""
    if not str(number or "").isdigit():
        return number
    name = signal.Signals(int(number)).name
    usual = str(image or "SIGTERM")
    return None if usual in (name, name[3:], str(number)) else name


def sysctls(oci_file):
    """Kernel settings: Podman's answers lack them, the container's own file on this host has them."""
    try:
        with open(oci_file) as found:
            return json.load(found)["linux"].get("sysctl") or {}
    except OSError as error:
        raise Problem("podman", f"nothing was touched: the container's own file cannot be read: {error}")


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


# -------------------------------------------------------------------------------------------------------- preparing.py

class Preparing(Work):
    """What is done to one container, for one plan, before anything is stopped: all of it can be taken back."""

    images_only = False  # prepare makes images and tags ready, and leaves the replacement to the swap

    def __init__(self, engine, memory, plan, check_mode):
        Work.__init__(self, engine, memory, plan, check_mode)
        self.current = self.next = self.previous = self.spare = None
        self.stopped_at = None

    def look(self):
        """Read the four names afresh."""
        self.current = self.engine.container(self.name)
        self.next = self.engine.container(self.name + ".guard-next")
        self.previous = self.engine.container(self.name + ".guard-prev")
        self.spare = self.engine.container(self.name + ".guard-spare")

    # -- snapshot

    def snapshot(self):
        """Pin what runs now, and say what it is."""
        container = self.engine.container(self.name)
        if container is None:
            raise self.not_there()
        image = self.image_of(container)
        body, others, leave = recreated(self.engine, container, image, "")
        repo = repository(container, image)
        pin = "{}:guard_{}".format(repo, container["Image"].split(":")[-1][:12])
        missing = pin not in (image.get("RepoTags") or [])
        if missing and not self.check_mode:
            self.engine.tag(container["Image"], *pin.rsplit(":", 1))
        digests = [digest for digest in image.get("RepoDigests") or () if digest.startswith(repo + "@")]
        state = container["State"]
        now = described(container, image)
        return self.result(
            "unchanged",
            missing,
            now,
            to=now,
            container_id=container["Id"],
            pin=pin,
            digest=digests[0] if digests else None,
            tags=image.get("RepoTags") or [],
            fingerprint=fingerprint([body, others, leave]),
            status=state["Status"],
            health=(state.get("Health") or {}).get("Status", ""),
            restart_count=container["RestartCount"],
            started_at=state["StartedAt"],
        )

    def not_there(self):
        where = f"there is no container {self.name} on this engine ({self.engine.address})"
        return Problem("not_found", where + ": nothing to take its configuration from; deploy it first")

    def image_of(self, container):
        image = self.engine.image(container["Image"])
        if image is None:
            gone = f"the image {container['Image']} of container {self.name} is gone from the engine"
            raise Problem("not_found", gone + ": what came from it can't be told from what was set by hand")
        return image

    # -- prepare

    def prepare(self):
        """Everything slow, nothing stopped: image pulled, backup tag set, the replacement created."""
        self.look()
        if self.previous is not None:
            return self.result("planned", False, described(self.previous, None), prepared=False)
        unchanged = self.already_there()
        if unchanged:
            return unchanged
        old, image = self.expected_container()
        if self.check_mode:
            self.target_here(pull=False)
            return self.result(
                "planned", True, described(old, image), backup_tag=self.plan["backup_tag"], container_id=old["Id"]
            )
        created = self.make_ready(old, image)
        return self.result(
            "planned", created, described(old, image), backup_tag=self.backup, container_id=old["Id"], prepared=True
        )

    def already_there(self):
        """The result when the target runs already and nothing is unfinished, else None."""
        now = self.current
        if (
            now is None
            or now["Image"] != self.plan["target"]["image_id"]
            or not alive(now)
            or self.previous is not None
        ):
            return None
        leftovers = [found for found in (self.next, self.spare) if found is not None]
        if leftovers and not self.check_mode:
            self.step(DISCARD)
            for found in leftovers:
                self.engine.remove(found["Id"])
        if (
            not self.check_mode
            and self.memory.facts.get("phase") == "swapping"
            and self.memory.facts.get("next_id") == now["Id"]
        ):
            return self.finish(now)
        seen = described(now, None)
        mine = self.answered("restored") and self.memory.facts.get("next_id") == now["Id"]
        told = {"backup_tag": self.memory.facts.get("backup"), "downtime_s": self.memory.facts.get("downtime")}
        return self.result(
            "unchanged", bool(leftovers), seen, to=seen, container_id=now["Id"], **(told if mine else {})
        )

    def answered(self, answer):
        """Did this very run (or the one it repeats) come to that end here already? Its answer may have been lost."""
        facts = self.memory.facts
        same = facts.get("run_id") == self.plan["run_id"] and facts.get("phase") == "done"
        return same and facts.get("answer") == answer

    def reverted_before(self):
        """The same answer again when this run tried its target here and took it back: no second outage for it."""
        facts = self.memory.facts
        if not self.answered("reverted") or self.plan["force"] or self.current is None:
            return None
        if self.current["Id"] not in (facts.get("old_id"), facts.get("spare_id")):
            return None
        return self.result(
            "reverted", False, facts.get("old"), error=facts["reason"], container_id=self.current["Id"],
            backup_tag=facts.get("backup"), downtime_s=facts.get("downtime"),
        )  # fmt: skip

    def expected_container(self):
        """The current container with its image, when it is the one the plan was made for."""
        if self.current is None:
            raise self.not_there()
        expected, found = self.plan["expect_image_id"], self.current["Image"]
        if expected and found not in (expected, self.plan["target"]["image_id"]) and not self.plan["force"]:
            runs = f"container {self.name} runs {self.current['Config'].get('Image')} ({found}), not {expected}"
            why = " for which this rollback was decided: something else was deployed meanwhile"
            raise Problem("mismatch", runs + why)
        return self.current, self.image_of(self.current)

    def target_here(self, pull=True):
        """The target image as the engine knows it, pulled by digest when it is missing and that is possible."""
        target = self.plan["target"]
        image = self.engine.image(target["image_id"])
        if image is not None or (target["digest"] and not pull):
            return image
        if not target["digest"]:
            gone = f"the image {target['image']} ({target['image_id']}) is not on this host any more"
            hint = "take a snapshot before the next deploy, or push the image to a registry"
            raise Problem("image_gone", f"{gone} and no digest to pull it by is known; {hint}")
        self.step(PULL, pulled=target["image_id"])
        self.engine.pull(target["digest"])
        image = self.engine.image(target["image_id"])
        if image is None:
            raise Problem("pull", f"{target['digest']} was pulled, but it is not the image {target['image_id']}")
        return image

    def make_ready(self, old, old_image):
        """Image, backup tag, replacement (and the twin of a self-removing container). True when something was made."""
        target, facts = self.plan["target"], self.memory.facts
        recreated(self.engine, old, old_image, "")  # refuses what cannot be made again
        if not self.plan["force"]:
            refuse_hazards(self.engine, old)
        if facts.get("phase") != "prepared":
            self.memory.begin(phase="prepared")
        elif facts.get("run_id") != self.plan["run_id"]:  # prepared by a run that never swapped: its names go
            self.take_back_names("backup_ref", "pinned")
            self.memory.note(run_id=self.plan["run_id"], fence=self.plan["fence"], backup_ref=None, pinned=None)
        image = self.target_here()
        made = self.tag_backup(old, old_image)
        reference = self.readable(image, repository(old, old_image))
        if self.images_only:
            return made
        body, others, leave = self.wanted(old, old_image, reference)
        mark = fingerprint([old["Id"], body, others, leave])
        facts = self.memory.facts
        ready = (
            self.next is not None
            and never_started(self.next)
            and self.next["Id"] == facts.get("next_id")
            and facts.get("mark") == mark
        )
        twin = bool(old["HostConfig"].get("AutoRemove"))
        if ready and (not twin or (self.spare is not None and self.spare["Id"] == facts.get("spare_id"))):
            return made
        for leftover in (self.next, self.spare):
            if leftover is not None:
                self.engine.remove(leftover["Id"])
        self.next = self.create(self.name + ".guard-next", body, others, leave, target["image_id"], CREATE)
        self.spare = None
        if twin:
            known = old["Config"].get("Image") or ""
            same = (
                known if (known in (old_image.get("RepoTags") or ())) else f"{repository(old, old_image)}:{self.backup}"
            )
            body = dict(body, Image=same)
            body.update(recreated(self.engine, old, old_image, same)[0])
            self.spare = self.create(self.name + ".guard-spare", body, others, leave, old["Image"], SPARE)
        self.memory.note(
            mark=mark,
            next_id=self.next["Id"],
            spare_id=self.spare["Id"] if self.spare else None,
            old_id=old["Id"],
            old=described(old, old_image),
            old_policy=old["HostConfig"].get("RestartPolicy"),
            was_running=bool(old["State"]["Running"]),
        )
        return True

    def wanted(self, old, old_image, reference):
        """The replacement (see ``replacement``): ``old``'s configuration on the target, which ``reference`` names."""
        return recreated(self.engine, old, old_image, reference)

    def tag_backup(self, old, old_image):
        """Give the current image its backup tag; True when it had to be made."""
        repo = repository(old, old_image)
        self.backup = self.engine.free_tag(repo, self.plan["backup_tag"], old["Image"])
        if f"{repo}:{self.backup}" in (old_image.get("RepoTags") or ()):
            return False
        self.step(TAG_BACKUP, backup=self.backup, backup_ref=f"{repo}:{self.backup}")
        self.engine.tag(old["Image"], repo, self.backup)
        return True

    def readable(self, image, repo):
        """A reference that resolves to exactly the target: its own tag, else guard's pin (made when missing)."""
        target = self.plan["target"]
        if target["image"] in (image.get("RepoTags") or []) + (image.get("RepoDigests") or []):
            return target["image"]
        named = None if is_id(target["image"]) else REFERENCE.match(target["image"])
        pin = "{}:guard_{}".format(named.group(1) if named else repo, target["image_id"].split(":")[-1][:12])
        if pin not in (image.get("RepoTags") or []):
            self.step(PIN, pinned=pin)
            self.engine.tag(target["image_id"], *pin.rsplit(":", 1))
        return pin

    def create(self, name, body, others, leave, image_id, step):
        """Create a container, in all its networks, not started; its image is checked afterwards."""
        self.step(step)
        if leave and self.engine.get("networks", leave[0]) is None:  # gone, so it cannot be left either
            body, others, leave = without_gone_network(body, others)
        made = self.engine.call("POST", path("containers", "create", name=name), body)["Id"]
        if others or leave:
            self.step(CONNECT)
        for network in leave:
            self.engine.call("POST", path("networks", network, "disconnect"), {"Container": made, "Force": True})
        for network, endpoint in others.items():
            self.engine.call(
                "POST", path("networks", network, "connect"), {"Container": made, "EndpointConfig": endpoint}
            )
        container = self.engine.container(name)
        if container is None or container["Image"] != image_id:
            self.engine.remove(made)
            raise Problem(
                "mismatch",
                "{} was created from {}, not from {}: its tag moved just now; run again".format(
                    name, container and container["Image"], image_id
                ),
            )
        return container

    def discard(self):
        """Take back what this run's preparation left. What another run has prepared or swapped since is not touched.

        A fence that somebody newer raised meanwhile is no reason to leave it here, as long as the journal is this run's.
        """
        self.look()
        facts = self.memory.facts
        now = described(self.current, None) if self.current else None
        if facts.get("run_id") not in (None, self.plan["run_id"]):
            return self.result("unchanged", False, now)
        if facts.get("fence") != self.plan["fence"]:
            self.memory.refuse_older()
        if self.previous is not None:
            cut = f"a swap of {self.name} is unfinished ({self.name}.guard-prev exists)"
            raise Problem("unfinished", cut + ": finish it with a swap, not by discarding")
        found = self.next is not None or self.spare is not None
        named = any(facts.get(key) for key in ("backup_ref", "pinned", "pulled"))
        left = found or (facts.get("phase") == "prepared" and named)
        if left and not self.check_mode:
            self.take_back()
        return self.result("unchanged", bool(left), now)

    def take_back(self):
        """Remove what a preparation left: containers, names that are not an image's last, an image that it pulled."""
        self.step(DISCARD)
        facts = self.memory.facts
        for container in (self.next, self.spare):
            if container is not None:
                self.engine.remove(container["Id"])
        if facts.get("phase") == "prepared":
            self.take_back_names("backup_ref", "pinned")
            if facts.get("pulled"):
                try:
                    self.engine.call("DELETE", path("images", facts["pulled"]))
                except EngineError:
                    pass  # somebody uses it by now
        self.memory.note(phase="done")

    def take_back_names(self, *keys):
        for reference in [self.memory.facts[key] for key in keys if self.memory.facts.get(key)]:
            image = self.engine.image(reference)
            if image and len(image.get("RepoTags") or ()) > 1:
                self.engine.call("DELETE", path("images", reference, noprune=True))


# ------------------------------------------------------------------------------------------------------------- swap.py

LONGEST_LOOK_S = 0.05  # every look costs the engine some milliseconds: on a busy host those of others
STABLE_ANSWERING_S = 0.25  # how long a container that answers on its published ports must have stayed up
DAY_S = 86400.0


class Swap(Preparing):
    """One host's work on one container, for one plan."""

    BROKEN_OFF_BY = (EngineGone, EngineError)  # after which it is looked at afresh

    def swap(self):
        """The target in place of what runs; on failure what ran is back. Finishes what an earlier run left."""
        self.look()
        if self.check_mode:
            return self.foresee()
        settled = self.reverted_before() or self.settle()
        if settled:
            return settled
        unchanged = self.already_there()
        if unchanged:
            return unchanged
        try:
            old, image = self.expected_container()
        except Problem:  # what was prepared is for a container that is not there any more
            if self.memory.facts.get("phase") == "prepared" and self.memory.facts["run_id"] == self.plan["run_id"]:
                self.take_back()
            raise
        self.make_ready(old, image)
        self.step(RENAME_OLD, phase="swapping", backup=self.backup, run_id=self.plan["run_id"])
        return self.forward(old)

    def foresee(self):
        """Check mode: what a swap would do."""
        if self.previous is not None:
            return self.result("planned", True, described(self.previous, None))
        unchanged = self.already_there()
        if unchanged:
            return unchanged
        old, image = self.expected_container()
        self.target_here(pull=False)
        return self.result(
            "planned", True, described(old, image), backup_tag=self.plan["backup_tag"], container_id=old["Id"]
        )

    def settle(self):
        """Bring an interrupted swap to one end. Returns its result, or None when a fresh start is right.

        | NAME | .guard-prev | it was cut                        | so                                      |
        |------|-------------|-----------------------------------|-----------------------------------------|
        | old  | -           | before the renames, or late undo  | old as it was, then afresh              |
        | -    | old         | between renames, or in an undo    | old gets its name back, then afresh     |
        | new  | old         | anywhere after                    | go on; or undo when undoing or new plan |
        | new  | - (spare)   | a self-removing old has gone      | spare takes old's place, then as above  |
        | new  | -           | after old's removal               | done (see already_there)                |
        """
        facts = self.memory.facts
        undoing = facts.get("phase") == "undoing"
        self.backup = facts.get("backup") if facts.get("phase") in ("swapping", "undoing") else None
        if self.previous is None and self.spare is not None and self.next is None and self.ours(self.current):
            self.take_spare()
        if self.previous is not None:
            if self.current is None:
                return self.undo(facts.get("reason") or "an earlier run was interrupted", resumed=True)
            if facts.get("phase") != "done" and self.ours(self.current):
                if not undoing and self.current["Image"] == self.plan["target"]["image_id"]:
                    return self.forward()
                return self.undo(facts.get("reason") or "a later plan replaces this one", resumed=True)
            return self.set_aside()
        cut = facts.get("phase") in ("swapping", "undoing")
        if cut and self.current is not None and self.current["Id"] in (facts.get("old_id"), facts.get("spare_id")):
            return self.undo(facts.get("reason") or "an earlier run was interrupted", resumed=True)
        return None

    def ours(self, container):
        """Did the journal's run create this container as the replacement? (Without a journal: is it the target?)"""
        known = self.memory.facts.get("next_id")
        if container is None or known is None:
            return container is not None and container["Image"] == self.plan["target"]["image_id"]
        return container["Id"] == known

    def set_aside(self):
        """NAME was deployed by somebody, or its swap is done: it counts, and a stopped .guard-prev goes."""
        if self.previous["State"]["Running"]:
            both = f"both {self.name} and {self.name}.guard-prev run, and {self.name} was not made by guard"
            raise Problem("unfinished", both + ": remove the wrong one by hand")
        self.memory.begin(phase="done")
        self.step(REMOVE_OLD)
        self.engine.remove(self.previous["Id"])
        self.look()

    def take_spare(self):
        self.engine.rename(self.spare["Id"], self.name + ".guard-prev")
        self.previous, self.spare = self.engine.container(self.name + ".guard-prev"), None

    def forward(self, rename=None):
        """From the names to done. Every step looks before it acts, so that it can be run again.

        ``rename``: the old container while it still has its name.
        """
        try:
            if rename is not None:
                self.trade_names(rename)
            old, new = self.previous, self.current
            bridges = published_bridges(self.engine, new)
            keeps = (old["HostConfig"].get("RestartPolicy") or {}).get("Name") not in (None, "", "no")
            if keeps and not self.engine.podman:  # which changes no policy, and has no daemon to act on it
                self.step(HOLD_OLD)
                self.set_policy(old, {"Name": "no", "MaximumRetryCount": 0})
            self.step(STOP_OLD)
            if alive(old):
                self.stopped_at = time.monotonic()
            if old["State"]["Running"]:
                self.engine.stop(old, self.plan["stop_timeout_s"])
            if old["HostConfig"].get("AutoRemove") and old["Id"] != self.memory.facts.get("spare_id"):
                self.await_gone(old["Id"])
                self.take_spare()
            self.step(START_NEW)
            if not new["State"]["Running"]:
                self.engine.start(new["Id"])
            began = time.monotonic()
            new = self.engine.get("containers", new["Id"], "json")
            if new is not None:
                announce(new, bridges)
            self.step(AWAIT_NEW)
            up_at = self.await_health(new, began)
        except EngineGone:
            raise
        except Problem as failed:
            return self.undo(str(failed))
        self.downtime = None if self.stopped_at is None else round(up_at - self.stopped_at, 3)
        return self.finish(new)

    def trade_names(self, old):
        """The old container steps aside and the new one takes its name, while the old one still runs."""
        self.rename(old, self.name + ".guard-prev")
        self.previous = self.engine.container(self.name + ".guard-prev")
        self.step(RENAME_NEW)
        self.rename(self.next, self.name)
        self.current, self.next = self.next, None

    def rename(self, container, name):
        """Rename; a container in its restart pause has no network sandbox, and engines refuse to rename it as it is."""
        try:
            self.engine.rename(container["Id"], name)
        except EngineError as refused:
            if "sandbox" not in str(refused):
                raise
            self.engine.stop(container, self.plan["stop_timeout_s"])
            self.engine.rename(container["Id"], name)

    def finish(self, new):
        """The target is up: what was kept to go back to can go."""
        self.keep(new)
        facts = self.memory.facts
        leftover = None
        for kept in (self.previous, self.spare):
            if kept is not None:
                if not never_started(kept) and self.log_tail is None:  # why it was replaced may stand there alone
                    self.log_tail = masked(self.engine.log_tail(kept), kept)
                self.step(REMOVE_OLD)
                try:
                    self.engine.remove(kept["Id"])
                except EngineError as refused:  # the target runs all the same; the next run clears up
                    leftover = str(refused)
        old = facts.get("old") or (described(self.previous, None) if self.previous else None)
        self.step(DONE, phase="done", answer="restored", downtime=self.downtime)
        to = {"image": new["Config"]["Image"], "image_id": new["Image"]}
        return self.result(
            "restored",
            True,
            old,
            to=to,
            container_id=new["Id"],
            backup_tag=facts.get("backup"),
            downtime_s=self.downtime,
            leftover=leftover,
        )

    def keep(self, new):
        """Whatever else is needed for the target to stay, before what was there goes. Here: nothing."""

    def let_go(self):
        """Undo ``keep``."""

    def set_policy(self, container, policy):
        """Set a restart policy; a container in its restart pause refuses that until it is stopped."""
        try:
            self.engine.call("POST", path("containers", container["Id"], "update"), {"RestartPolicy": policy})
        except EngineError:
            if not container["State"].get("Restarting"):
                raise
            self.engine.stop(container, self.plan["stop_timeout_s"])
            self.engine.call("POST", path("containers", container["Id"], "update"), {"RestartPolicy": policy})

    def park(self, new):
        """The replacement gives up the name. One that removes itself may be gone, or be going at this moment."""
        if self.engine.container(self.name) is None:
            return
        try:
            self.rename(new, self.name + ".guard-next")
        except EngineError:
            if not new["HostConfig"].get("AutoRemove"):
                raise
            self.await_gone(new["Id"])

    def give_back_name(self):
        """What ran before has its name again. Engines free the name of a removed container a moment after it is gone."""
        until = time.monotonic() + 3
        while True:
            try:
                return self.rename(self.previous, self.name)
            except EngineError as refused:
                if refused.status != 409 or time.monotonic() > until:
                    raise
                time.sleep(POLL_S)

    def await_gone(self, container_id):
        until = time.monotonic() + 15
        while self.engine.get("containers", container_id, "json") is not None:
            if time.monotonic() > until:
                raise Problem("engine", f"the stopped self-removing container {container_id[:12]} did not go away")
            time.sleep(POLL_S)

    def await_health(self, new, began):
        """Wait until the new container is healthy, or without a health check has stayed up: ``stable_s``, or less when
        its published ports answer. Returns the (monotonic) time it was up; Problem says why it is not.
        """
        if new is None:
            raise Problem("not_up", "the restored container removed itself right after its start")
        first = new["State"]["StartedAt"]
        check = new["Config"].get("Healthcheck") or {}
        nano = 1e-9
        first_result = (
            check.get("StartPeriod", 0) + (check.get("Interval") or 30e9) + (check.get("Timeout") or 30e9)
        ) * nano
        deadline = began + max(self.plan["health_timeout_s"], first_result)
        probe, probe_at, pause, answered = health_command(new["Config"]), began, 0.1, None
        look_s = POLL_S
        while True:
            state = new["State"]
            now = time.monotonic()
            health = ((state.get("Health") or {}).get("Status") or "none") if self.plan["wait_healthy"] else "none"
            memory = ", out of memory" if state.get("OOMKilled") else ""
            if state.get("Restarting") or new["RestartCount"] > 0 or state["StartedAt"] != first:
                code = f" (exit code {state['ExitCode']}{memory})" if state["ExitCode"] else ""  # 0 while it runs again
                raise Problem("not_up", "the restored container restarts in a loop" + code)
            if not state["Running"]:
                code = f"{state['ExitCode']}{memory} {state.get('Error') or ''}".strip()
                raise Problem("not_up", f"the restored container exited with code {code}")
            if health == "healthy":
                return now
            if health == "none":
                answered = answered or (now if answers(new) else None)
                if now - began >= min(self.plan["stable_s"], STABLE_ANSWERING_S if answered else DAY_S):
                    return answered or began
            if health == "unhealthy":
                last = ((state["Health"].get("Log") or [{}])[-1].get("Output") or "").strip()[-500:]
                raise Problem(
                    "unhealthy",
                    "the restored container is unhealthy: " + (masked(last, new) or "its health check failed"),
                )
            if now > deadline:
                raise Problem(
                    "unhealthy", "the restored container did not become healthy within %.0f s" % (deadline - began)
                )
            if health == "starting" and probe and now >= probe_at:
                # The engine asks for the first time only after one interval (30 s by default): ask at once.
                if self.engine.passes(new["Id"], probe):
                    return time.monotonic()
                probe_at, pause = time.monotonic() + pause, min(pause * 1.6, 2.0)
            time.sleep(look_s)
            look_s = min(look_s * 1.5, LONGEST_LOOK_S)
            new = self.engine.get("containers", new["Id"], "json")
            if new is None:
                raise Problem("not_up", "the restored container exited and removed itself")

    # -- undo

    def undo(self, reason, resumed=False):
        """What was there before is back under its name, with its policy, running if it ran. Then the replacement goes.

        ``resumed``: found half done by a later run. When that run has another plan, None: it starts afresh.
        """
        facts = dict(self.memory.facts)
        same_run = facts.get("run_id") == self.plan["run_id"] and facts.get("phase") == "undoing"
        self.look()
        if self.previous is None and self.spare is not None and self.next is None and self.ours(self.current):
            self.take_spare()
        new = self.current if self.previous is not None and self.current is not None else self.next
        if new is not None and not never_started(new) and self.log_tail is None:
            self.log_tail = masked(self.engine.log_tail(new), new)
        self.step(STOP_NEW, phase="undoing", reason=reason)
        if new is not None and new["State"]["Running"]:
            self.engine.stop(new, self.plan["stop_timeout_s"])
        if self.previous is not None:
            if self.current is not None:
                self.step(PARK_NEW)
                if self.next is not None:
                    self.engine.remove(self.next["Id"])
                self.park(self.current)
            self.step(RETURN_OLD)
            self.give_back_name()
        old = self.engine.container(self.name)
        if old is None:
            raise Problem(
                "failed", f"{self.name} could not be put back: it is gone. The reason for going back was: {reason}"
            )
        policy = facts.get("old_policy") or (new or old)["HostConfig"].get("RestartPolicy")
        if policy and policy != old["HostConfig"].get("RestartPolicy"):
            self.step(RELEASE_OLD)
            self.set_policy(old, policy)
        self.step(START_OLD)
        error = None
        if facts.get("was_running", True) and not old["State"]["Running"]:
            bridges = published_bridges(self.engine, old)
            try:
                self.engine.start(old["Id"])
            except EngineError as refused:
                error = f"{reason}; and what ran before did not start again: {refused}"
            old = self.engine.get("containers", old["Id"], "json") or old
            announce(old, bridges)
        downtime = None if self.stopped_at is None else round(time.monotonic() - self.stopped_at, 3)
        self.step(REMOVE_NEW)
        for name in (".guard-next", ".guard-spare"):
            left = self.engine.container(self.name + name)
            if left is not None:
                self.engine.remove(left["Id"])
        self.let_go()
        over = not (resumed and not same_run)
        self.step(DONE, phase="done", downtime=downtime, answer="reverted" if over and not error else None)
        if not over:
            self.look()
            return None
        return self.result(
            "failed" if error else "reverted", True, facts.get("old") or described(old, None),
            error=error or reason, container_id=old["Id"], backup_tag=facts.get("backup"), downtime_s=downtime,
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- compose.py

PIN_PROJECT, UNPIN_PROJECT = "pin-project", "undo:unpin-project"


class ComposeSwap(Swap):
    """``Swap`` for the one container of a Compose service.

    The pin is written when the target is up and before the previous container goes: a swap that fails earlier never
    touches the project. Where no pin is possible the replacement keeps the labels of the container it stands for;
    Compose then takes it for what its files say, and an ``up`` of the same files leaves it alone.
    """

    def __init__(self, engine, memory, plan, check_mode):
        Swap.__init__(self, engine, memory, plan, check_mode)
        self.notice = None

    def result(self, state, changed, old, **more):
        return Swap.result(self, state, changed, old, notice=self.notice, **more)

    def project(self, container):
        """The project of the container. Problem when it is not the service's that the plan names."""
        labels, unit = container["Config"].get("Labels") or {}, self.plan["compose"]
        if any(labels.get(LABEL + key) != name for key, name in unit.items()):
            raise Problem("mismatch", "{} is not of Compose service {project}/{service}".format(self.name, **unit))
        return Project(labels, unit["project"], unit["service"])

    # -- the replacement

    def expected_container(self):
        old, image = Swap.expected_container(self)
        self.project(old)
        return old, image

    def prepare(self):
        """As ``Swap``, but for the replacement: an ``up`` of the project would take a second container with the service's
        labels for its own, even one that was only created, and start, rename or remove the wrong one of the two.
        """
        self.images_only = True
        return Swap.prepare(self)

    def wanted(self, old, old_image, reference):
        body, others, leave = Swap.wanted(self, old, old_image, reference)
        project, labels = self.project(old), body["Labels"]
        labels.pop(PIN_LABEL, None)
        if project.override is None:
            self.memory.note(pin=None, unpin=False)
            return body, others, leave
        image, now = self.target_here(), project.entry()
        unpin = now is not None and now["instead_of_id"] == image["Id"] and not now["over"]
        entry = None if unpin else self.entry(image, reference, old, now)
        labels[LABEL + "image"] = image["Id"]
        labels[LABEL + "project.config_files"] = project.files_with(entry)
        if entry:
            labels[PIN_LABEL] = entry["rollback"]
        known = project.hash_with(entry)
        if known:
            labels[LABEL + "config-hash"] = known
        self.memory.note(pin=entry, unpin=unpin)
        return body, others, leave

    def entry(self, image, reference, old, now):
        """What is pinned: by digest when the engine has the image under it, else by a tag that only names this image.
        ``now``: the pin that is there already.
        """
        digest = self.plan["target"]["digest"]
        by_digest = digest in (image.get("RepoDigests") or ())
        return {
            "service": self.plan["compose"]["service"],
            "image": digest if by_digest else self.only_tag(image, reference),
            "local": not by_digest,
            "rollback": self.plan["run_id"],
            "instead_of": old["Config"].get("Image") or old["Image"],
            "instead_of_id": old["Image"],
            "over": now and now["rollback"],
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def only_tag(self, image, reference):
        pin = "{}:guard_{}".format(REFERENCE.match(reference).group(1), image["Id"].split(":")[-1][:12])
        if pin not in (image.get("RepoTags") or ()):
            self.step(PIN, pinned=pin)
            self.engine.tag(image["Id"], *pin.rsplit(":", 1))
        return pin

    # -- the pin

    def keep(self, new):
        """Pin what was restored; say where, or why not. The restore itself stands either way.

        What the pin was put instead of is no longer in need of one: the project is as it was before.
        """
        facts, service = self.memory.facts, self.plan["compose"]["service"]
        entry = facts.get("pin")
        try:
            project = self.project(new)
            if project.override is None or not (entry or facts.get("unpin")):
                raise Problem("compose", project.obstacle or "what to pin is not on record")
            before = facts.get("pin_before") if facts.get("pin_file") else project.entry()
            self.step(PIN_PROJECT, pin_file=project.override, pin_before=before)
            project.put(entry)
        except Problem as wrong:
            target = self.plan["target"]["image"]
            labelled = PIN_LABEL in (new["Config"].get("Labels") or {})
            next_up = "the next `docker compose up`" if labelled else "an `up` with --force-recreate or changed files"
            self.notice = (
                f"{service} is not pinned for Compose ({wrong}): {next_up} starts what the files say; "
                f"name {target} in them until the next good deploy"
            )
        else:
            self.notice = self.pinned(project) if entry else f"{project.override} no longer pins {service}"

    def pinned(self, project):
        return (
            f"{project.override} pins {project.service} to {project.entry()['image']}, whatever the project's other files "
            "say; the next `guard snapshot`, before a deploy, takes the pin out, or delete the file"
        )

    def already_there(self):
        """As ``Swap``; a pin of this very rollback is told again, for its first answer may have been lost."""
        told = Swap.already_there(self)
        if told and told["state"] == "unchanged":
            project = self.project(self.current)
            if (project.entry() or {}).get("rollback") == self.plan["run_id"]:
                told["notice"] = self.pinned(project)
        return told

    def let_go(self):
        """The project as it was before ``keep``."""
        facts = self.memory.facts
        if not facts.get("pin_file"):
            return
        self.step(UNPIN_PROJECT)
        try:
            self.project(self.engine.container(self.name)).put(facts.get("pin_before"))
        except Problem as wrong:
            self.notice = f"{facts['pin_file']} still pins what was put back again ({wrong}): delete it"

    # -- snapshot

    def snapshot(self):
        """As ``Swap``; and because a deploy is to come, the pin of an earlier rollback goes."""
        told = Swap.snapshot(self)
        project = self.project(self.engine.container(self.name))
        service, entry = self.plan["compose"]["service"], project.entry()
        if project.override is None:
            told["notice"] = f"a rollback of {service} could not be pinned for Compose: {project.obstacle}"
        elif entry is not None and self.engine.container(self.name + ".guard-prev") is None:
            if not self.check_mode:
                with Memory(self.plan, self.engine.address, False) as memory:
                    memory.refuse_older()
                    project.put(None)
            told["changed"] = True
            told["notice"] = (
                f"{project.override} no longer pins {service} to {entry['image']} (rollback {entry['rollback']}): the "
                "deploy to come must name an image of its own, or `docker compose up` starts what the files say, "
                f"{entry['instead_of']} as far as guard knows"
            )
        return told


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


# ---------------------------------------------------------------------------------------------------- guard_compose.py

ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""

DOCUMENTATION = r"""
module: guard_compose
short_description: Put the previous image of a Compose service back in one task
description: Talks to the Docker engine of the host. See the playbook folder's manifest for the whole.
options:
  mode: {type: str, required: true, choices: [snapshot, prepare, swap, discard]}
  plan: {type: dict, required: true, description: What to do on this host. Data only, never evaluated.}
"""


def read(arguments):
    """The plan of guard_container, and which service of which project the container is."""
    mode, plan = read_plan(arguments, dict(OPTIONAL, compose=(compose_unit, None)))
    if plan["compose"] is None:
        raise Problem("plan", "plan.compose is missing")
    return mode, plan


if __name__ == "__main__":
    run_as_program(ARGUMENTS, read, restore_with(ComposeSwap))
