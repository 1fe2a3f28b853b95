"""From a configuration value and a state folder to a store whose schema this guard knows."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from guard.errors import ConfigError, StateError, StoreUnavailable
from guard.store.database import Database
from guard.store.engine import empty_engine, sqlite_engine
from guard.store.migrate import build, ensure_head
from guard.store.sql import SqlStore

FILE = "guard.db"


def open_sql_store(url_or_sqlite: str, state_dir: Path, read_only: bool) -> SqlStore:
    if url_or_sqlite != "sqlite":
        kind = url_or_sqlite.partition(":")[0]  # never more of it: an address may carry a password
        raise ConfigError(f"store: this version of guard cannot use {kind!r}", hint="expected: store: sqlite")
    path = state_dir / FILE
    if read_only and not path.exists():
        return _empty(path)
    if not read_only:
        _prepare_folder(state_dir)
        _prepare_file(path)
    database = Database(sqlite_engine(path), str(path), read_only=read_only)
    try:
        ensure_head(database, read_only=read_only)
    except BaseException:
        database.close()
        raise
    return SqlStore(database)


def _empty(path: Path) -> SqlStore:
    engine = empty_engine()
    with engine.begin() as connection:
        build(connection)
    return SqlStore(Database(engine, str(path), read_only=True))


def _prepare_folder(folder: Path) -> None:
    hint = "choose another with --state-dir or $GUARD_STATE_DIR, or give this user the right to write there"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"cannot create the state folder {folder} as user {_user()}: {error.strerror}", hint=hint
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StateError(f"the state folder {folder} is not writable for user {_user()}", hint=hint)


def _prepare_file(path: Path) -> None:
    """An own 0600 file; SQLite gives its log and index files the same mode."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot open {path} as user {_user()}: {error.strerror}",
            hint=f"its owner must be the user that runs guard: ls -l {path}",
        ) from error
    try:
        found = os.fstat(handle)
        if stat.S_IMODE(found.st_mode) & 0o077 and found.st_uid == os.geteuid():
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
