"""Everything that differs between databases, in one place: connecting, `now`, upserts, and what an error means."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import QueuePool, StaticPool
from sqlalchemy.sql.expression import FunctionElement

from guard.errors import StoreUnavailable

BUSY_TIMEOUT_S = 10.0
WRITE = "guard_write"
"""Execution option of a connection that is going to write."""


class now_s(FunctionElement[float]):
    """Seconds since the epoch on the database's clock, not on this machine's."""

    name = "now_s"
    type = Double()
    inherit_cache = True


@compiles(now_s, "sqlite")
def _now_in_sqlite(_element: now_s, _compiler: object, **_: object) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"  # unixepoch('subsec') needs SQLite 3.42


@compiles(now_s, "postgresql")
def _now_in_postgresql(_element: now_s, _compiler: object, **_: object) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def _dialect_insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def insert_if_absent(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    connection.execute(_dialect_insert(connection, table).values(row).on_conflict_do_nothing())


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows by primary key. Every row has the same keys."""
    if not rows:
        return
    statement = _dialect_insert(connection, table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))


def sqlite_engine(path: Path) -> Engine:
    """An engine over an existing file. One writer at a time; what is committed is on the disk."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,  # the "begin" event below says which transaction it is
            check_same_thread=False,  # the pool hands a connection to one thread at a time
        )
        try:
            _set_up(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection

    return _with_explicit_begin(create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=4))


def empty_engine() -> Engine:
    """A database in memory, for reading where nothing has been written yet."""
    options = {"isolation_level": None, "check_same_thread": False}
    return _with_explicit_begin(create_engine("sqlite://", connect_args=options, poolclass=StaticPool))


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    # Changing to WAL does not wait for the busy time-out, so two guards that create the file at once could collide.
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            if mode != "wal" and os.access(path, os.W_OK):
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            if _kind(error) != "BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StoreUnavailable(
            f"{path} cannot use a write-ahead log (journal mode is {mode})",
            hint="the state folder must be writable and on a local disk, not on a network file system",
        )


def _with_explicit_begin(engine: Engine) -> Engine:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes the write lock first: one that reads, then wants to write, can fail without having waited.
        writes = connection.get_execution_options().get(WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def translated(where: str) -> Iterator[None]:
    """The one boundary where a database's exceptions become guard's. The cause is kept."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable(f"{where}: too many reads at once", hint="try again") from error
    except DBAPIError as error:
        what, hint = _explain(error.orig, where)
        raise StoreUnavailable(f"{where}: {what}", hint=hint) from error


def _kind(error: BaseException | None) -> str:
    """``BUSY`` of ``SQLITE_BUSY_RECOVERY``; "" for an error of the driver itself."""
    name = getattr(error, "sqlite_errorname", None)
    return str(name).split("_")[1] if name else ""


def _explain(error: BaseException | None, where: str) -> tuple[str, str]:
    text = str(error).strip() or type(error).__name__
    match _kind(error):
        case "CORRUPT" | "NOTADB":
            return (
                f"the database is damaged ({text})",
                f"keep it for inquiry and start afresh: mv {where} {where}.damaged, or put a backup there",
            )
        case "FULL":
            return f"the disk is full ({text})", "free some space on that file system; nothing was started or changed"
        case "BUSY" | "LOCKED":
            return (
                f"another process has kept it locked for {BUSY_TIMEOUT_S:g} s ({text})",
                f"see who has it open: fuser -v {where}",
            )
        case "READONLY" | "PERM" | "AUTH" | "CANTOPEN":
            return (
                f"it cannot be opened or written ({text})",
                f"its owner must be the user that runs guard, with write permission: ls -l {where}*",
            )
        case "IOERR":
            return f"reading or writing the disk failed ({text})", "look for disk errors and a full disk: dmesg, df"
    return text, "see the log for the whole error"


def close(engine: Engine) -> None:
    with suppress(DBAPIError):  # every write is committed already; only the log's last checkpoint could fail here
        engine.dispose()
