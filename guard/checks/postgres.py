"""A query over a connection of its own.

A frozen server must cost nothing but its own check. Cancelling psycopg would make it ask the server to cancel the
query, and wait 5 s for that; so at the deadline the socket is shut down under it, and it ends by itself at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from typing import TYPE_CHECKING

from guard.checks.postgres_answer import STANDING, Answered, Wanted, judge, standing_of
from guard.checks.site import Site
from guard.checks.verdict import excerpt, of_os_error, unhealthy, unknown
from guard.config.schema import PostgresCheck
from guard.engines.local import OWN_ERRNOS
from guard.engines.resolve import Resolver, resolver
from guard.model import Measurement

if TYPE_CHECKING:
    import psycopg

# The server is there and will not have guard: guard's configuration, as with a missing secret.
_REFUSALS = ("password authentication failed", "no password supplied", "no pg_hba.conf entry")
_SYNTAX_ERROR = "42601"
_OWN_ERRORS = tuple(os.strerror(number) for number in OWN_ERRNOS)

ANYTHING = Wanted()

_abandoned: set[asyncio.Task[Measurement]] = set()


class PostgresProbe:
    """``dsn`` is a URL or ``key=value`` text; None when there is none, which ``problem`` then explains."""

    def __init__(
        self,
        dsn: str | None,
        timeout_s: float,
        query: str = "select 1",
        wanted: Wanted = ANYTHING,
        *,
        problem: str = "",
        names: Resolver = resolver,
    ) -> None:
        # Imported where a database is checked at all (25 MB), and before the first check, which it would delay.
        import psycopg  # noqa: F401

        self._dsn = dsn
        self._timeout_s = timeout_s
        self._query = query
        self._wanted = wanted
        self._problem = problem
        self._names = names

    @classmethod
    def build(cls, check: PostgresCheck, site: Site) -> PostgresProbe:
        dsn = None if check.dsn is None else site.render(check.dsn.get_secret_value(), f"check {check.name}")
        wanted = Wanted(check.expect, check.role, check.max_lag, check.degraded_above, check.unhealthy_above)
        return cls(dsn, check.timeout, check.query, wanted, problem=check.problem)

    async def measure(self) -> Measurement:
        if self._dsn is None:
            return unknown(self._problem or "the secret with the database's address is missing")
        attempt = _Attempt(self._dsn, self._query, self._wanted, self._timeout_s, self._names)
        task = asyncio.create_task(attempt.run())
        try:
            await asyncio.wait({task}, timeout=self._timeout_s)
        finally:
            if not task.done():
                attempt.sever(task)
        return task.result() if task.done() else attempt.out_of_time()


class _Attempt:
    def __init__(self, dsn: str, query: str, wanted: Wanted, timeout_s: float, names: Resolver) -> None:
        self._dsn = dsn
        self._query = query
        self._wanted = wanted
        self._timeout_s = timeout_s
        self._names = names
        self._secret = ""
        self._where = "the database"
        self._step = "resolving the name"
        self._connection: psycopg.AsyncConnection[tuple[object, ...]] | None = None

    async def run(self) -> Measurement:
        import psycopg

        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            parameters = await self._parameters()
            self._step = "connecting"
            self._connection = await psycopg.AsyncConnection.connect(**parameters)  # type: ignore[arg-type]
            connected = loop.time() - began
            self._step = "waiting for the query"
            try:
                answered = await self._answered(self._connection, connected)
            finally:
                await self._connection.close()
        except psycopg.Error as error:
            return self._failed(error, loop.time() - began)
        except OSError as error:
            return of_os_error(error, self._where, loop.time() - began)
        return judge(self._wanted, answered, loop.time() - began)

    async def _parameters(self) -> dict[str, str | int]:
        """The DSN as keywords, with its host names resolved here: psycopg would use threads without a bound."""
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        try:
            given = {key: str(value) for key, value in conninfo_to_dict(self._dsn).items() if value is not None}
        except ProgrammingError:
            # Its message repeats parts of the text, and a password may be one of them.
            raise ProgrammingError("the dsn cannot be read: expected postgresql://… or key=value pairs") from None
        self._secret = given.get("password", "")
        self._where = f"{given.get('host') or given.get('hostaddr') or 'the local socket'}:{given.get('port', 5432)}"
        if given.get("host") and not given.get("hostaddr"):
            given |= await self._resolved(given["host"].split(","), given.get("port", "").split(","))
        given.setdefault("application_name", "guard")
        return {**given, "connect_timeout": max(2, math.ceil(self._timeout_s))}

    async def _resolved(self, hosts: list[str], ports: list[str]) -> dict[str, str]:
        """``host``, ``hostaddr`` and ``port`` with one entry per address. A socket's folder has no address."""
        all_ports = ports * len(hosts) if len(ports) == 1 else ports
        entries = []
        for host, port in zip(hosts, all_ports, strict=False):
            is_folder = not host or host.startswith(("/", "@"))
            addresses = ("",) if is_folder else await self._names.resolve(host)
            entries += [(host, address, port) for address in addresses]
        names, addresses, numbers = zip(*entries, strict=True)
        return {"host": ",".join(names), "hostaddr": ",".join(addresses), "port": ",".join(numbers)}

    async def _answered(self, connection: psycopg.AsyncConnection[tuple[object, ...]], connect_s: float) -> Answered:
        standing = None
        async with connection.cursor() as cursor:
            # In the query's own transaction, so that it also holds behind a pooler, and only there. The transaction
            # is never committed: a check leaves nothing behind.
            await cursor.execute(f"set local statement_timeout = {math.ceil(self._timeout_s * 1000)}".encode())
            if self._wanted.asks_standing:
                await cursor.execute(STANDING)
                found = await cursor.fetchone()
                standing = standing_of(found) if found is not None else None
            await cursor.execute(self._query.encode())
            row = await cursor.fetchone() if cursor.description else None
        return Answered(row, connect_s, standing)

    def sever(self, task: asyncio.Task[Measurement]) -> None:
        """Give up at once: the task ends by itself, or, where nothing is connected yet, by being cancelled."""
        connection = self._connection
        if connection is None:
            task.cancel()
        elif not connection.closed:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as under_it:
                under_it.shutdown(socket.SHUT_RDWR)
        _abandoned.add(task)  # asyncio itself keeps only weak references
        task.add_done_callback(_forget)

    def out_of_time(self) -> Measurement:
        reason = f"time-out: {self._where} took longer than {self._timeout_s:g} s ({self._step})"
        return unknown(reason) if self._step == "resolving the name" else unhealthy(reason, self._timeout_s)

    def _failed(self, error: psycopg.Error, latency: float) -> Measurement:
        text = str(error)
        if self._secret:
            text = text.replace(self._secret, "***")
        text = " ".join(text.split())
        for prefix in ("connection failed: ", "connection is bad: "):
            text = text.removeprefix(prefix)
        text = excerpt(text, 300)
        evidence = {"sqlstate": error.sqlstate} if error.sqlstate else {}
        connecting = self._connection is None
        if connecting and any(refusal in text for refusal in _REFUSALS):
            return unknown(f"{self._where} refuses guard's credentials: {text}", evidence)
        if connecting and any(own in text for own in _OWN_ERRORS):
            return unknown(f"guard could not connect to {self._where}: {text}", evidence)
        bad_option = connecting and text.startswith("invalid ")  # libpq's words for a port that is no number, and so on
        if self._step == "resolving the name" or bad_option or error.sqlstate == _SYNTAX_ERROR:
            return unknown(f"guard cannot run this check: {text}", evidence)
        return unhealthy(text, latency, evidence)


def _forget(task: asyncio.Task[Measurement]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # whatever it was, the check has ended with a time-out
