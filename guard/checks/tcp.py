"""A TCP connection and, if asked for, what the server says first."""

from __future__ import annotations

import asyncio
import re

from guard.checks.dial import Dial, address_at
from guard.checks.site import Site
from guard.checks.verdict import excerpt, unhealthy
from guard.config.address import Address
from guard.config.checks import TcpCheck
from guard.engines.resolve import Resolver, resolver
from guard.engines.wire import Wire
from guard.model import Measurement, State

BANNER_LIMIT = 64 * 1024
_PAUSE_S = 0.01  # between two looks at an incomplete banner: one that comes byte by byte must not cost a look per byte


class TcpProbe:
    def __init__(
        self,
        address: Address,
        timeout_s: float,
        *,
        send: str = "",
        expect: str | None = None,
        names: Resolver = resolver,
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._send = send.encode()
        self._expect = expect
        self._names = names

    @classmethod
    def build(cls, check: TcpCheck, site: Site) -> TcpProbe:
        address = address_at(site, check.address, f"check {check.name}")
        return cls(address, check.timeout, send=check.send, expect=check.expect)

    async def measure(self) -> Measurement:
        dial = Dial(self._address, self._timeout_s, self._names)
        if self._expect is None:
            return await dial.measure(self._connected)
        return await _Banner(dial, self._send, self._expect).measure()

    async def _connected(self, wire: Wire) -> Measurement:  # noqa: ARG002 # that there is one is all there is to know
        return Measurement(State.HEALTHY, None, f"{self._address} accepts connections")


class _Banner:
    """What a server has said so far, and whether the expected text is in it."""

    def __init__(self, dial: Dial, send: bytes, expect: str) -> None:
        self._dial = dial
        self._send = send
        self._expect = re.compile(expect)
        self._said = b""

    async def measure(self) -> Measurement:
        measured = await self._dial.measure(self._listen)
        evidence = {"banner": excerpt(self._text)} if self._said else {}
        return Measurement(measured.state, measured.latency_s, measured.reason, {**measured.evidence, **evidence})

    async def _listen(self, wire: Wire) -> Measurement:
        self._dial.step = "sending"
        wire.writer.write(self._send)
        await wire.writer.drain()
        self._dial.step = "waiting for the banner"
        while len(self._said) < BANNER_LIMIT:
            part = await wire.reader.read(BANNER_LIMIT - len(self._said))
            if not part:
                return self._ended()
            self._said += part
            self._dial.step = f"what it said does not match {self._expect.pattern!r}"
            if self._expect.search(self._text):
                return Measurement(State.HEALTHY, None, f"{self._dial.where} says what is expected")
            await asyncio.sleep(_PAUSE_S)
        limit = f"the first {BANNER_LIMIT >> 10} KiB"
        return unhealthy(f"{limit} that {self._dial.where} says do not match {self._expect.pattern!r}")

    def _ended(self) -> Measurement:
        if not self._said:
            return unhealthy(f"{self._dial.where} closed the connection and said nothing")
        return unhealthy(f"what {self._dial.where} says does not match {self._expect.pattern!r}")

    @property
    def _text(self) -> str:
        return self._said.decode(errors="replace")
