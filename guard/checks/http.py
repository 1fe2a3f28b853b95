"""An HTTP request over a connection of its own; what its answer must be is in ``http_answer``."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from guard import __version__
from guard.checks import http_exchange
from guard.checks.http_answer import NO_LIMITS, Answer, Limits, judge
from guard.checks.http_exchange import BadAnswerError
from guard.checks.http_tls import SYSTEM, Tls, TlsFilesError
from guard.checks.site import Site
from guard.checks.verdict import excerpt, of_os_error, unhealthy, unknown
from guard.config.schema import HttpCheck, HttpExpect
from guard.engines.resolve import Resolver, resolver
from guard.engines.wire import is_address
from guard.model import Image, Measurement

MOST_REDIRECTS = 5
# identity: a compressed answer is not asked for; some servers send one all the same.
_OWN_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"guard/{__version__}"}


class HttpProbe:
    """One target. What can be worked out before a measurement is: the bytes of the request, and where they go."""

    __slots__ = (
        "_expect",
        "_first",
        "_limits",
        "_names",
        "_problem",
        "_redirects",
        "_timeout_s",
        "_tls",
        "_under_test",
    )

    def __init__(
        self,
        url: str,
        timeout_s: float,
        expect: HttpExpect | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
        limits: Limits = NO_LIMITS,
        tls: Tls = SYSTEM,
        follow_redirects: bool = False,
        under_test: Callable[[], Image | None] = lambda: None,
        names: Resolver = resolver,
    ) -> None:
        self._timeout_s = timeout_s
        self._expect = expect or HttpExpect()
        self._limits = limits
        self._tls = tls
        self._under_test = under_test
        self._names = names
        self._problem = ""
        self._first: _Request | None = None
        self._redirects: httpx.Request | None = None
        request = httpx.Request(method, url, headers=_headers(url, headers or {}), content=_encoded(body))
        try:
            self._first = _Request.of(request)
        except ValueError as error:
            self._problem = f"guard cannot send this request: {excerpt(str(error))}"
        if follow_redirects:
            self._redirects = request

    @classmethod
    def build(cls, check: HttpCheck, site: Site) -> HttpProbe:
        what = f"check {check.name}"
        return cls(
            site.render(check.url, what),
            check.timeout,
            check.expect,
            method=check.method,
            headers={name: site.render(value, what) for name, value in check.headers.items()},
            body=check.body,
            limits=Limits(check.degraded_above, check.unhealthy_above),
            tls=Tls(check.tls_verify, check.tls_ca, check.client_cert, check.client_key),
            follow_redirects=check.follow_redirects,
            under_test=site.under_test,
        )

    async def measure(self) -> Measurement:
        answer, latency = await self.fetch()
        if isinstance(answer, Measurement):
            return answer
        return judge(self._expect, answer, latency, self._limits, self._under_test())

    async def fetch(self) -> tuple[Answer | Measurement, float]:
        """The answer and the seconds it took; where there is none, what that says of the server or of guard."""
        if self._first is None:
            return unknown(self._problem), 0.0
        loop = asyncio.get_running_loop()
        began = loop.time()
        attempt = _Attempt(self._names, self._tls, self._first)
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline:
                if self._redirects is None:
                    answer = await attempt.exchange(self._first)
                else:
                    answer = await _follow(self._redirects, attempt)
                return answer, loop.time() - began
        except TlsFilesError as error:
            return unknown(str(error)), 0.0
        except (OSError, BadAnswerError, httpx.HTTPError, httpx.InvalidURL) as error:
            latency = loop.time() - began
            if deadline.expired():
                return attempt.out_of_time(self._timeout_s, latency), latency
            return attempt.failed(error, latency), latency


def _headers(url: str, given: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """guard's own, then the check's; user and password of the URL unless the check has credentials of its own."""
    headers = {name.lower(): (name, value) for name, value in {**_OWN_HEADERS, **given}.items()}
    parts = httpx.URL(url)
    if parts.userinfo and "authorization" not in headers:
        token = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode("ascii")
        headers["authorization"] = ("Authorization", f"Basic {token}")
    return [(name.encode("ascii"), value.encode()) for name, value in headers.values()]


def _encoded(body: str | None) -> bytes | None:
    return None if body is None else body.encode()


@dataclass(frozen=True, slots=True)
class _Request:
    """``where``: host and port only, for the rest of a URL may hold secrets. ``addresses``: () when host is a name."""

    where: str
    host: str
    addresses: tuple[str, ...]
    port: int
    secure: bool
    head_only: bool
    data: bytes

    @classmethod
    def of(cls, request: httpx.Request) -> _Request:
        """ValueError when it cannot be sent; BadAnswerError when a redirect led away from HTTP."""
        url = request.url
        if url.scheme not in ("http", "https"):
            raise BadAnswerError(f"redirected to {url.scheme}://")
        host = url.raw_host.decode("ascii")
        secure = url.scheme == "https"
        body = request.content if request.content or request.method in ("POST", "PUT") else None
        return cls(
            where=url.netloc.decode("ascii", errors="replace"),
            host=host,
            addresses=(host,) if is_address(host) else (),
            port=url.port or (443 if secure else 80),
            secure=secure,
            head_only=request.method == "HEAD",
            data=http_exchange.request_bytes(request.method, url.raw_path, request.headers.raw, body),
        )


class _Attempt:
    """One measurement: how far it has come, so that running out of time can be told apart by its cause."""

    __slots__ = ("_names", "_step", "_tls", "_where")

    def __init__(self, names: Resolver, tls: Tls, first: _Request) -> None:
        self._names = names
        self._tls = tls
        self._where = first.where
        self._step = "resolving the name"

    async def exchange(self, request: _Request) -> Answer:
        self._where = request.where
        self._step = "resolving the name"
        addresses = request.addresses or await self._names.resolve(request.host)
        context = self._tls.context() if request.secure else None
        self._step = "connecting"
        wire = await http_exchange.connect(addresses, request.port)
        try:
            if context is not None:
                wire = await http_exchange.start_tls(wire, context, request.host)
            self._step = "waiting for the answer"
            return await http_exchange.ask(wire, request.data, head_only=request.head_only)
        finally:
            wire.close()

    def out_of_time(self, timeout_s: float, latency: float) -> Measurement:
        reason = f"time-out: {self._where} took longer than {timeout_s:g} s ({self._step})"
        return unknown(reason) if self._step == "resolving the name" else unhealthy(reason, latency)

    def failed(self, error: Exception, latency: float) -> Measurement:
        match error:
            case OSError():
                return of_os_error(error, self._where, latency)
            case httpx.TooManyRedirects():
                return unhealthy(f"more than {MOST_REDIRECTS} redirects", latency)
            case BadAnswerError() | httpx.RemoteProtocolError() | httpx.UnsupportedProtocol() | httpx.InvalidURL():
                return unhealthy(f"no proper HTTP answer from {self._where}: {excerpt(str(error))}", latency)
        raise error


async def _follow(request: httpx.Request, attempt: _Attempt) -> Answer:
    """The rules of redirects are httpx's (method, cookies, no credentials to another server), the exchanges guard's."""
    async with httpx.AsyncClient(
        transport=_Hop(attempt),
        trust_env=False,
        follow_redirects=True,
        max_redirects=MOST_REDIRECTS,
        timeout=None,  # noqa: S113 # one deadline stands around all of this
    ) as client:
        response = await client.send(request)
    answer = response.extensions["answer"]
    assert isinstance(answer, Answer)  # noqa: S101 # put there below
    return answer


class _Hop(httpx.AsyncBaseTransport):
    """Hands httpx an answer without its body, which it would decode: half a megabyte could become half a gigabyte."""

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        answer = await self._attempt.exchange(_Request.of(request))
        headers = [(name, value) for name, value in answer.headers if name.lower() != b"content-encoding"]
        return httpx.Response(answer.status, headers=headers, content=b"", extensions={"answer": answer})
