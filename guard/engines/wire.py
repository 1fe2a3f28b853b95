"""One byte stream to somewhere, opened for one request and cut afterwards. Nothing is kept, pooled or shared."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

CHUNK = 64 * 1024


class Output(Protocol):
    """The writing half of a stream, as asyncio has it for sockets and for pipes of a process."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Wire:
    """``cut`` drops the stream at once: no goodbye is said, so none can be waited for."""

    reader: asyncio.StreamReader
    writer: Output
    cut: Callable[[], None]


async def dial_unix(path: str) -> Wire:
    """OSError when nothing listens there."""
    reader, writer = await asyncio.open_unix_connection(path)
    return Wire(reader, writer, writer.transport.abort)


async def dial_tcp(
    addresses: Sequence[str], port: int, *, tls: ssl.SSLContext | None = None, server_name: str | None = None
) -> Wire:
    """Connect to the first of ``addresses`` (IP literals) that answers, each given its share of the caller's deadline.

    OSError of the most telling attempt: what a server did (refused, reset) says more than what this machine could not
    do (no route for one address family).
    """
    failures: list[OSError] = []
    for index, address in enumerate(addresses):
        try:
            async with asyncio.timeout(_share(len(addresses) - index)):
                reader, writer = await asyncio.open_connection(
                    address, port, ssl=tls, server_hostname=server_name if tls else None
                )
            return Wire(reader, writer, writer.transport.abort)
        except OSError as error:  # TimeoutError is one; so are the errors of a TLS handshake
            failures.append(error)
    if not failures:
        raise OSError("no address to connect to")
    raise next((error for error in failures if isinstance(error, ConnectionError | ssl.SSLError)), failures[-1])


def _share(attempts_left: int) -> float | None:
    """Seconds for one attempt so that a silent first address does not eat the time of the second."""
    return None if attempts_left == 1 else 1.0


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP literal, which needs no name resolution."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
