from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.errors import ConfigError, StateError, StoreUnavailable
from guard.store import engine, open_store
from tests.samples_store import NOW, hold, later, plan, rollback


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def fresh_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def wide_open() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("wide_open")
def test_only_the_owner_can_read_what_guard_creates(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    with open_store("sqlite", folder) as store:
        store.set_hold(hold(later(60)))
        assert mode(folder) == 0o700
        assert {each.name: mode(each) for each in folder.iterdir()} == {
            "guard.db": 0o600,
            "guard.db-wal": 0o600,
            "guard.db-shm": 0o600,
        }


def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    open_store("sqlite", tmp_path).close()
    (tmp_path / "guard.db").chmod(0o644)
    open_store("sqlite", tmp_path).close()
    assert mode(tmp_path / "guard.db") == 0o600


def test_a_state_folder_that_cannot_be_made_says_where_who_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError) as error:
        open_store("sqlite", tmp_path / "file" / "state")
    assert str(tmp_path / "file" / "state") in error.value.message
    assert "as user" in error.value.message
    assert error.value.hint is not None
    assert "--state-dir" in error.value.hint


def test_a_state_folder_of_somebody_else_is_a_state_error() -> None:
    code = """
import os, sys
from pathlib import Path
from guard.errors import StateError
from guard.store import open_store
import guard.store.opening
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    open_store("sqlite", Path(sys.argv[1]))
except StateError as error:
    print(type(error).__name__, error)
"""
    folder = Path(tempfile.mkdtemp())  # not below pytest's own folder, which only its user may enter
    try:
        folder.chmod(0o555)
        result = fresh_python(code, str(folder))
    finally:
        shutil.rmtree(folder)
    assert f"StateError the state folder {folder} is not writable for user" in result.stdout, result.stderr


@pytest.mark.parametrize("value", ["postgresql://guard:s3cret@db/guard", "mysql://x", "", "/tmp/guard.db"])
def test_a_store_guard_does_not_know_is_a_configuration_error_without_the_password(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        open_store(value, tmp_path / "state")
    assert "s3cret" not in str(error.value)
    assert not (tmp_path / "state").exists()


def test_what_is_not_a_database_is_called_damaged_and_left_alone(tmp_path: Path) -> None:
    damaged = b"this is not a database " * 100
    (tmp_path / "guard.db").write_bytes(damaged)
    with pytest.raises(StoreUnavailable, match="damaged") as error:
        open_store("sqlite", tmp_path)
    assert error.value.hint is not None
    assert str(tmp_path / "guard.db") in error.value.hint
    assert (tmp_path / "guard.db").read_bytes() == damaged


def test_pages_torn_later_are_called_damaged_too(tmp_path: Path) -> None:
    with open_store("sqlite", tmp_path) as store:
        for number in range(50):
            store.begin_rollback(rollback(f"r{number}"), plan(), f"k{number}")
    content = bytearray((tmp_path / "guard.db").read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    (tmp_path / "guard.db").write_bytes(content)
    with pytest.raises(StoreUnavailable, match="damaged"), open_store("sqlite", tmp_path) as store:
        store.rollbacks()


def test_a_full_disk_fails_the_write_and_what_was_there_stays_readable(tmp_path: Path) -> None:
    with open_store("sqlite", tmp_path) as store:
        store.begin_rollback(rollback(), plan(), "k")
        with store._db.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # the connection that writes next
        with pytest.raises(StoreUnavailable, match="disk is full") as error:
            for number in range(1000):
                store.begin_rollback(rollback(f"x{number}"), plan(), f"x{number}")
        assert error.value.hint
        assert store.rollback("r1") == rollback()
        store.verify_audit()


def test_a_database_locked_by_another_process_is_unavailable_for_writing_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.05)
    with open_store("sqlite", tmp_path) as store:
        other = sqlite3.connect(tmp_path / "guard.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.set_hold(hold(later(60)))
        assert store.hold("web", NOW) is None
        other.execute("ROLLBACK")
        other.close()
        store.set_hold(hold(later(60)))


def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    with open_store("sqlite", tmp_path) as store, store._db.write() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")]
    assert settings == [2, "wal"]


def test_reading_where_nothing_was_written_finds_nothing_and_creates_nothing(tmp_path: Path) -> None:
    with open_store("sqlite", tmp_path / "state", read_only=True) as store:
        assert store.rollbacks() == store.releases("web") == ()
        assert store.verify_audit() == 0
    assert not (tmp_path / "state").exists()


def test_a_reader_sees_what_another_has_committed_and_cannot_write(tmp_path: Path) -> None:
    with open_store("sqlite", tmp_path) as writer, open_store("sqlite", tmp_path, read_only=True) as reader:
        assert reader.hold("web", NOW) is None
        writer.set_hold(hold(later(60)))
        assert reader.hold("web", NOW) == hold(later(60))
        with pytest.raises(StateError, match="reading only"):
            reader.set_hold(hold(later(90)))


def test_importing_the_store_loads_no_database_library_and_opening_a_current_one_no_alembic(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import guard.store
assert not {"sqlalchemy", "alembic"} & sys.modules.keys(), "import"
guard.store.open_store("sqlite", Path(sys.argv[1])).close()
assert not {"alembic", "psycopg"} & sys.modules.keys(), "open"
"""
    for _ in ("fresh", "existing"):
        result = fresh_python(code, str(tmp_path))
        assert result.returncode == 0, result.stderr
