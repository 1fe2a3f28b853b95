"""An HTTP request over a connection of its own, and what its answer must be.

Measured (2 noisy cores, loopback): 0.4 ms of CPU per check, server included; httpx with its own transport and a shared
TLS context 1.2 ms; a plain ``httpx.AsyncClient`` per check 15 ms, nearly all of it for building its TLS context.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import zlib
from collections.abc import Mapping
from functools import cache

import h11
import httpx

from guard import __version__
from guard.checks.site import Site
from guard.checks.verdict import excerpt, of_os_error, unhealthy, unknown
from guard.config.schema import HttpCheck, HttpExpect
from guard.engines.bare_http import BareTransport
from guard.engines.resolve import Resolver, resolver
from guard.engines.wire import Wire, dial_tcp
from guard.model import Measurement, State

BODY_LIMIT = 256 * 1024  # bytes read, and bytes a compressed body may grow to
MOST_REDIRECTS = 5


class HttpProbe:
    def __init__(
        self,
        url: str,
        timeout_s: float,
        expect: HttpExpect | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        tls_verify: bool = True,
        follow_redirects: bool = False,
        names: Resolver = resolver,
    ) -> None:
        self._url = httpx.URL(url)
        self._timeout_s = timeout_s
        self._expect = expect or HttpExpect()
        self._method = method
        # identity: a compressed answer is not asked for; some servers send one all the same.
        own = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"guard/{__version__}"}
        self._headers = httpx.Headers({**own, **(headers or {})})
        self._tls_verify = tls_verify
        self._follow_redirects = follow_redirects
        self._names = names

    @classmethod
    def build(cls, check: HttpCheck, site: Site) -> HttpProbe:
        what = f"check {check.name}"
        return cls(
            site.render(check.url, what),
            check.timeout,
            check.expect,
            method=check.method,
            headers={name: site.render(value, what) for name, value in check.headers.items()},
            tls_verify=check.tls_verify,
            follow_redirects=check.follow_redirects,
        )

    async def measure(self) -> Measurement:
        loop = asyncio.get_running_loop()
        began = loop.time()
        attempt = _Attempt(self._names, self._tls_verify, self._url)
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline:
                response, body = await self._ask(attempt)
        except (OSError, httpx.HTTPError, httpx.InvalidURL, h11.LocalProtocolError) as error:
            latency = loop.time() - began
            if deadline.expired():
                return attempt.out_of_time(self._timeout_s, latency)
            return attempt.failed(error, latency)
        return judge(self._expect, response, body, loop.time() - began)

    async def _ask(self, attempt: _Attempt) -> tuple[httpx.Response, bytes]:
        # A client for each check: it holds cookies and nothing else, and costs 0.1 ms without a transport of its own.
        async with (
            httpx.AsyncClient(
                transport=BareTransport(attempt.dial, BODY_LIMIT),
                trust_env=False,
                follow_redirects=self._follow_redirects,
                max_redirects=MOST_REDIRECTS,
                timeout=None,  # noqa: S113 # one deadline stands around all of this
                event_hooks={"response": [_leave_encoded]},
            ) as client,
            client.stream(self._method, self._url, headers=self._headers) as response,
        ):
            return response, b"".join([part async for part in response.aiter_raw()])


class _Attempt:
    """One measurement: how far it has come, so that running out of time can be told apart by its cause."""

    def __init__(self, names: Resolver, tls_verify: bool, url: httpx.URL) -> None:
        self._names = names
        self._tls_verify = tls_verify
        self._where = _where(url)
        self._step = "resolving the name"

    async def dial(self, url: httpx.URL) -> Wire:
        self._where = _where(url)
        if url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"redirected to {url.scheme}://")
        host = url.raw_host.decode("ascii")
        self._step = "resolving the name"
        addresses = await self._names.resolve(host)
        self._step = "connecting"
        tls = _tls(self._tls_verify) if url.scheme == "https" else None
        wire = await dial_tcp(addresses, url.port or (443 if tls else 80), tls=tls, server_name=host)
        self._step = "waiting for the answer"
        return wire

    def out_of_time(self, timeout_s: float, latency: float) -> Measurement:
        reason = f"time-out: {self._where} took longer than {timeout_s:g} s ({self._step})"
        return unknown(reason) if self._step == "resolving the name" else unhealthy(reason, latency)

    def failed(self, error: Exception, latency: float) -> Measurement:
        match error:
            case OSError():
                return of_os_error(error, self._where, latency)
            case httpx.TooManyRedirects():
                return unhealthy(f"more than {MOST_REDIRECTS} redirects", latency)
            case httpx.RemoteProtocolError() | httpx.UnsupportedProtocol():
                return unhealthy(f"no proper HTTP answer from {self._where}: {excerpt(str(error))}", latency)
            case h11.LocalProtocolError() | httpx.InvalidURL():
                return unknown(f"guard cannot send this request: {excerpt(str(error))}")
        raise error


async def _leave_encoded(response: httpx.Response) -> None:
    """httpx reads and decodes the body of each redirect: without this, half a megabyte could become half a gigabyte."""
    response.extensions["content_encoding"] = response.headers.pop("content-encoding", "identity").strip().lower()


def judge(expect: HttpExpect, response: httpx.Response, body: bytes, latency: float) -> Measurement:
    """Compare an answer with what is expected of it."""
    shown = f"status {response.status_code}"
    text = _text(response, body)
    problem = None
    if not expect.accepts(response.status_code):
        problem = f"{shown}, expected {_ranges(expect)}"
    elif expect.json is not None or expect.body is not None:
        if text is None:
            problem = f"{shown}, and the body's encoding {response.extensions['content_encoding']!r} cannot be read"
        else:
            problem = _against_json(expect, text) or _against_body(expect, text)
        if problem and response.extensions["truncated"]:
            problem += f" (only the first {BODY_LIMIT >> 10} KiB were read)"
    evidence = {"status": str(response.status_code)}
    if problem is None:
        return Measurement(State.HEALTHY, latency, shown, evidence)
    if text:
        evidence["body"] = excerpt(text)
    return unhealthy(problem, latency, evidence)


def _text(response: httpx.Response, body: bytes) -> str | None:
    """None when the body is compressed in a way that cannot be undone here."""
    encoding = response.extensions["content_encoding"]
    if encoding in ("gzip", "x-gzip", "deflate"):
        try:
            body = zlib.decompressobj(wbits=47).decompress(body, BODY_LIMIT)
        except zlib.error:
            return None
    elif encoding not in ("", "identity"):
        return None
    try:
        return body.decode(response.charset_encoding or "utf-8", errors="replace")
    except (LookupError, ValueError):  # a charset nobody knows, or one that is no charset ("hex")
        return body.decode(errors="replace")


def _against_json(expect: HttpExpect, text: str) -> str | None:
    if expect.json is None:
        return None
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return "the answer is not JSON"
    return _difference(expect.json, answer, "json")


def _difference(expected: object, found: object, path: str) -> str | None:
    """What of ``expected`` is not in ``found``: mappings may have more keys, everything else must be equal."""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            return f"{path} is {_shown(found)}, expected an object"
        for key, value in expected.items():
            if key not in found:
                return f"{path}.{key} is missing"
            if problem := _difference(value, found[key], f"{path}.{key}"):
                return problem
        return None
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return next((p for i, (e, f) in pairs if (p := _difference(e, f, f"{path}[{i}]"))), None)
    # JSON's true is no number, whatever Python thinks.
    same = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return None if same else f"{path} is {_shown(found)}, expected {_shown(expected)}"


def _shown(value: object) -> str:
    return excerpt(json.dumps(value, ensure_ascii=False, default=str), 80)


def _against_body(expect: HttpExpect, text: str) -> str | None:
    if expect.body is None or re.search(expect.body, text):
        return None
    return f"the body does not match {expect.body!r}"


def _ranges(expect: HttpExpect) -> str:
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in expect.status)


def _where(url: httpx.URL) -> str:
    """Host and port only: the rest of a URL may hold secrets."""
    return url.netloc.decode("ascii", errors="replace")


@cache
def _tls(verify: bool) -> ssl.SSLContext:
    """Built once, for it takes 15 ms: the system's certificates, and those of certifi where a system has none."""
    if verify:
        context = ssl.create_default_context()
        if not context.get_ca_certs():
            import certifi

            context.load_verify_locations(certifi.where())
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
