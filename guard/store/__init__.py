"""All of guard's memory: leases, journal, ledger, observations, holds, audit.

One implementation over SQLAlchemy Core. SQLite in the state folder is the default; it wants a local disk. SQLAlchemy is
imported nowhere else in guard, and here only when a store is opened: ``import guard.store`` itself costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guard.store.holder import this_process

if TYPE_CHECKING:
    from guard.store.sql import SqlStore


def open_store(url_or_sqlite: str, state_dir: Path, read_only: bool = False) -> SqlStore:
    """Open (and where needed create or migrate) the store that the configuration's ``store`` names.

    ``"sqlite"`` is ``guard.db`` in ``state_dir``: the folder is created 0700, the file 0600. With ``read_only`` nothing
    is created, migrated or written; a database that does not exist yet reads as an empty one.

    ConfigError: not a store guard knows. StateError: the folder cannot be used, or the database belongs to a newer
    guard. StoreUnavailable: damaged, locked, or the disk is full.
    """
    from guard.store.opening import open_sql_store

    return open_sql_store(url_or_sqlite, state_dir, read_only)


__all__ = ["open_store", "this_process"]
