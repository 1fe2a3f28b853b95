"""An HTTP request over a connection of its own; what its answer must be is in ``http_answer``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import h11
import httpx

from guard import __version__
from guard.checks.http_answer import BODY_LIMIT, NO_LIMITS, Answer, Limits, judge
from guard.checks.http_tls import SYSTEM, Tls, TlsFilesError
from guard.checks.site import Site
from guard.checks.verdict import excerpt, of_os_error, unhealthy, unknown
from guard.config.schema import HttpCheck, HttpExpect
from guard.engines.bare_http import BareTransport
from guard.engines.resolve import Resolver, resolver
from guard.engines.wire import Wire, dial_tcp
from guard.model import Image, Measurement

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
        body: str | None = None,
        limits: Limits = NO_LIMITS,
        tls: Tls = SYSTEM,
        follow_redirects: bool = False,
        under_test: Callable[[], Image | None] = lambda: None,
        names: Resolver = resolver,
    ) -> None:
        self._url = httpx.URL(url)
        self._timeout_s = timeout_s
        self._expect = expect or HttpExpect()
        self._method = method
        # identity: a compressed answer is not asked for; some servers send one all the same.
        own = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"guard/{__version__}"}
        self._headers = httpx.Headers({**own, **(headers or {})})
        self._body = None if body is None else body.encode()
        self._limits = limits
        self._tls = tls
        self._follow_redirects = follow_redirects
        self._under_test = under_test
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
        loop = asyncio.get_running_loop()
        began = loop.time()
        attempt = _Attempt(self._names, self._tls, self._url)
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline:
                return await self._ask(attempt), loop.time() - began
        except TlsFilesError as error:
            return unknown(str(error)), 0.0
        except (OSError, httpx.HTTPError, httpx.InvalidURL, h11.LocalProtocolError) as error:
            latency = loop.time() - began
            if deadline.expired():
                return attempt.out_of_time(self._timeout_s, latency), latency
            return attempt.failed(error, latency), latency

    async def _ask(self, attempt: _Attempt) -> Answer:
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
            client.stream(self._method, self._url, headers=self._headers, content=self._body) as response,
        ):
            body = b"".join([part async for part in response.aiter_raw()])
            headers = tuple(response.extensions["headers"])
            return Answer(response.status_code, headers, body, bool(response.extensions["truncated"]))


class _Attempt:
    """One measurement: how far it has come, so that running out of time can be told apart by its cause."""

    def __init__(self, names: Resolver, tls: Tls, url: httpx.URL) -> None:
        self._names = names
        self._tls = tls
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
        tls = self._tls.context() if url.scheme == "https" else None
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
    response.extensions["headers"] = response.headers.raw
    response.headers.pop("content-encoding", None)


def _where(url: httpx.URL) -> str:
    """Host and port only: the rest of a URL may hold secrets."""
    return url.netloc.decode("ascii", errors="replace")
