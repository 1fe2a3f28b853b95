"""The http check against real sockets, with servers that misbehave in every way we know of."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard.checks.http import HttpProbe
from guard.checks.http_answer import BODY_LIMIT
from guard.checks.http_tls import SYSTEM, Tls
from guard.config.schema import HttpExpect
from guard.engines.resolve import Resolver
from guard.model import Measurement, State
from tests.contract.checks import hostile_servers as servers
from tests.contract.checks.hostile_servers import answering, ok, serving

TIMEOUT_S = 0.5
MARGIN_S = 0.5


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def measure(
    handler: servers.Handler,
    expect: HttpExpect | None = None,
    *,
    url: str = "http://127.0.0.1:{port}/healthz",
    tls: ssl.SSLContext | None = None,
    trust: Tls = SYSTEM,
    **settings: Any,
) -> Measurement:
    """One measurement, which must end in time whatever the server does, and leave nothing open."""

    async def main() -> tuple[Measurement, float]:
        async with serving(handler, tls) as port:
            probe = HttpProbe(url.format(port=port), TIMEOUT_S, expect, tls=trust, **settings)
            began = time.monotonic()
            measured = await probe.measure()
            return measured, time.monotonic() - began

    before = open_descriptors()
    measured, took = asyncio.run(main())
    assert took < TIMEOUT_S + MARGIN_S
    assert open_descriptors() <= before
    return measured


ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"

HOSTILE: dict[str, tuple[servers.Handler, State, str]] = {
    "black hole": (servers.black_hole, State.UNHEALTHY, "(waiting for the answer)"),
    "reset": (servers.hang_up, State.UNHEALTHY, ""),
    "closes without an answer": (answering(), State.UNHEALTHY, "no proper HTTP answer"),
    "drips its headers": (
        answering(b"HTTP/1.1 200 OK\r\nX: ", b"y", every_s=0.05, for_ever=True),
        State.UNHEALTHY,
        "time-out",
    ),
    "drips its body": (answering(ENDLESS, b"y", every_s=0.05, for_ever=True), State.UNHEALTHY, "time-out"),
    "promises more than it sends": (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
        State.UNHEALTHY,
        "no proper HTTP answer",
    ),
    "endless body": (answering(ENDLESS, b"y" * 65536, for_ever=True), State.HEALTHY, "status 200"),
    "endless headers": (
        answering(b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n" * 1000, for_ever=True),
        State.UNHEALTHY,
        "no proper HTTP answer",
    ),
    "10,000 headers": (
        answering(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: some value\r\n" % n for n in range(10_000)) + b"\r\n"),
        State.UNHEALTHY,
        "no proper HTTP answer",
    ),
    "speaks something else": (answering(b"SSH-2.0-OpenSSH_9.2\r\n"), State.UNHEALTHY, "no proper HTTP answer"),
    "endless informational answers": (
        answering(b"HTTP/1.1 103 Early Hints\r\n\r\n", every_s=0.01, for_ever=True),
        State.UNHEALTHY,
        "time-out",
    ),
    "switches the protocol": (
        answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        State.UNHEALTHY,
        "no proper HTTP answer",
    ),
    "wrong status": (answering(ok(b"no", status=b"500 Oops")), State.UNHEALTHY, "status 500, expected 200-299"),
    "a redirect that nobody asked for": (
        answering(ok(b"", b"Location: /x", status=b"302 Found")),
        State.UNHEALTHY,
        "status 302, expected 200-299",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_check_ends_in_time_with_a_reason_whatever_the_server_does(name: str) -> None:
    handler, state, reason = HOSTILE[name]
    measured = measure(handler)
    assert measured.state is state, measured
    assert reason in measured.reason


def test_a_redirect_loop_ends_after_a_few_hops() -> None:
    measured = measure(answering(ok(b"", b"Location: /again", status=b"302 Found")), follow_redirects=True)
    assert (measured.state, measured.reason) == (State.UNHEALTHY, "more than 5 redirects")


def test_the_body_of_a_redirect_is_neither_decoded_nor_read_to_its_end() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Encoding: gzip\r\n\r\n"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb = servers.gzip_bomb()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured = measure(answering(head, bomb), follow_redirects=True)
    assert measured.state is State.UNHEALTHY
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024, "KiB; the bomb is 100 MiB"


def test_a_redirect_is_followed_when_asked_for_and_never_carries_credentials_to_another_server() -> None:
    seen: list[bytes] = []

    async def main() -> Measurement:
        async def final(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(ok(b"here"))
            await writer.drain()

        async with serving(final) as other:
            moved = ok(b"", b"Location: http://127.0.0.1:%d/there" % other, status=b"301 Moved")
            async with serving(answering(moved)) as port:
                return await HttpProbe(
                    f"http://127.0.0.1:{port}/",
                    TIMEOUT_S,
                    HttpExpect(body="^here$"),
                    follow_redirects=True,
                    headers={"Authorization": "Bearer hunter2"},
                ).measure()

    assert asyncio.run(main()).state is State.HEALTHY
    assert b"GET /there " in seen[0]
    assert b"hunter2" not in seen[0]


def test_a_redirect_to_another_scheme_is_unhealthy() -> None:
    measured = measure(answering(ok(b"", b"Location: file:///etc/passwd", status=b"302 Found")), follow_redirects=True)
    assert measured.state is State.UNHEALTHY


def test_nothing_listening_is_unhealthy_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        measured = asyncio.run(HttpProbe(f"http://127.0.0.1:{port}/", 5.0).measure())
    assert (measured.state, measured.reason) == (State.UNHEALTHY, f"connection refused at 127.0.0.1:{port}")
    assert measured.latency_s is not None
    assert measured.latency_s < 1.0


def test_a_server_whose_backlog_is_full_times_out_while_connecting() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            measured = asyncio.run(HttpProbe(f"http://127.0.0.1:{address[1]}/", TIMEOUT_S).measure())
        finally:
            for filler in fillers:
                filler.close()
    assert measured.state is State.UNHEALTHY
    assert "(connecting)" in measured.reason


CONDITIONS: dict[str, tuple[bytes, HttpExpect, str]] = {
    "json holds what is expected": (b'{"status": "ok", "more": 1}', HttpExpect(json={"status": "ok"}), ""),
    "json inside json": (b'{"db": {"up": true, "n": 2}}', HttpExpect(json={"db": {"up": True}}), ""),
    "another value": (b'{"status": "bad"}', HttpExpect(json={"status": "ok"}), 'json.status is "bad", expected "ok"'),
    "missing key": (b"{}", HttpExpect(json={"status": "ok"}), "json.status is missing"),
    "true is not 1": (b'{"up": 1}', HttpExpect(json={"up": True}), "json.up is 1, expected true"),
    "list with another value": (b'{"l": [1, 2]}', HttpExpect(json={"l": [1, 3]}), "json.l[1] is 2, expected 3"),
    "shorter list": (b'{"l": [1]}', HttpExpect(json={"l": [1, 3]}), "json.l is [1], expected [1, 3]"),
    "a list where an object was expected": (b"[1]", HttpExpect(json={"a": 1}), "json is [1], expected an object"),
    "no json": (b"<html>", HttpExpect(json={"a": 1}), "the answer is not JSON"),
    "json nested beyond reason": (b"[" * 100_000, HttpExpect(json={"a": 1}), "the answer is not JSON"),
    "body matches": (b"all\nsystems go\n", HttpExpect(body="(?m)^systems go$"), ""),
    "body does not match": (b"nothing", HttpExpect(body="go{2}"), "the body does not match 'go{2}'"),
    "bytes that are no text": (b"\xff\xfe\x00 go", HttpExpect(body="go"), ""),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_on_the_body(name: str) -> None:
    body, expect, problem = CONDITIONS[name]
    measured = measure(answering(ok(body)), expect)
    assert measured.state is (State.UNHEALTHY if problem else State.HEALTHY)
    assert measured.reason == (problem or "status 200")


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "hex", "no-such-thing", "idna", "undefined"])
def test_any_charset_a_server_claims_can_be_read_somehow(charset: str) -> None:
    answer = ok(b"\xe9t\xe9 {", b"Content-Type: text/plain; charset=" + charset.encode())
    assert measure(answering(answer), HttpExpect(body="something")).state is State.UNHEALTHY


def test_a_body_is_only_read_up_to_a_limit_and_the_reason_says_so() -> None:
    measured = measure(answering(ok(b"x" * BODY_LIMIT + b"needle")), HttpExpect(body="needle"))
    assert measured.reason == "the body does not match 'needle' (only the first 256 KiB were read)"


def test_a_compressed_body_is_read_although_nobody_asked_for_it() -> None:
    answer = ok(gzip.compress(b'{"status": "ok"}'), b"Content-Encoding: gzip")
    assert measure(answering(answer), HttpExpect(json={"status": "ok"})).state is State.HEALTHY


@pytest.mark.parametrize("encoding", [b"br", b"gzip"])
def test_a_body_that_cannot_be_decompressed_fails_only_conditions_on_it(encoding: bytes) -> None:
    answer = ok(b"\x00not compressed at all", b"Content-Encoding: " + encoding)
    assert measure(answering(answer)).state is State.HEALTHY
    assert "encoding" in measure(answering(answer), HttpExpect(body="x")).reason


def test_a_gzip_bomb_stays_small() -> None:
    answer = ok(servers.gzip_bomb(), b"Content-Encoding: gzip")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measure(answering(answer), HttpExpect(body="x"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024, "KiB; the bomb is 100 MiB"


def test_evidence_is_one_printable_line() -> None:
    measured = measure(answering(ok(b"\x1b[31mred\nalert" + b"!" * 1000, status=b"503 No")))
    assert measured.evidence["status"] == "503"
    assert measured.evidence["body"].startswith(" [31mred alert!!!".strip())
    assert len(measured.evidence["body"]) < 210


def test_a_request_says_who_asks_for_what_and_that_the_connection_ends() -> None:
    seen: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ok())
        await writer.drain()

    measure(keep, method="HEAD", url="http://user:hunter2@127.0.0.1:{port}/x?y=1", headers={"X-Token": "t"})
    lines = seen[0].lower().decode().split("\r\n")
    assert lines[0] == "head /x?y=1 http/1.1"
    assert "accept-encoding: identity" in lines
    assert "connection: close" in lines
    assert "x-token: t" in lines
    assert any(line.startswith("user-agent: guard/") for line in lines)
    assert any(line.startswith("authorization: basic ") for line in lines)


def test_every_check_opens_a_fresh_connection() -> None:
    async def main() -> int:
        connections = 0

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # and would keep it open

        async with serving(count) as port:
            probe = HttpProbe(f"http://127.0.0.1:{port}/", TIMEOUT_S)
            for _ in range(3):
                await probe.measure()
        return connections

    assert asyncio.run(main()) == 3


def test_cancelled_checks_poison_nothing() -> None:
    async def main() -> Measurement:
        async with serving(servers.black_hole) as stuck, serving(answering(ok())) as port:
            for _ in range(50):
                task = asyncio.create_task(HttpProbe(f"http://127.0.0.1:{stuck}/", 30.0).measure())
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            return await HttpProbe(f"http://127.0.0.1:{port}/", TIMEOUT_S).measure()

    assert asyncio.run(main()).state is State.HEALTHY


def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert measure(answering(ok())).state is State.HEALTHY


# --- TLS ---


def test_a_certificate_nobody_signed_is_unhealthy_unless_it_is_not_verified(tmp_path: Path) -> None:
    tls = servers.self_signed(tmp_path)
    url = "https://localhost:{port}/"
    refused = measure(answering(ok()), tls=tls, url=url)
    assert refused.state is State.UNHEALTHY
    assert "self-signed certificate" in refused.reason
    assert measure(answering(ok()), tls=tls, url=url, trust=Tls(verify=False)).state is State.HEALTHY


def test_a_plain_server_on_a_tls_port_is_unhealthy() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(ok())
        await writer.drain()

    measured = measure(plain, url="https://127.0.0.1:{port}/")
    assert measured.state is State.UNHEALTHY
    assert measured.reason.startswith("TLS with ")


def test_a_server_that_never_finishes_its_tls_handshake_times_out() -> None:
    measured = measure(servers.black_hole, url="https://127.0.0.1:{port}/")
    assert measured.state is State.UNHEALTHY
    assert "(connecting)" in measured.reason


# --- guard's own problems ---


def with_names(lookup: Callable[[str], tuple[str, ...]], url: str = "http://web.example:1/") -> Measurement:
    return asyncio.run(HttpProbe(url, TIMEOUT_S, names=Resolver(lookup)).measure())


@pytest.mark.parametrize("code", [socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_FAIL])
def test_a_name_that_does_not_resolve_is_unknown(code: int) -> None:
    def fail(host: str) -> tuple[str, ...]:
        raise socket.gaierror(code, "no")

    measured = with_names(fail)
    assert measured.state is State.UNKNOWN
    assert "guard could not resolve the name of web.example:1" in measured.reason


def test_a_silent_resolver_is_unknown_and_costs_other_names_nothing() -> None:
    async def main() -> tuple[list[Measurement], Measurement]:
        import threading

        silence = threading.Event()

        def lookup(host: str) -> tuple[str, ...]:
            if host == "silent.example":
                silence.wait(10)
            return ("127.0.0.1",)

        names = Resolver(lookup, threads=2)
        try:
            async with serving(answering(ok())) as port:
                stuck = [HttpProbe(f"http://silent.example:{port}/", TIMEOUT_S, names=names) for _ in range(20)]
                lively = HttpProbe(f"http://lively.example:{port}/", TIMEOUT_S, names=names)
                *waited, answered = await asyncio.gather(*(p.measure() for p in stuck), lively.measure())
                return waited, answered
        finally:
            silence.set()

    waited, answered = asyncio.run(main())
    assert {m.state for m in waited} == {State.UNKNOWN}
    assert "(resolving the name)" in waited[0].reason
    assert answered.state is State.HEALTHY


def test_the_second_address_is_tried_when_the_first_refuses() -> None:
    async def main() -> Measurement:
        async with serving(answering(ok())) as port:
            names = Resolver(lambda _: ("::1", "127.0.0.1"))
            return await HttpProbe(f"http://web.example:{port}/", TIMEOUT_S, names=names).measure()

    assert asyncio.run(main()).state is State.HEALTHY


def test_no_descriptors_left_is_unknown() -> None:
    async def main() -> Measurement:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            return await HttpProbe("http://127.0.0.1:1/", TIMEOUT_S).measure()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    measured = asyncio.run(main())
    assert measured.state is State.UNKNOWN
    assert "too many open files" in measured.reason


@pytest.mark.parametrize("kind", ["reason", "evidence"])
def test_secrets_of_the_request_are_not_told(kind: str) -> None:
    url = "http://user:hunter2@127.0.0.1:{port}/?key=hunter2"
    measured = measure(answering(ok(b"", status=b"500 No")), url=url, headers={"Authorization": "hunter2"})
    assert "hunter2" not in (measured.reason if kind == "reason" else json.dumps(dict(measured.evidence)))
