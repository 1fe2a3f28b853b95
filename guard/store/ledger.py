"""Releases: what ran where, and whether it is trusted."""

from __future__ import annotations

from sqlalchemy import exists, insert, select, update

from guard.errors import StateError
from guard.model import Release, ReleaseState
from guard.store import audit, codec
from guard.store.database import Database
from guard.store.schema import releases


class SqlLedger:
    def __init__(self, database: Database) -> None:
        self._db = database

    def add_release(self, release: Release) -> None:
        with self._db.write() as connection:
            if connection.scalar(select(exists().where(releases.c.id == release.id))):
                raise StateError(f"release {release.id} is on record already")
            row = {
                "id": release.id,
                "service": release.service,
                "state": release.state.value,
                "origin": release.origin,
                "hosts": codec.images_document(release.hosts),
                "healthy": release.healthy,
                "reason": release.reason,
                "irreversible": release.irreversible,
            }
            connection.execute(insert(releases).values(**row, recorded_at=release.recorded_at))
            audit.append(connection, "release_added", release.id, row)

    def set_release_state(self, release_id: str, state: ReleaseState, reason: str) -> None:
        with self._db.write() as connection:
            change = update(releases).where(releases.c.id == release_id).values(state=state.value, reason=reason)
            if not connection.execute(change).rowcount:
                raise StateError(f"no release {release_id} is on record")
            audit.append(connection, "release_state", release_id, {"state": state.value, "reason": reason})

    def releases(self, service: str) -> tuple[Release, ...]:
        """Newest first."""
        newest = (releases.c.recorded_at.desc(), releases.c.seq.desc())
        with self._db.read() as connection:
            rows = connection.execute(select(releases).where(releases.c.service == service).order_by(*newest)).all()
        return tuple(
            Release(
                id=row.id,
                service=row.service,
                state=ReleaseState(row.state),
                origin=row.origin,
                recorded_at=row.recorded_at,
                hosts=codec.images(row.hosts),
                healthy=row.healthy,
                reason=row.reason,
                irreversible=row.irreversible,
            )
            for row in rows
        )
