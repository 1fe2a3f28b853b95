"""An httpx transport that opens one fresh connection per request and cuts it afterwards.

httpx's own transport keeps a pool. A cancelled request can leave that pool full, and a kept connection goes on saying
200 after the server behind it was replaced. Here nothing outlives a request, so there is nothing to poison; and it
costs a third of the CPU (figures in ``docs``). HTTP/1.1 is spoken by h11, which httpx itself uses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import h11
import httpx

from guard.engines.wire import CHUNK, Wire

Dial = Callable[[httpx.URL], Awaitable[Wire]]
_HEADERS_LIMIT = 100 * 1024  # bytes of status line and headers before the server counts as broken


class BareTransport(httpx.AsyncBaseTransport):
    """``dial`` opens the stream for a request's URL. OSErrors of the network pass through untranslated.

    At most ``body_limit`` bytes of a body are read; the rest is cut off (``truncated`` in the answer's extensions says
    so afterwards, by its truth). httpx.RemoteProtocolError when the server does not speak HTTP/1.1 properly.
    """

    def __init__(self, dial: Dial, body_limit: int) -> None:
        self._dial = dial
        self._body_limit = body_limit

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        wire = await self._dial(request.url)
        try:
            body = _Body(wire, self._body_limit)
            event = await body.begin(request)
        except h11.RemoteProtocolError as error:
            wire.cut()
            raise httpx.RemoteProtocolError(str(error), request=request) from error
        except BaseException:
            wire.cut()
            raise
        return httpx.Response(
            event.status_code,
            headers=event.headers.raw_items(),
            stream=body,
            extensions={"http_version": b"HTTP/" + event.http_version, "truncated": body.truncated},
        )


class Truncated:
    """True once a body was cut off at the limit."""

    def __init__(self) -> None:
        self.happened = False

    def __bool__(self) -> bool:
        return self.happened


class _Body(httpx.AsyncByteStream):
    def __init__(self, wire: Wire, limit: int) -> None:
        self._wire = wire
        self._left = limit
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEADERS_LIMIT)
        self.truncated = Truncated()

    async def begin(self, request: httpx.Request) -> h11.Response:
        """Send the request; return the head of the final answer."""
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=_headers(request))
        self._send(head)
        async for part in _stream(request):
            self._send(h11.Data(data=part))
        self._send(h11.EndOfMessage())
        await self._wire.writer.drain()
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise h11.RemoteProtocolError("the server changed the protocol or closed before it answered")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                event = await self._next_event()
            except h11.RemoteProtocolError as error:
                raise httpx.RemoteProtocolError(str(error)) from error
            if not isinstance(event, h11.Data):
                return
            part = bytes(event.data)[: self._left]
            self._left -= len(part)
            yield part
            if len(part) < len(event.data):
                self.truncated.happened = True
                return

    async def aclose(self) -> None:
        self._wire.cut()

    def _send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        data = self._connection.send(event)
        if data:
            self._wire.writer.write(data)

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._connection.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value] # NEED_DATA was the other one
            self._connection.receive_data(await self._wire.reader.read(CHUNK))


def _headers(request: httpx.Request) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in request.headers.raw if name.lower() != b"connection"]
    return [*kept, (b"Connection", b"close")]


async def _stream(request: httpx.Request) -> AsyncIterator[bytes]:
    """The request's body; a body given as plain bytes is both kinds of stream, which httpx's types do not say."""
    if isinstance(request.stream, httpx.AsyncByteStream):
        async for part in request.stream:
            if part:
                yield part
