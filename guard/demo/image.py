"""Docker images made from nothing but a static busybox: no engine, no network, no base image.

``web_image`` returns what ``docker load`` reads: a tar with ``manifest.json``, the image's configuration and one layer.
The same arguments always give the same bytes, so an image ID is stable across hosts and runs; another tag, behaviour,
label or environment gives another ID.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Literal

from guard.errors import GuardError

_APPLETS = ("cat", "date", "echo", "env", "kill", "ls", "nc", "ps", "rm", "sh", "sleep", "test", "touch", "wget")
_FIRST_RELEASE = datetime(2026, 1, 1, tzinfo=UTC)


class Behaviour(StrEnum):
    """What the web service of an image does. Every one of them ends at once on SIGTERM."""

    GOOD = "good"  # GET /healthz: 200 {"status":"ok","version":VERSION}
    ERROR = "error"  # GET /healthz: 500 {"status":"error","version":VERSION}
    HANG = "hang"  # accepts the connection, reads the request and never answers
    EXIT = "exit"  # ends with code 1 as soon as it is started
    TURNS_BAD = "turns_bad"  # good for $TURNS_BAD_AFTER seconds (5) or until /tmp/bad exists, then error
    SLOW = "slow"  # good, $SLOW_SECONDS (2) late


# The shell is pid 1 of the container. Pid 1 ignores every signal it has no handler for, so without the trap each
# `docker stop` would take its whole grace period.
_ENTRY = """\
#!/bin/sh
trap 'exit 0' TERM INT
echo "web $VERSION ($BEHAVIOUR) starts on port ${PORT:-8080}"
if [ "$BEHAVIOUR" = exit ]; then echo 'cannot read /etc/web.conf' >&2; exit 1; fi
read -r uptime _ </proc/uptime
export STARTED_AT="${uptime%.*}"
nc -ll -p "${PORT:-8080}" -e /bin/answer &
wait
exit 1
"""

_ANSWER = """\
#!/bin/sh
read -r _ path _
while read -r line; do [ "${#line}" -gt 1 ] || break; done
code='200 OK' status=ok
case "$BEHAVIOUR" in
  hang) sleep 86400 ;;
  slow) sleep "${SLOW_SECONDS:-2}" ;;
  error) status=error ;;
  turns_bad)
    read -r uptime _ </proc/uptime
    if [ -e /tmp/bad ] || [ $((${uptime%.*} - STARTED_AT)) -ge "${TURNS_BAD_AFTER:-5}" ]; then status=error; fi ;;
esac
[ "$status" = ok ] || code='500 Internal Server Error'
body="{\\"status\\":\\"$status\\",\\"version\\":\\"$VERSION\\"}"
case "$path" in /healthz|/healthz\\?*) ;; *) code='404 Not Found' body='{"status":"not found"}' ;; esac
printf 'HTTP/1.1 %s\\r\\nContent-Type: application/json\\r\\nContent-Length: %s\\r\\nConnection: close\\r\\n\\r\\n%s' \\
  "$code" "${#body}" "$body"
"""


def web_image(
    tag: str = "web:1.0.0",
    behaviour: Behaviour | str = Behaviour.GOOD,
    *,
    created: datetime | None = None,
    labels: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    healthcheck: bool = False,
) -> bytes:
    """A web service as ``docker load`` reads it, tagged ``tag``.

    The version it answers with is the part after the last ``:`` of the tag. ``created`` defaults to a date that grows
    with the version (1.1.0 is newer than 1.0.9). ``env`` and ``labels`` are the image's own defaults, beside
    ``VERSION``, ``BEHAVIOUR`` and ``PATH``. With ``healthcheck`` the engine asks /healthz once a second.
    Raises GuardError when the machine has no static busybox.
    """
    version = tag.rpartition(":")[2]
    layer = _layer()
    made = (created or _created(version)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    variables = {"PATH": "/bin", "VERSION": version, "BEHAVIOUR": Behaviour(behaviour).value, **(env or {})}
    settings: dict[str, object] = {
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Cmd": ["/bin/web"],
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"org.opencontainers.image.version": version, **(labels or {})},
        "WorkingDir": "/",
    }
    if healthcheck:
        probe = 'wget -q -O /dev/null "http://127.0.0.1:${PORT:-8080}/healthz"'
        second = 1_000_000_000
        settings["Healthcheck"] = {
            "Test": ["CMD-SHELL", probe],
            "Interval": second,
            "Timeout": 2 * second,
            "Retries": 2,
        }
    image = {
        "architecture": _architecture(),
        "os": "linux",
        "created": made,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        "history": [{"created": made, "created_by": f"guard demo image {tag}"}],
    }
    described = json.dumps(image, sort_keys=True).encode()
    name = hashlib.sha256(described).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": [tag], "Layers": ["layer/layer.tar"]}]
    files = {
        f"{name}.json": described,
        "layer/layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    return _tar({path: (content, 0o644) for path, content in files.items()})


def image_id(image: bytes) -> str:
    """The ID (``sha256:…``) that an engine gives this image: the digest of its configuration."""
    with tarfile.open(fileobj=io.BytesIO(image)) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None  # noqa: S101 - web_image wrote it as a regular file
        config = json.load(manifest)[0]["Config"]
    return "sha256:" + str(config).removesuffix(".json")


def static_busybox() -> Path:
    """Where the machine's static busybox is; raises GuardError when there is none."""
    found = [shutil.which("busybox"), "/bin/busybox", "/usr/bin/busybox"]
    for path in (Path(name) for name in found if name):
        if path.is_file() and _is_static(path):
            return path
    raise GuardError(
        "no static busybox on this machine: the demo's images are built from it",
        hint="apt-get install busybox-static",
    )


def _is_static(path: Path) -> bool:
    """An ELF file without a program interpreter (PT_INTERP, type 3) needs no libraries."""
    data = path.read_bytes()
    if data[:4] != b"\x7fELF" or data[4] != 2:  # 64-bit only
        return False
    order: Literal["little", "big"] = "little" if data[5] == 1 else "big"
    table = int.from_bytes(data[32:40], order)
    size = int.from_bytes(data[54:56], order)
    count = int.from_bytes(data[56:58], order)
    kinds = (int.from_bytes(data[table + i * size : table + i * size + 4], order) for i in range(count))
    return 3 not in kinds


def _created(version: str) -> datetime:
    """A date that grows with a version such as 1.10.2; anything else is older than every version."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not match:
        return _FIRST_RELEASE
    major, minor, patch = (int(part or 0) for part in match.groups())
    # Sums stay below today's date for any version a test would use: a created date in the future looks broken.
    return _FIRST_RELEASE + timedelta(days=min(major, 3) * 50 + min(minor, 49), minutes=min(patch, 1439))


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


@cache
def _layer() -> bytes:
    files: dict[str, tuple[bytes, int]] = {
        "bin/busybox": (static_busybox().read_bytes(), 0o755),
        "bin/web": (_ENTRY.encode(), 0o755),
        "bin/answer": (_ANSWER.encode(), 0o755),
        "etc/passwd": (b"root:x:0:0:root:/:/bin/sh\n", 0o644),
        "etc/group": (b"root:x:0:\n", 0o644),
    }
    return _tar(files, folders=("bin", "etc", "tmp"), links={f"bin/{applet}": "busybox" for applet in _APPLETS})


def _tar(
    files: Mapping[str, tuple[bytes, int]], folders: tuple[str, ...] = (), links: Mapping[str, str] | None = None
) -> bytes:
    """A tar whose bytes depend on nothing but its arguments."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
        for path, target in (links or {}).items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return out.getvalue()
