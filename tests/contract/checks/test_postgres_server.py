"""The postgres check against a real server, a frozen one, and things that are none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from guard.checks import postgres as module
from guard.checks.postgres import PostgresProbe
from guard.checks.postgres_answer import Wanted
from guard.engines.resolve import Resolver
from guard.model import Measurement, State
from tests.contract.checks import hostile_servers as servers
from tests.contract.checks.conftest import Postgres
from tests.contract.checks.hostile_servers import serving

TIMEOUT_S = 1.0
MARGIN_S = 0.5


async def timed(probe: PostgresProbe, margin_s: float = MARGIN_S) -> Measurement:
    """One measurement, in time; what it may have had to abandon ends in time as well."""
    began = time.monotonic()
    measured = await probe.measure()
    assert time.monotonic() - began < TIMEOUT_S + margin_s
    while module._abandoned:
        await asyncio.sleep(0.01)
        assert time.monotonic() - began < TIMEOUT_S + 2 * margin_s, "an abandoned check must not linger"
    assert "hunter2" not in measured.reason + json.dumps(dict(measured.evidence))
    return measured


def measure(dsn: str | None, *settings: Any, **more: Any) -> Measurement:
    return asyncio.run(timed(PostgresProbe(dsn, TIMEOUT_S, *settings, **more)))


ANSWERS: dict[str, tuple[str, Any, State, str]] = {
    "an answer": ("select 1", None, State.HEALTHY, "the query was answered"),
    "the expected number": ("select 1", 1, State.HEALTHY, "the query gave 1"),
    "the expected text": ("select 'up'", "up", State.HEALTHY, "the query gave 'up'"),
    "a numeric, as it is written": ("select 1.50::numeric", "1.50", State.HEALTHY, "the query gave '1.50'"),
    "true is true": ("select true", True, State.HEALTHY, "the query gave True"),
    "true is not 1": ("select 1", True, State.UNHEALTHY, "the query gave 1, expected True"),
    "another number": ("select 2", 1, State.UNHEALTHY, "the query gave 2, expected 1"),
    "a whole row": ("select 1, 'up', null, true", (1, "up", None, True), State.HEALTHY, "gave (1, 'up', None, True)"),
    "another row": ("select 1, 'down'", (1, "up"), State.UNHEALTHY, "the query gave (1, 'down'), expected (1, 'up')"),
    "a shorter row": ("select 1", (1, "up"), State.UNHEALTHY, "the query gave (1), expected (1, 'up')"),
    "a row of one": ("select 1", (1,), State.HEALTHY, "the query gave (1)"),
    "null is not the text": ("select null, 1", ("None", 1), State.UNHEALTHY, "(None, 1), expected ('None', 1)"),
    "a row of written values": (
        "select 1.50::numeric, date '2026-11-24'",
        ("1.50", "2026-11-24"),
        State.HEALTHY,
        "1.50",
    ),
    "null": ("select null", 1, State.UNHEALTHY, "the query gave None, expected 1"),
    "no row": ("select 1 where false", 1, State.UNHEALTHY, "the query has no row, expected 1"),
    "no rows at all": ("set local work_mem = 1024", None, State.HEALTHY, "the query was answered"),
    "a percent sign": ("select 'x' like '%x%'", True, State.HEALTHY, "the query gave True"),
    "no such table": ("select 1 from nowhere", None, State.UNHEALTHY, 'relation "nowhere" does not exist'),
    "guard's own mistake": ("selec 1", None, State.UNKNOWN, "syntax error"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_query_gave_decides(postgres: Postgres, name: str) -> None:
    query, expect, state, reason = ANSWERS[name]
    measured = measure(postgres.dsn, query, Wanted(expect))
    assert measured.state is state, measured
    assert reason in measured.reason


def test_an_address_can_be_written_as_keywords_or_be_a_socket(postgres: Postgres) -> None:
    keywords = f"host=localhost port={postgres.port} user=guard password=hunter2 dbname=warehouse"
    assert measure(keywords).state is State.HEALTHY
    assert measure(postgres.local).state is State.HEALTHY
    assert measure(f"postgresql://guard:hunter2@127.0.0.2:1,127.0.0.1:{postgres.port}/warehouse").state is State.HEALTHY


def test_a_check_leaves_nothing_behind(postgres: Postgres) -> None:
    postgres.run("create table if not exists marks (n int); grant all on marks to guard; truncate marks")
    assert measure(postgres.dsn, "insert into marks values (1) returning n", Wanted(1)).state is State.HEALTHY
    assert postgres.run("select * from marks") == []


def test_credentials_that_are_refused_are_unknown(postgres: Postgres) -> None:
    measured = measure(postgres.dsn.replace("hunter2", "wrong-hunter2"))
    assert measured.state is State.UNKNOWN
    assert "refuses guard's credentials" in measured.reason


def test_a_database_that_is_gone_is_unhealthy(postgres: Postgres) -> None:
    measured = measure(postgres.dsn.replace("/warehouse", "/gone"))
    assert measured.state is State.UNHEALTHY
    assert 'database "gone" does not exist' in measured.reason


def test_a_slow_query_is_unhealthy_in_time_and_ends_on_the_server_too(postgres: Postgres) -> None:
    measured = measure(postgres.dsn, "select pg_sleep(60)")
    assert measured.state is State.UNHEALTHY
    deadline = time.monotonic() + 5
    while postgres.run("select pid from pg_stat_activity where query like '%pg_sleep%' and usename = 'guard'"):
        assert time.monotonic() < deadline, "the statement's own time-out should have ended it"
        time.sleep(0.05)


@pytest.fixture
def frozen(postgres: Postgres) -> Iterator[Postgres]:
    postgres.signal_all(signal.SIGSTOP)
    try:
        yield postgres
    finally:
        postgres.signal_all(signal.SIGCONT)


def test_a_frozen_server_is_unhealthy_in_time(frozen: Postgres) -> None:
    measured = measure(frozen.dsn)
    assert measured.state is State.UNHEALTHY
    assert "(connecting)" in measured.reason


def test_a_server_that_freezes_during_the_query_delays_neither_the_check_nor_its_end(postgres: Postgres) -> None:
    async def main() -> Measurement:
        check = asyncio.create_task(timed(PostgresProbe(postgres.dsn, TIMEOUT_S, "select pg_sleep(60)")))
        backend: list[tuple[object, ...]] = []
        while not backend:
            await asyncio.sleep(0.02)
            backend = await asyncio.to_thread(
                postgres.run, "select pid from pg_stat_activity where query like 'select pg_sleep%'"
            )
        pid = int(str(backend[0][0]))
        os.kill(pid, signal.SIGSTOP)
        try:
            return await check
        finally:
            os.kill(pid, signal.SIGCONT)

    measured = asyncio.run(main())
    assert measured.state is State.UNHEALTHY
    assert "(waiting for the query)" in measured.reason


def test_a_cancelled_check_ends_at_once_and_leaves_no_connection(postgres: Postgres) -> None:
    async def main() -> None:
        task = asyncio.create_task(PostgresProbe(postgres.dsn, 30.0, "select pg_sleep(60)").measure())
        await asyncio.sleep(0.3)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while module._abandoned:
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 0.5

    asyncio.run(main())


def test_nothing_listening_is_unhealthy() -> None:
    measured = measure("postgresql://guard:hunter2@127.0.0.1:1/x")
    assert measured.state is State.UNHEALTHY
    assert "Connection refused" in measured.reason


def test_a_socket_that_does_not_exist_is_unhealthy() -> None:
    assert measure("host=/nonexistent user=guard").state is State.UNHEALTHY


HOSTILE = {
    "black hole": servers.black_hole,
    "reset": servers.hang_up,
    "speaks HTTP": servers.answering(servers.ok(b"hello")),
    "drips": servers.answering(b"R", b"\0", every_s=0.05, for_ever=True),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_else_listens_there_the_check_ends_in_time(name: str) -> None:
    async def main() -> Measurement:
        async with serving(HOSTILE[name]) as port:
            return await timed(PostgresProbe(f"postgresql://guard:hunter2@127.0.0.1:{port}/x", TIMEOUT_S))

    assert asyncio.run(main()).state is State.UNHEALTHY


def test_a_missing_secret_is_unknown() -> None:
    measured = measure(None, problem="WAREHOUSE_DSN is not set")
    assert (measured.state, measured.reason) == (State.UNKNOWN, "WAREHOUSE_DSN is not set")


@pytest.mark.parametrize(
    "dsn", ["postgresql://guard:hunter2@127.0.0.1:port/x", "password=hunter2 nonsense", "x=hunter2"]
)
def test_an_unreadable_address_is_unknown_and_is_not_repeated(dsn: str) -> None:
    assert measure(dsn).state is State.UNKNOWN


def test_a_name_that_does_not_resolve_is_unknown() -> None:
    def fail(host: str) -> tuple[str, ...]:
        import socket

        raise socket.gaierror(socket.EAI_AGAIN, "no")

    measured = measure("postgresql://guard:hunter2@db.example/x", names=Resolver(fail))
    assert measured.state is State.UNKNOWN
    assert "db.example" in measured.reason
