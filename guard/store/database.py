"""Transactions: a read sees one committed state, a write is on the disk when its block has ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from guard.errors import StateError
from guard.store.engine import WRITE, close, translated


class Database:
    """Shared by the parts of the store. Safe to use from several threads."""

    def __init__(self, engine: Engine, where: str, *, read_only: bool) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{WRITE: True})
        self._where = where
        self._read_only = read_only
        self._writing = threading.Lock()  # threads queue here; the database's own lock makes them poll

    @property
    def where(self) -> str:
        """How an operator finds it: a path, or an address without secrets."""
        return self._where

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with translated(self._where), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Commits at the end of the block, rolls back on any exception. StoreUnavailable when it could not commit."""
        if self._read_only:
            raise StateError(f"{self._where} was opened for reading only")
        with self._writing, translated(self._where), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        close(self._engine)
