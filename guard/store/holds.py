"""Holds: one named, expiring reason per service not to roll back. Earlier ones are in the audit."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select

from guard.model import Hold
from guard.store import audit
from guard.store.database import Database
from guard.store.engine import upsert
from guard.store.schema import holds, to_micros


class SqlHolds:
    def __init__(self, database: Database) -> None:
        self._db = database

    def set_hold(self, hold: Hold) -> None:
        """Replaces the service's hold, if it has one."""
        with self._db.write() as connection:
            row = {"service": hold.service, "reason": hold.reason, "author": hold.author}
            upsert(connection, holds, [{**row, "created_at": hold.created_at, "until": hold.until}])
            audit.append(connection, "hold_set", hold.service, {**row, "until": to_micros(hold.until)})

    def clear_hold(self, service: str, at: datetime) -> bool:
        """True when a hold was in force at ``at``."""
        with self._db.write() as connection:
            until = connection.scalar(select(holds.c.until).where(holds.c.service == service))
            connection.execute(delete(holds).where(holds.c.service == service))
            if until is None or until <= at:
                return False
            audit.append(connection, "hold_cleared", service, {"at": to_micros(at)})
        return True

    def hold(self, service: str, at: datetime) -> Hold | None:
        """The hold in force at ``at``; at ``until`` itself it has ended."""
        with self._db.read() as connection:
            found = select(holds).where(holds.c.service == service, holds.c.until > at)
            row = connection.execute(found).one_or_none()
        return None if row is None else Hold(row.service, row.reason, row.author, row.created_at, row.until)
