"""The tls check against real servers with good and bad certificates, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import datetime
import resource
import socket
import ssl
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard.checks.site import Site
from guard.checks.tls import TlsProbe
from guard.config.address import Address
from guard.config.checks import TlsCheck
from guard.errors import ConfigError
from guard.model import Host, Measurement, State
from tests.contract.checks import hostile_servers as servers
from tests.contract.checks.certificates import DAY, Authority
from tests.fakes import FakeEngines

TIMEOUT_S = 0.5
MARGIN_S = 0.5
NAME = "shop.example.org"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def ca(authority: Authority, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.pem)
    return file


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def measure(
    handler: servers.Handler, ca: Path | None, tls: ssl.SSLContext | None = None, **settings: Any
) -> Measurement:
    """One measurement, which must end in time whatever the server does, and leave nothing open."""

    async def main() -> tuple[Measurement, float]:
        async with servers.serving(handler, tls) as port:
            probe = TlsProbe(Address("127.0.0.1", port), TIMEOUT_S, **{"server_name": NAME, "ca": ca} | settings)
            began = time.monotonic()
            measured = await probe.measure()
            return measured, time.monotonic() - began

    before = open_descriptors()
    measured, took = asyncio.run(main())
    assert took < TIMEOUT_S + MARGIN_S
    assert open_descriptors() <= before
    return measured


def test_a_good_certificate_is_healthy_and_says_for_how_long(authority: Authority, ca: Path, tmp_path: Path) -> None:
    measured = measure(servers.black_hole, ca, authority.server(tmp_path))
    assert measured.state is State.HEALTHY, measured
    assert "expires in 90.0 days" in measured.reason
    assert measured.latency_s is not None
    assert measured.evidence["subject"] == f"commonName={NAME}"
    assert measured.evidence["issuer"] == "commonName=Test Authority"
    assert measured.evidence["protocol"] == "TLSv1.3"
    assert measured.evidence["days_left"] == "90.0"
    ends = datetime.datetime.fromisoformat(measured.evidence["not_after"].replace("Z", "+00:00"))
    assert abs(ends - datetime.datetime.now(datetime.UTC) - 90 * DAY) < datetime.timedelta(minutes=5)


SpansOf = tuple[datetime.timedelta, dict[str, float], State]
SPANS: dict[str, SpansOf] = {
    "soon": (13 * DAY, {}, State.DEGRADED),
    "not so soon": (15 * DAY, {}, State.HEALTHY),
    "within hours": (datetime.timedelta(hours=5), {}, State.DEGRADED),
    "sooner than wanted": (13 * DAY, {"unhealthy_before_s": 14 * 86400.0}, State.UNHEALTHY),
    "short-lived on purpose": (5 * DAY, {"degraded_before_s": 86400.0}, State.HEALTHY),
}


@pytest.mark.parametrize("name", SPANS)
def test_the_time_left_decides(authority: Authority, ca: Path, tmp_path: Path, name: str) -> None:
    left, settings, state = SPANS[name]
    measured = measure(servers.black_hole, ca, authority.server(tmp_path, left=left), **settings)
    assert measured.state is state, measured
    assert "expires in" in measured.reason and "not_after" in measured.evidence


BAD: dict[str, tuple[Callable[[Authority, Path], ssl.SSLContext], str]] = {
    "expired": (lambda own, folder: own.server(folder, left=-DAY), "certificate has expired"),
    "wrong name": (lambda own, folder: own.server(folder, "other.example.org"), f"not valid for '{NAME}'"),
    "unknown authority": (lambda _, folder: Authority("Nobody").server(folder), "unable to get local issuer"),
    "self-signed": (lambda _, folder: servers.self_signed(folder, NAME), "self-signed certificate"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_certificate_that_proves_nothing_is_unhealthy(
    authority: Authority, ca: Path, tmp_path: Path, name: str
) -> None:
    context, reason = BAD[name]
    measured = measure(servers.black_hole, ca, context(authority, tmp_path))
    assert measured.state is State.UNHEALTHY
    assert "the certificate of 127.0.0.1:" in measured.reason and reason in measured.reason


def test_without_a_ca_of_ones_own_the_systems_decide(authority: Authority, tmp_path: Path) -> None:
    measured = measure(servers.black_hole, None, authority.server(tmp_path))
    assert measured.state is State.UNHEALTHY and "unable to get local issuer" in measured.reason


def test_a_self_signed_certificate_is_trusted_when_it_is_given_as_the_ca(tmp_path: Path) -> None:
    context = servers.self_signed(tmp_path, NAME)
    measured = measure(servers.black_hole, tmp_path / "server.pem", context, degraded_before_s=0.0)
    assert measured.state is State.HEALTHY, measured


def test_a_server_is_asked_for_the_name_that_is_looked_for(authority: Authority, ca: Path, tmp_path: Path) -> None:
    context = authority.server(tmp_path)
    asked: list[str | None] = []
    context.sni_callback = lambda *call: asked.append(call[1])
    measure(servers.black_hole, ca, context)
    assert asked == [NAME]


def test_tls_1_2_is_good_enough_and_older_is_not(authority: Authority, ca: Path, tmp_path: Path) -> None:
    measured = measure(servers.black_hole, ca, authority.server(tmp_path, highest=ssl.TLSVersion.TLSv1_2))
    assert (measured.state, measured.evidence["protocol"]) == (State.HEALTHY, "TLSv1.2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = authority.server(tmp_path, lowest=ssl.TLSVersion.TLSv1, highest=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    measured = measure(servers.black_hole, ca, old)
    assert measured.state is State.UNHEALTHY and "the TLS handshake" in measured.reason


def plain(*parts: bytes, every_s: float = 0.0, for_ever: bool = False) -> servers.Handler:
    """Says this instead of shaking hands."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        while for_ever:
            writer.write(parts[-1])
            await writer.drain()
            await asyncio.sleep(every_s)
        await reader.read(65536)
        writer.close()

    return handle


HANDSHAKE_THAT_NEVER_ENDS = b"\x16\x03\x03\x40\x00" + b"\x00" * 16384  # whole records of nothing

HOSTILE: dict[str, tuple[servers.Handler, str]] = {
    "black hole": (servers.black_hole, "(shaking hands)"),
    "reset": (servers.hang_up, "127.0.0.1:"),
    "hangs up": (plain(), "closed the connection during the TLS handshake"),
    "speaks without TLS": (plain(b"220 mail ESMTP\r\n"), "does not speak TLS"),
    "answers the handshake with HTTP": (plain(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "does not speak TLS"),
    "drips one record for ever": (plain(b"\x16\x03\x03\x40\x00", b"\x00", every_s=0.02, for_ever=True), "time-out"),
    "never stops": (plain(HANDSHAKE_THAT_NEVER_ENDS, for_ever=True), ""),
    "refuses with an alert": (plain(b"\x15\x03\x03\x00\x02\x02\x28"), "refuses the TLS handshake"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_check_ends_in_time_with_a_reason_whatever_the_server_does(ca: Path, name: str) -> None:
    handler, reason = HOSTILE[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured = measure(handler, ca)
    assert measured.state is State.UNHEALTHY, measured
    assert reason in measured.reason, measured
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024, "KiB"


def test_what_a_server_without_tls_says_is_shown(ca: Path) -> None:
    assert measure(plain(b"220 mail ESMTP\r\n"), ca).evidence == {"first_bytes": "220 mail ESMTP"}


def test_a_port_that_nobody_listens_on_is_unhealthy(ca: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Address(*free.getsockname())
        measured = asyncio.run(TlsProbe(address, TIMEOUT_S, ca=ca).measure())
    assert (measured.state, measured.reason) == (State.UNHEALTHY, f"connection refused at {address}")


def test_a_ca_file_that_went_away_is_guards_own_problem_until_it_is_back(
    authority: Authority, ca: Path, tmp_path: Path
) -> None:
    context = authority.server(tmp_path)
    ca.unlink()
    assert measure(servers.black_hole, ca, context).state is State.UNKNOWN
    ca.write_text("no certificate")
    assert measure(servers.black_hole, ca, context).state is State.UNKNOWN
    ca.write_bytes(authority.pem)
    assert measure(servers.black_hole, ca, context).state is State.HEALTHY


def test_the_name_comes_from_the_host_and_defaults_to_the_address(ca: Path) -> None:
    site = Site(Host("web1", {"ansible_host": "10.0.0.1", "fqdn": NAME, "bad": ".x"}), FakeEngines(), None)
    check = TlsCheck(name="t", address="{{ ansible_host }}:443", server_name="{{ fqdn }}", ca=ca)
    assert TlsProbe.build(check, site)._server_name == NAME
    plain_check = TlsCheck(name="t", address="{{ ansible_host }}:443")
    assert TlsProbe.build(plain_check, site)._server_name == "10.0.0.1"
    with pytest.raises(ConfigError, match=r"check t: server_name on host web1: expected a host name"):
        TlsProbe.build(check.model_copy(update={"server_name": "{{ bad }}"}), site)
