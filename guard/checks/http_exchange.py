"""One HTTP/1.1 exchange over a socket of its own: connect, ask, read the answer, cut.

Made for many checks: no stream, transport or client object stands between the socket and the parser (httptools, the C
parser of Node.js), which costs a fifth of the CPU of h11 behind httpx's interface (``docs/benchmarks.md``). Nothing
outlives an exchange, so there is nothing to poison, and cancelling it closes the socket at once. The deadline is the
caller's. Memory: one chunk, the head and BODY_LIMIT, whatever the server sends.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence

import httptools

from guard.checks.http_answer import BODY_LIMIT, Answer

_CHUNK = 64 * 1024
_HEADERS_LIMIT = 100 * 1024  # bytes without any of a body (head, informational answers, trailers) before it is broken
_FIRST_TRY_S = 1.0  # for one of several addresses, so that a silent first one does not eat the time of the second


class BadAnswerError(Exception):
    """The server does not speak HTTP/1.1 properly."""


def request_bytes(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes | None) -> bytes:
    """The whole request; it says that the connection ends with it. ValueError when a header is more than one line."""
    lines = [method.encode("ascii") + b" " + target + b" HTTP/1.1"]
    for name, value in headers:
        if any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in name + value):
            raise ValueError(f"header {name.decode('ascii', 'replace')} holds a control character")
        if name.lower() not in (b"connection", b"content-length", b"transfer-encoding"):
            lines.append(name + b": " + value)
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"Connection: close", b"", body or b""])


async def connect(addresses: Sequence[str], port: int) -> socket.socket:
    """Connected to the first of ``addresses`` (IP literals) that answers.

    OSError of the most telling attempt: what a server did (refused, reset) says more than what this machine could not
    do (no route for one address family).
    """
    failures: list[OSError] = []
    for index, address in enumerate(addresses):
        try:
            if index == len(addresses) - 1:
                return await _connect(address, port)
            async with asyncio.timeout(_FIRST_TRY_S):
                return await _connect(address, port)
        except OSError as error:  # TimeoutError is one
            failures.append(error)
    if not failures:
        raise OSError("no address to connect to")
    raise next((error for error in failures if isinstance(error, ConnectionError)), failures[-1])


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        place: tuple[str, int] | tuple[str, int, int, int] = (address, port)
        if "%" in address:  # a link-local address with its interface
            bare, _, interface = address.partition("%")
            place = (bare, port, 0, int(interface) if interface.isdecimal() else socket.if_nametoindex(interface))
        problem = found.connect_ex(place)
        if problem == errno.EINPROGRESS:
            await _ready(found, write=True)
            problem = found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem))  # the subclass for its number: ConnectionRefusedError …
    except BaseException:
        found.close()
        raise
    return found


async def start_tls(plain: socket.socket, context: ssl.SSLContext, server_name: str) -> ssl.SSLSocket:
    """``plain`` is given away: it is closed when the handshake fails. ssl.SSLError, OSError."""
    try:
        secure = context.wrap_socket(plain, server_hostname=server_name, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    try:
        while True:
            try:
                secure.do_handshake()
            except ssl.SSLWantReadError:
                await _ready(secure, write=False)
            except ssl.SSLWantWriteError:
                await _ready(secure, write=True)
            else:
                return secure
    except BaseException:
        secure.close()
        raise


async def ask(wire: socket.socket, request: bytes, *, head_only: bool) -> Answer:
    """Send the request and read the final answer; the socket stays the caller's. BadAnswerError, OSError."""
    await _send(wire, request)
    reading = _Reading(head_only)
    parser = httptools.HttpResponseParser(reading)
    # What a proxy must refuse, lest two parsers see different messages, a single asker can read: bare line feeds, and
    # a length beside chunks.
    parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_chunked_length=True)
    reading.status_code = parser.get_status_code
    try:
        if not isinstance(wire, ssl.SSLSocket):
            await _ready(wire, write=False)
        while True:
            data = await _receive(wire)
            if not data:
                return reading.at_the_end()
            before = reading.body_bytes
            try:
                parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                pass  # 101: the reading knows
            except httptools.HttpParserError as error:
                if not reading.done:
                    raise BadAnswerError(str(error)) from error
            if reading.done:
                return reading.answer()
            reading.without_body = 0 if reading.body_bytes > before else reading.without_body + len(data)
            if reading.without_body > _HEADERS_LIMIT:
                raise BadAnswerError(f"more than {_HEADERS_LIMIT >> 10} KiB of headers")
    finally:
        reading.status_code = None  # it holds the parser, which holds the reading


class _Reading:
    """What the parser tells. Informational answers are passed over."""

    __slots__ = (
        "_answered",
        "_head_only",
        "_headers",
        "_parts",
        "_status",
        "_truncated",
        "body_bytes",
        "done",
        "status_code",
        "without_body",
    )

    def __init__(self, head_only: bool) -> None:
        self.done = False
        self.body_bytes = 0
        self.without_body = 0
        self.status_code: Callable[[], int] | None = None
        self._head_only = head_only
        self._status = 0
        self._answered = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._truncated = False

    def on_message_begin(self) -> None:
        if not self._answered:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._answered:  # else it is a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._answered or self.status_code is None:
            return
        self._status = self.status_code()
        self._answered = self._status >= 200
        self.done = self._status == 101 or (self._answered and self._head_only)

    def on_body(self, data: bytes) -> None:
        if self.done:
            return
        part = data[: BODY_LIMIT - self.body_bytes]
        self._parts.append(part)
        self.body_bytes += len(part)
        if len(part) < len(data):
            self._truncated = self.done = True

    def on_message_complete(self) -> None:
        self.done = self.done or self._answered

    def answer(self) -> Answer:
        if not self._answered:
            raise BadAnswerError("the server changed the protocol")
        return Answer(self._status, tuple(self._headers), b"".join(self._parts), self._truncated)

    def at_the_end(self) -> Answer:
        """The server closed. Only a body without a length ends like that."""
        if not self._answered:
            raise BadAnswerError("the server closed the connection before it answered")
        known = {name.lower(): value.lower() for name, value in self._headers}
        if b"content-length" in known or known.get(b"transfer-encoding", b"").rstrip().endswith(b"chunked"):
            raise BadAnswerError("the server closed the connection before its answer was whole")
        return self.answer()


async def _send(wire: socket.socket, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[wire.send(left) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            await _ready(wire, write=True)
        except ssl.SSLWantReadError:
            await _ready(wire, write=False)


async def _receive(wire: socket.socket) -> bytes:
    while True:
        try:
            return wire.recv(_CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            await _ready(wire, write=False)
        except ssl.SSLWantWriteError:
            await _ready(wire, write=True)


async def _ready(wire: socket.socket, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    number = wire.fileno()  # by its number: asyncio asks a socket object for its addresses, and throws them away
    add(number, _wake, woken)
    try:
        await woken
    finally:
        remove(number)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
