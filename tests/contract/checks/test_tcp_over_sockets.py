"""The tcp check against real sockets, with servers that misbehave."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from pathlib import Path

import pytest

from guard.checks.site import Site
from guard.checks.tcp import BANNER_LIMIT, TcpProbe
from guard.config.address import Address
from guard.config.checks import TcpCheck
from guard.engines.resolve import Resolver
from guard.errors import ConfigError
from guard.model import Host, Measurement, State
from tests.contract.checks.hostile_servers import Handler, black_hole, hang_up, serving
from tests.fakes import FakeEngines

TIMEOUT_S = 0.5
MARGIN_S = 0.5


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def measure(handler: Handler, *, send: str = "", expect: str | None = None) -> Measurement:
    """One measurement, which must end in time whatever the server does, and leave nothing open."""

    async def main() -> tuple[Measurement, float]:
        async with serving(handler) as port:
            probe = TcpProbe(Address("127.0.0.1", port), TIMEOUT_S, send=send, expect=expect)
            began = time.monotonic()
            measured = await probe.measure()
            return measured, time.monotonic() - began

    before = open_descriptors()
    measured, took = asyncio.run(main())
    assert took < TIMEOUT_S + MARGIN_S
    assert open_descriptors() <= before
    return measured


def saying(*parts: bytes, every_s: float = 0.0, for_ever: bool = False, hold: bool = False) -> Handler:
    """Says the parts without being asked, the last one again and again if ``for_ever``; ``hold`` keeps the line open."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(every_s)
        while for_ever:
            writer.write(parts[-1])
            await writer.drain()
            await asyncio.sleep(every_s)
        if hold:
            await asyncio.Event().wait()
        writer.close()

    return handle


async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert await reader.readline() == b"PING\r\n"
    writer.write(b"+PONG\r\n")
    await black_hole(reader, writer)


def test_a_server_that_accepts_is_healthy_even_when_it_says_nothing() -> None:
    assert measure(black_hole).state is State.HEALTHY


@pytest.mark.parametrize(
    "handler",
    [
        saying(b"220 mail ESMTP\r\n", hold=True),
        saying(b"220 mail ESMTP\r\n"),
        saying(b"2", b"20 ma", b"il ESMTP", every_s=0.02, hold=True),
        saying(b"\xff\xfe\x00 220 mail", b" ESMTP" + bytes(100), hold=True),
    ],
)
def test_a_server_that_says_what_is_expected_is_healthy(handler: Handler) -> None:
    measured = measure(handler, expect="220 .*ESMTP")
    assert measured.state is State.HEALTHY, measured
    assert "220 mail ESMTP" in measured.evidence["banner"]
    assert measured.latency_s is not None and measured.latency_s < TIMEOUT_S


def test_a_server_is_asked_before_it_has_to_answer() -> None:
    assert measure(redis, send="PING\r\n", expect=r"^\+PONG").state is State.HEALTHY


HOSTILE: dict[str, tuple[Handler, str]] = {
    "black hole": (black_hole, "(waiting for the banner)"),
    "reset": (hang_up, "at 127.0.0.1:"),
    "says nothing and hangs up": (saying(), "said nothing"),
    "says something else": (saying(b"SSH-2.0-OpenSSH_9.2\r\n", hold=True), "(what it said does not match '^220')"),
    "says something else and hangs up": (saying(b"SSH-2.0\r\n"), "does not match '^220'"),
    "drips for ever": (saying(b"y", every_s=0.02, for_ever=True), "time-out"),
    "never stops": (saying(b"y" * 65536, for_ever=True), f"the first {BANNER_LIMIT >> 10} KiB"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_check_ends_in_time_with_a_reason_whatever_the_server_does(name: str) -> None:
    handler, reason = HOSTILE[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured = measure(handler, expect="^220")
    assert measured.state is State.UNHEALTHY, measured
    assert reason in measured.reason or (name == "reset" and "closed the connection" in measured.reason), measured
    assert len(measured.evidence.get("banner", "")) < 300
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024, "KiB"


def test_a_port_that_nobody_listens_on_is_unhealthy() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        measured = asyncio.run(TcpProbe(Address("127.0.0.1", port), TIMEOUT_S).measure())
    assert (measured.state, measured.reason) == (State.UNHEALTHY, f"connection refused at 127.0.0.1:{port}")


def test_a_server_that_accepts_no_more_is_unhealthy_and_the_step_is_named() -> None:
    """Half-open: the kernel's queue of the listener is full, so nobody answers the first packet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            began = time.monotonic()
            measured = asyncio.run(TcpProbe(Address(*address), TIMEOUT_S).measure())
            assert time.monotonic() - began < TIMEOUT_S + MARGIN_S
    assert measured.state is State.UNHEALTHY
    assert measured.reason.endswith("took longer than 0.5 s (connecting)")


def test_a_name_that_does_not_resolve_in_time_is_guards_own_problem() -> None:
    def never(host: str) -> tuple[str, ...]:
        time.sleep(TIMEOUT_S * 2)
        return ("127.0.0.1",)

    probe = TcpProbe(Address("db.example.org", 1), TIMEOUT_S, names=Resolver(never))
    measured = asyncio.run(probe.measure())
    assert measured.state is State.UNKNOWN
    assert measured.reason == "time-out: db.example.org:1 took longer than 0.5 s (resolving the name)"


def test_the_address_comes_from_the_host_and_is_never_anything_else() -> None:
    check = TcpCheck(name="db", address="{{ ansible_host }}:{{ port }}")
    probe = TcpProbe.build(check, Site(Host("db1", {"ansible_host": "::1", "port": 5432}), FakeEngines(), None))
    assert probe._address == Address("::1", 5432)
    with pytest.raises(ConfigError, match=r"check db on host db1: .*'-x' is no host name"):
        TcpProbe.build(check, Site(Host("db1", {"ansible_host": "-x", "port": 5432}), FakeEngines(), None))
