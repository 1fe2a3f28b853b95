"""One suite, every store: the one in memory that other tests stand on, and the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.ports import Store
from guard.store import open_store
from tests.fakes_store import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with MemoryStore() if request.param == "memory" else open_store(request.param, tmp_path / "state") as opened:
        yield opened
