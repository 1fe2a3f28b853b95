"""``python -m tests.faults``: the whole crash matrix, also what is skipped by default because it is the same event."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    here = Path(__file__).with_name("test_crash_points.py")
    sys.exit(pytest.main([str(here), "--crash-points=all", "-q", *sys.argv[1:]]))
