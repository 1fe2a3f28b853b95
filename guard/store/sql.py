"""The store as one object: its parts, side by side, over one database."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from guard.store.audit import SqlAudit
from guard.store.database import Database
from guard.store.holds import SqlHolds
from guard.store.journal import SqlJournal
from guard.store.leases import SqlLeases
from guard.store.ledger import SqlLedger
from guard.store.observations import SqlObservations


class SqlStore(SqlLeases, SqlJournal, SqlLedger, SqlObservations, SqlHolds, SqlAudit):
    """``guard.ports.Store`` and ``verify_audit``. Every write is one transaction; safe in any thread."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


if TYPE_CHECKING:
    from guard.ports import Store

    def _fits_the_port(store: SqlStore) -> Store:
        return store
