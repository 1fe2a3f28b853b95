from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from guard.config.load import load
from guard.config.schema import GuardConfig

Read = Callable[..., GuardConfig]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a file into a folder that has an inventory and load it, with the given environment."""
    (tmp_path / "inv").mkdir()

    def write_and_load(text: str, name: str = "guard.yml", **environ: str) -> GuardConfig:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return load(Path(name), environ, tmp_path)

    return write_and_load
