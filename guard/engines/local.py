"""The way to an engine on this machine, or wherever ``DOCKER_HOST`` says: a unix socket or plain TCP."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from guard.engines.docker_api import Symptom
from guard.engines.resolve import Resolver
from guard.engines.wire import Wire, dial_tcp, dial_unix
from guard.errors import EngineDown, EngineError, EngineUnreachable
from guard.model import HostMeans

DEFAULT_SOCKET = "/var/run/docker.sock"

# What only guard's own side can be the cause of; everything else is the engine's end.
OWN_ERRNOS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EACCES,
        errno.EPERM,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
    }
)


@dataclass(frozen=True, slots=True)
class UnixWay:
    path: str

    @property
    def where(self) -> str:
        return f"the local engine ({self.path})"

    async def dial(self) -> Wire:
        try:
            return await dial_unix(self.path)
        except OSError as error:
            raise _translated(self.where, error) from error

    async def diagnose(self, symptom: Symptom) -> EngineError:
        return EngineDown(f"{self.where} does not answer: {symptom}")

    async def means(self, folder: str) -> HostMeans:
        try:
            return HostMeans(free_bytes=shutil.disk_usage(folder).free)
        except OSError:
            return HostMeans()


@dataclass(frozen=True, slots=True)
class TcpWay:
    host: str
    port: int
    resolver: Resolver

    @property
    def where(self) -> str:
        return f"the engine at {self.host}:{self.port}"

    async def dial(self) -> Wire:
        try:
            addresses = await self.resolver.resolve(self.host)
        except OSError as error:
            raise EngineUnreachable(f"{self.where}: the name could not be resolved: {error}") from error
        try:
            return await dial_tcp(addresses, self.port)
        except OSError as error:
            raise _translated(self.where, error) from error

    async def diagnose(self, symptom: Symptom) -> EngineError:
        return EngineDown(f"{self.where} does not answer: {symptom}")

    async def means(self, folder: str) -> HostMeans:  # noqa: ARG002 # an API has no words for it
        return HostMeans()


def _translated(where: str, error: OSError) -> EngineError:
    problem = os.strerror(error.errno) if error.errno else str(error)
    if isinstance(error, PermissionError):
        hint = "Run guard as a user who may use the engine: usually a member of the group docker."
        return EngineUnreachable(f"{where} refuses guard: {problem}", hint=hint)
    if error.errno in OWN_ERRNOS:
        return EngineUnreachable(f"{where} could not be reached: {problem}")
    return EngineDown(f"nothing answers at {where}: {problem}")


def way_to(address: str, resolver: Resolver) -> UnixWay | TcpWay:
    """The way to ``unix:///path`` or ``tcp://host:port``. EngineUnreachable for what guard cannot speak to."""
    parts = urlsplit(address)
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return UnixWay(parts.path)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme == "tcp" and host:
        return TcpWay(host, port or 2375, resolver)
    raise EngineUnreachable(
        f"guard cannot speak to an engine at {address!r}",
        hint="Give unix:///path or tcp://host:port; for other machines, put them into the inventory.",
    )


def local_address(environ: Mapping[str, str]) -> str:
    """``DOCKER_HOST``, or the usual socket. EngineUnreachable when TLS is asked for, which guard does not speak."""
    if environ.get("DOCKER_TLS_VERIFY") and environ.get("DOCKER_HOST", "").startswith("tcp://"):
        raise EngineUnreachable(
            "DOCKER_TLS_VERIFY is set, and guard does not speak TLS to an engine",
            hint="Put the machine into the inventory: guard reaches its engine over SSH.",
        )
    return environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"
