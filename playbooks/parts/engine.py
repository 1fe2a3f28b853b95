"""The Docker API, spoken by hand over one kept connection."""

from __future__ import annotations

import datetime
import json
import socket
import struct
import time

from .accept import REFERENCE
from .problems import EngineError, EngineGone, Problem

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
