"""A PostgreSQL server of the tests' own: fresh, on a loopback port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest


@dataclass
class Postgres:
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://guard:hunter2@127.0.0.1:{self.port}/warehouse"

    @property
    def local(self) -> str:
        """As the superuser over the unix socket."""
        return f"host={self.folder} port={self.port} user=postgres dbname=warehouse"

    def run(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.local, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def signal_all(self, number: signal.Signals) -> None:
        """The postmaster and everything it started."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            with suppress(ProcessLookupError):  # a backend that ended by itself meanwhile
                os.kill(pid, number)


def _as_postgres(*argv: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return list(argv)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--", *argv]


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    assert found, "PostgreSQL's server is not installed: apt-get install postgresql"
    return found[-1].parent


@contextmanager
def _running(folder: Path) -> Iterator[Postgres]:
    """A server over ``folder/data``, on a free port; what it started is gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Postgres(folder, free.getsockname()[1])
    settings = ["-h", "127.0.0.1", "-p", str(server.port), "-k", str(folder), "-F"]
    argv = _as_postgres(str(_programs() / "postgres"), "-D", str(folder / "data"), *settings)
    with (folder / "log").open("wb") as log:
        server.process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield server
    finally:
        server.signal_all(signal.SIGCONT)
        server.process.send_signal(signal.SIGINT)  # fast shutdown
        server.process.wait(20)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="guard-pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with _folder() as folder:
        data = folder / "data"
        initdb = [str(_programs() / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(_as_postgres(*initdb), check=True, capture_output=True)
        hba = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (data / "pg_hba.conf").write_text(hba)
        with _running(folder) as server:
            _wait(server)
            yield server


@pytest.fixture
def replica(postgres: Postgres) -> Iterator[Postgres]:
    """A streaming replica of ``postgres``."""
    with _folder() as folder:
        source = f"host={postgres.folder} port={postgres.port} user=postgres"
        copy = [str(_programs() / "pg_basebackup"), "-D", str(folder / "data"), "-d", source, "-R", "-c", "fast", "-N"]
        subprocess.run(_as_postgres(*copy), check=True, capture_output=True)
        with _running(folder) as server:
            deadline = time.monotonic() + 30
            while not _streams(server):
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
            yield server


def _streams(server: Postgres) -> bool:
    try:
        return server.run("select 1 from pg_stat_wal_receiver where status = 'streaming'") != []
    except psycopg.OperationalError:
        return False


def _wait(server: Postgres) -> None:
    maintenance = server.local.replace("warehouse", "postgres")
    deadline = time.monotonic() + 30
    while True:
        try:
            with psycopg.connect(maintenance, autocommit=True) as connection:
                connection.execute("create role guard login password 'hunter2'")
                connection.execute("create database warehouse owner guard")
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, (server.folder / "log").read_text()
            time.sleep(0.05)
