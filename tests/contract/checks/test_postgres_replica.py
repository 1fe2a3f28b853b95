"""The postgres check against a real primary and its real streaming replica."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest

from guard.checks.postgres import PostgresProbe
from guard.checks.postgres_answer import Wanted
from guard.model import Measurement, State
from tests.contract.checks.conftest import Postgres


def measure(server: Postgres, **wanted: object) -> Measurement:
    return asyncio.run(PostgresProbe(server.dsn, 5.0, wanted=Wanted(**wanted)).measure())  # type: ignore[arg-type]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lsn(server: Postgres, function: str) -> object:
    return server.run(f"select {function}()")[0][0]


def write(primary: Postgres) -> None:
    primary.run("create table if not exists ticks (n int); insert into ticks values (1)")


def level(primary: Postgres, replica: Postgres) -> None:
    until(lambda: bool(replica.run(f"select pg_last_wal_replay_lsn() >= '{lsn(primary, 'pg_current_wal_lsn')}'")[0][0]))


def test_a_server_must_have_its_role(postgres: Postgres, replica: Postgres) -> None:
    good = measure(postgres, role="primary")
    assert (good.state, good.reason) == (State.HEALTHY, "the query was answered by the primary")
    assert measure(replica, role="replica").state is State.HEALTHY
    wrong = measure(replica, role="primary")
    assert (wrong.state, wrong.reason) == (State.UNHEALTHY, "the server is a replica, expected a primary")
    assert measure(postgres, role="replica").reason == "the server is a primary, expected a replica"


def test_a_promoted_replica_is_a_primary_and_has_no_lag(replica: Postgres) -> None:
    replica.run("select pg_promote()")
    assert measure(replica, role="replica").state is State.UNHEALTHY
    assert measure(replica, role="primary").state is State.HEALTHY
    assert measure(replica, max_lag=0.001).state is State.HEALTHY


def test_a_replica_whose_replay_is_paused_falls_behind_and_catches_up(postgres: Postgres, replica: Postgres) -> None:
    write(postgres)
    level(postgres, replica)
    replica.run("select pg_wal_replay_pause()")
    until(lambda: replica.run("select pg_get_wal_replay_pause_state()") == [("paused",)])
    write(postgres)
    time.sleep(0.3)  # the lag itself
    measured = measure(replica, max_lag=0.2)
    assert measured.state is State.UNHEALTHY, measured
    assert "s behind, expected at most 0.2 s" in measured.reason
    assert "receives nothing" not in measured.reason
    assert float(measured.evidence["lag_s"]) > 0.2
    assert measure(replica, max_lag=60.0).state is State.HEALTHY
    assert measure(replica).state is State.HEALTHY, "nobody asked for the lag"
    replica.run("select pg_wal_replay_resume()")
    level(postgres, replica)
    assert measure(replica, max_lag=0.2).state is State.HEALTHY


def test_an_idle_primary_makes_no_lag(postgres: Postgres, replica: Postgres) -> None:
    write(postgres)
    level(postgres, replica)
    time.sleep(0.5)  # idle
    measured = measure(replica, max_lag=0.3)
    assert (measured.state, measured.evidence["lag_s"]) == (State.HEALTHY, "0.000"), measured


def test_a_replica_that_lost_its_primary_is_not_level_with_it(postgres: Postgres, replica: Postgres) -> None:
    """Received and replayed are equal then as well."""
    write(postgres)
    level(postgres, replica)
    replica.run("alter system set primary_conninfo = 'host=/nowhere'")
    replica.run("select pg_reload_conf()")
    until(lambda: replica.run("select 1 from pg_stat_wal_receiver") == [])
    write(postgres)
    time.sleep(0.3)  # the lag itself
    measured = measure(replica, max_lag=0.2)
    assert measured.state is State.UNHEALTHY, measured
    assert measured.reason.endswith("expected at most 0.2 s, and receives nothing from its primary")


def test_slow_connecting_is_degraded_or_unhealthy(postgres: Postgres) -> None:
    assert measure(postgres, degraded_above=4.0, unhealthy_above=4.5).state is State.HEALTHY
    slow = measure(postgres, degraded_above=0.0001, unhealthy_above=4.5)
    assert slow.state is State.DEGRADED
    assert slow.reason.startswith("connecting took ") and slow.reason.endswith("more than 0.0001 s")
    assert measure(postgres, unhealthy_above=0.0001).state is State.UNHEALTHY


def test_only_the_connection_is_timed(postgres: Postgres) -> None:
    wanted = Wanted(degraded_above=0.5)
    measured = asyncio.run(PostgresProbe(postgres.dsn, 5.0, "select pg_sleep(0.6)", wanted).measure())
    assert measured.state is State.HEALTHY, measured


def test_a_server_that_takes_its_time_to_answer_a_connection_is_slow(postgres: Postgres) -> None:
    async def main() -> Measurement:
        probe = PostgresProbe(postgres.dsn, 5.0, wanted=Wanted(unhealthy_above=0.3))
        assert postgres.process is not None
        os.kill(postgres.process.pid, signal.SIGSTOP)
        try:
            task = asyncio.create_task(probe.measure())
            await asyncio.sleep(0.5)
        finally:
            os.kill(postgres.process.pid, signal.SIGCONT)
        return await task

    measured = asyncio.run(main())
    assert measured.state is State.UNHEALTHY
    assert "more than 0.3 s" in measured.reason


@pytest.mark.parametrize("expect", [1, (1,)])
def test_the_role_is_told_before_the_row(replica: Postgres, expect: object) -> None:
    probe = PostgresProbe(replica.dsn, 5.0, "select 2", Wanted(expect, role="primary"))  # type: ignore[arg-type]
    assert asyncio.run(probe.measure()).reason == "the server is a replica, expected a primary"
