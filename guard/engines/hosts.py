"""Engines by host: the local one, and one kept SSH connection per inventory host."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from guard.engines.docker_api import DockerEngine
from guard.engines.local import DEFAULT_SOCKET, local_address, way_to
from guard.engines.resolve import resolver
from guard.engines.ssh import SshWay
from guard.engines.ssh_command import Login, connection, engine_address, login
from guard.errors import EngineUnreachable
from guard.model import Host
from guard.ports import Engine

# A unix socket's path has at most 107 bytes, and ssh appends 17 to its control socket's while it makes it.
_LONGEST_FOLDER = 70


class HostEngines:
    """Implements ``guard.ports.Engines``. Use it from one event loop, and ``close`` it there."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ: Mapping[str, str] = os.environ if environ is None else environ
        self._folder: Path | None = None
        self._ways: dict[tuple[Login, str], SshWay] = {}

    def on(self, host: Host | None) -> Engine:
        """EngineUnreachable when the host's variables describe no way that guard can go."""
        if host is None:
            return DockerEngine(way_to(local_address(self._environ), resolver))
        if connection(host) == "local":
            return DockerEngine(way_to(engine_address(host) or local_address(self._environ), resolver))
        return DockerEngine(self._way(login(host), _remote_socket(host)))

    def _way(self, how: Login, remote_socket: str) -> SshWay:
        way = self._ways.get((how, remote_socket))
        if way is None:
            way = SshWay(how, remote_socket, self._sockets(), len(self._ways) + 1)
            self._ways[how, remote_socket] = way
        return way

    def _sockets(self) -> Path:
        if self._folder is None:
            base = self._environ.get("XDG_RUNTIME_DIR", "")
            usable = base and len(base) < _LONGEST_FOLDER and os.access(base, os.W_OK | os.X_OK)
            self._folder = Path(tempfile.mkdtemp(prefix="guard-", dir=base if usable else "/tmp"))  # noqa: S108 # 0700
        return self._folder

    async def close(self) -> None:
        ways, self._ways = list(self._ways.values()), {}
        await asyncio.gather(*(way.close() for way in ways))
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _remote_socket(host: Host) -> str:
    address = engine_address(host) or f"unix://{DEFAULT_SOCKET}"
    parts = urlsplit(address)
    if parts.scheme != "unix" or parts.netloc or not parts.path.startswith("/") or ":" in parts.path:
        raise EngineUnreachable(
            f"{host.name}: guard cannot reach an engine at guard_docker_host={address!r} over SSH",
            hint="Give the engine's socket on that host: unix:///path, without a colon in it.",
        )
    return parts.path
