"""The database file stops growing, and a fold that is cut off loses and doubles nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from guard.model import Observation, State
from guard.store import hours, open_store
from tests.samples_store import NOW, later, seen, target

A_DAY = 86400


def day(number: int, count: int = 6000) -> list[Observation]:
    step = A_DAY / count
    return [seen(target(), later(number * A_DAY + each * step), State.HEALTHY, "answered 200") for each in range(count)]


def test_what_folding_frees_is_used_again_so_that_the_file_stops_growing(tmp_path: Path) -> None:
    sizes = []
    with open_store("sqlite", tmp_path) as store:
        for number in range(5):
            store.add_observations(day(number), {})
            store.fold(later((number + 1) * A_DAY), 1, 1_000_000)
            sizes.append(store._db._engine.raw_connection().execute("PRAGMA page_count").fetchone()[0])
    assert sizes[4] <= sizes[2] * 1.05
    assert sizes[4] < sizes[0] * 2.3


def test_a_fold_that_is_cut_off_counts_nothing_twice_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = day(0, 2500)
    add, steps = hours.add, []

    def cut_off(connection: object, rows: object) -> None:
        add(connection, rows)  # type: ignore[arg-type]
        steps.append(1)
        if len(steps) == 2:
            raise RuntimeError("killed")

    with open_store("sqlite", tmp_path) as store:
        store.add_observations(batch, {})
        monkeypatch.setattr(hours, "add", cut_off)
        with pytest.raises(RuntimeError, match="killed"):
            store.fold(later(3 * A_DAY), 1, 1_000_000)
        left = len(store.observations("web", NOW))
        assert left + sum(hour.healthy for hour in store.hours("web", NOW - timedelta(days=1))) == 2500
        assert 0 < left < 2500
        monkeypatch.undo()
        assert store.fold(later(3 * A_DAY), 1, 1_000_000) == left
        assert sum(hour.healthy for hour in store.hours("web", NOW - timedelta(days=1))) == 2500
