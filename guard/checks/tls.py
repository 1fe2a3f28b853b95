"""A TLS handshake: does the server prove who it is, and for how long will it still be able to?

The handshake is made in memory (``SSLContext.wrap_bio``) over a plain connection, so that connecting and shaking hands
are told apart, and what a server says that does not speak TLS can be shown.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from guard.checks.dial import Dial, address_at, unusable
from guard.checks.site import Site
from guard.checks.trust import system_trust, trust_in
from guard.checks.verdict import excerpt, unhealthy, unknown
from guard.config.address import Address, read_name
from guard.config.checks import TlsCheck
from guard.engines.resolve import Resolver, resolver
from guard.engines.wire import Wire
from guard.model import Measurement, State

DAY_S = 86400.0
_CHUNK = 16 * 1024
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG"})

Certificate = Mapping[str, object]


class TlsProbe:
    def __init__(
        self,
        address: Address,
        timeout_s: float,
        *,
        server_name: str = "",
        ca: Path | None = None,
        degraded_before_s: float = 14 * DAY_S,
        unhealthy_before_s: float = 0.0,
        names: Resolver = resolver,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._server_name = server_name or address.host
        self._ca = ca
        self._degraded_before_s = degraded_before_s
        self._unhealthy_before_s = unhealthy_before_s
        self._names = names
        self._wall_clock = wall_clock

    @classmethod
    def build(cls, check: TlsCheck, site: Site) -> TlsProbe:
        what = f"check {check.name}"
        address = address_at(site, check.address, what)
        name = ""
        if check.server_name is not None:
            try:
                name = read_name(check.server_name, lambda text: site.render(text, what))
            except ValueError as error:
                raise unusable(site, f"{what}: server_name", error) from error
        return cls(
            address,
            check.timeout,
            server_name=name,
            ca=check.ca,
            degraded_before_s=check.degraded_before,
            unhealthy_before_s=check.unhealthy_before,
        )

    async def measure(self) -> Measurement:
        try:
            context = system_trust() if self._ca is None else trust_in(self._ca)
        except OSError as error:  # ssl.SSLError is one: the file was replaced by something else
            return unknown(f"guard cannot read the certificates in {self._ca}: {error.strerror or error}")
        dial = Dial(self._address, self._timeout_s, self._names)

        async def shake_hands(wire: Wire) -> Measurement:
            dial.step = "shaking hands"
            handshake = _Handshake(context, self._server_name)
            try:
                problem = await handshake.run(wire)
            except ssl.SSLCertVerificationError as error:
                return unhealthy(f"the certificate of {dial.where} is not valid: {error.verify_message}")
            if problem:
                return unhealthy(f"{dial.where} {problem}", None, handshake.evidence)
            return self._judge(handshake.certificate, handshake.protocol)

        return await dial.measure(shake_hands)

    def _judge(self, certificate: Certificate, protocol: str) -> Measurement:
        ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        left_s = (ends - self._wall_clock()).total_seconds()
        evidence = {
            "subject": excerpt(_name(certificate.get("subject"))),
            "issuer": excerpt(_name(certificate.get("issuer"))),
            "not_after": ends.isoformat().replace("+00:00", "Z"),
            "days_left": f"{left_s / DAY_S:.1f}",
            "protocol": protocol,
        }
        told = f"the certificate of {self._address} expires in {_span(left_s)}"
        if left_s < self._unhealthy_before_s:
            return unhealthy(f"{told}, {_span(self._unhealthy_before_s)} are wanted", None, evidence)
        if left_s < self._degraded_before_s:
            return Measurement(State.DEGRADED, None, told, evidence)
        return Measurement(State.HEALTHY, None, told, evidence)


class _Handshake:
    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._from_server = ssl.MemoryBIO()
        self._to_server = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_server, self._to_server, server_hostname=server_name)
        self._first = b""

    async def run(self, wire: Wire) -> str:
        """What the server does wrong, "" when all is well; SSLCertVerificationError, or OSError of the connection."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush(wire)
            except ssl.SSLCertVerificationError:
                raise
            except ssl.SSLError as error:
                if error.reason in _NO_TLS:
                    return "does not speak TLS"
                return f"refuses the TLS handshake: {error.reason or error}"
            else:
                await self._flush(wire)  # the last word is ours, and without it the server logs an error
                return ""
            part = await wire.reader.read(_CHUNK)
            if not part:
                return "closed the connection during the TLS handshake"
            self._first = self._first or part
            self._from_server.write(part)

    async def _flush(self, wire: Wire) -> None:
        if data := self._to_server.read():
            wire.writer.write(data)
            await wire.writer.drain()

    @property
    def certificate(self) -> Certificate:
        return cast(Certificate, self._tls.getpeercert() or {})

    @property
    def protocol(self) -> str:
        return self._tls.version() or ""

    @property
    def evidence(self) -> dict[str, str]:
        shown = excerpt(self._first.decode("ascii", errors="replace"))
        return {"first_bytes": shown} if self._first and self._first.isascii() else {}


def _name(distinguished: object) -> str:
    """``commonName=web, organizationName=…`` of Python's nested tuples."""
    pairs = (pair for part in distinguished for pair in part) if isinstance(distinguished, tuple) else ()
    return ", ".join(f"{key}={value}" for key, value in pairs)


def _span(seconds: float) -> str:
    return f"{seconds / DAY_S:.1f} days" if seconds >= DAY_S else f"{seconds / 3600:.1f} hours"
