from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

import guard.store.migrations
from guard.errors import StateError
from guard.store import open_store
from guard.store.engine import now_s
from guard.store.schema import REVISIONS, from_micros, metadata, to_micros

Shape = dict[str, object]


def shape(path: Path) -> Shape:
    """Columns, keys and indexes as the database itself tells them."""
    database = sqlite3.connect(path)
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found: Shape = {}
    for table in tables:
        indexes = database.execute(f"PRAGMA index_list({table})").fetchall()
        found[table] = (
            # Alembic makes its own table a little differently; of the columns, the order does not matter
            {(*row[1:4], bool(row[5])) for row in database.execute(f"PRAGMA table_info({table})")},
            {
                (unique, tuple(row[2] for row in database.execute(f"PRAGMA index_info('{name}')")))
                for _, name, unique, *_ in indexes
            },
            {row[2:5] for row in database.execute(f"PRAGMA foreign_key_list({table})")},
        )
    database.close()
    return found


def set_revision(folder: Path, revision: str | None) -> None:
    database = sqlite3.connect(folder / "guard.db")
    with database:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) PRIMARY KEY NOT NULL)")
        database.execute("DELETE FROM alembic_version")
        if revision is not None:
            database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    database.close()


def test_a_migrated_database_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    set_revision(tmp_path / "moved", None)  # older than the first version: every migration runs
    with open_store("sqlite", tmp_path / "moved") as moved:
        moved.release(moved.acquire("web", "alice", 5))
        assert moved.verify_audit() == 2
    open_store("sqlite", tmp_path / "new").close()
    assert shape(tmp_path / "moved" / "guard.db") == shape(tmp_path / "new" / "guard.db")


def test_the_constant_names_the_revisions_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(guard.store.migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert tuple(each.revision for each in script.walk_revisions())[::-1] == REVISIONS


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    set_revision(tmp_path, None)
    before = shape(tmp_path / "guard.db")

    def fail(*_: object) -> None:
        raise RuntimeError("half way")

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(RuntimeError, match="half way"):
        open_store("sqlite", tmp_path)
    assert shape(tmp_path / "guard.db") == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_a_newer_guard_is_not_touched(tmp_path: Path, read_only: bool) -> None:
    open_store("sqlite", tmp_path).close()
    set_revision(tmp_path, "9999")
    with pytest.raises(StateError, match=r"9999(?s:.)*newer guard") as error:
        open_store("sqlite", tmp_path, read_only)
    assert error.value.exit_code == 1


def test_an_older_database_is_not_moved_by_a_reader(tmp_path: Path) -> None:
    set_revision(tmp_path, None)
    before = shape(tmp_path / "guard.db")
    with pytest.raises(StateError, match="guard snapshot"):
        open_store("sqlite", tmp_path, read_only=True)
    assert shape(tmp_path / "guard.db") == before


def test_the_tables_can_be_made_in_postgresql_as_well() -> None:
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
        assert all(str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes)
    assert "clock_timestamp()" in str(now_s().compile(dialect=dialect))


def test_a_time_is_kept_to_the_microsecond_and_needs_a_timezone() -> None:
    moment = datetime(2286, 11, 20, 17, 46, 39, 999999, tzinfo=UTC)
    assert from_micros(to_micros(moment)) == moment
    with pytest.raises(ValueError, match="timezone"):
        to_micros(moment.replace(tzinfo=None))
