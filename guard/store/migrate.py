"""Bringing a database to the schema of this guard.

A new database is built from the tables as they stand; an older one is moved by the migrations. Alembic is imported only
for that second case, because it costs a third of a second and memory that a watcher would keep. A test proves that both
ways lead to the same schema.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select

from guard.errors import StateError
from guard.store import audit
from guard.store.database import Database
from guard.store.schema import REVISIONS, meta, metadata, version

HEAD = REVISIONS[-1]


def ensure_head(database: Database, *, read_only: bool) -> None:
    """StateError: the database belongs to a newer guard, or is older and may not be written now."""
    with database.read() as connection:
        found = _revision(connection)
    if found == HEAD:
        return
    _refuse_newer(found, database.where)
    if read_only:
        raise StateError(
            f"{database.where} has schema {found or 'none'}, this guard needs {HEAD}",
            hint="run a command that may write to it, such as `guard snapshot` or `guard watch`: it is moved then",
        )
    with database.write() as connection:
        found = _revision(connection)  # another guard may have been faster
        _refuse_newer(found, database.where)
        if found is None:
            build(connection)
        elif found != HEAD:
            upgrade(connection)


def build(connection: Connection) -> None:
    """All tables in an empty database, marked as head."""
    metadata.create_all(connection)
    connection.execute(insert(version).values(version_num=HEAD))
    connection.execute(insert(meta).values(key=audit.HEAD, value=audit.START))


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the transaction of ``connection``."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    """The schema version on record; None for an empty database."""
    if not inspect(connection).has_table(version.name):
        return None
    return connection.scalar(select(version.c.version_num)) or ""


def _refuse_newer(found: str | None, where: str) -> None:
    if found and found not in REVISIONS:
        raise StateError(
            f"{where} has schema {found}, which this guard does not know (newest known: {HEAD})",
            hint="it was written by a newer guard: use that version, or another state folder",
        )
