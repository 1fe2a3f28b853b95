from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.errors import StateError
from guard.model import Phase, ReleaseState, RollbackOutcome
from guard.store import open_store
from guard.store.sql import SqlStore
from tests.samples_store import NOW, gate, hold, later, plan, release, restored, rollback, seen


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    with open_store("sqlite", tmp_path) as opened:
        yield opened


def change_everything(store: SqlStore) -> None:
    lease = store.acquire("web", "alice", 5)
    store.add_release(release())
    store.set_release_state("rel1", ReleaseState.GOOD, "well for 10 m")
    store.begin_gate(gate())
    store.begin_rollback(rollback(), plan(), "k")
    store.set_phase("r1", Phase.SWAPPING)
    store.record_host("r1", restored())
    store.end_rollback("r1", RollbackOutcome.RESTORED, verified=True, reason="", ended_at=later(1))
    store.end_gate(gate())
    store.set_hold(hold(later(60)))
    store.clear_hold("web", NOW)
    store.release(lease)


def kinds(folder: Path) -> list[str]:
    database = sqlite3.connect(folder / "guard.db")
    found = [kind for (kind,) in database.execute("SELECT kind FROM audit ORDER BY seq")]
    database.close()
    return found


def test_every_change_leaves_a_row_and_the_chain_holds(store: SqlStore, tmp_path: Path) -> None:
    change_everything(store)
    store.add_observations([seen()], {})
    assert kinds(tmp_path) == [
        "lease_taken",
        "release_added",
        "release_state",
        "gate_begun",
        "rollback_begun",
        "rollback_phase",
        "rollback_host",
        "rollback_ended",
        "gate_ended",
        "hold_set",
        "hold_cleared",
        "lease_released",
    ]
    assert store.verify_audit() == 12


def test_a_change_that_failed_leaves_no_row(store: SqlStore) -> None:
    store.acquire("web", "alice", 5)
    with pytest.raises(StateError):
        store.record_host("nope", restored())
    assert store.verify_audit() == 1


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("UPDATE audit SET body = replace(body, 'well', 'ill') WHERE seq = 3", "row 3"),
        ("UPDATE audit SET at = at + 1 WHERE seq = 1", "row 1"),
        ("UPDATE audit SET subject = 'r2' WHERE seq = 7", "row 7"),
        ("UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 4) WHERE seq = 5", "row 5"),
        ("DELETE FROM audit WHERE seq = 6", "row 6"),
        ("DELETE FROM audit WHERE seq = 1", "row 1"),
        ("DELETE FROM audit WHERE seq > 10", "after 10"),
        ("DELETE FROM audit", "after 0"),
        ("INSERT INTO audit SELECT 13, at, kind, subject, body, hash FROM audit WHERE seq = 12", "row 13"),
    ],
)
def test_an_edited_audit_is_found_and_the_row_named(store: SqlStore, tmp_path: Path, damage: str, named: str) -> None:
    change_everything(store)
    database = sqlite3.connect(tmp_path / "guard.db")
    with database:
        database.execute(damage)
    database.close()
    with pytest.raises(StateError, match=named):
        store.verify_audit()
