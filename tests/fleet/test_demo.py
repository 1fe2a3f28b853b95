"""``guard demo`` tells its story on hosts of its own, and nothing of them is left, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FLEETS = Path("/run/guard-fleet")


def demo() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [Path(sys.executable).with_name("guard"), "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left() -> set[str]:
    return {path.name for path in FLEETS.iterdir() if path.is_dir()} if FLEETS.is_dir() else set()


def test_the_demo_rolls_a_bad_deploy_back_and_proves_it() -> None:
    before = left()
    with demo() as process:
        out, _ = process.communicate(timeout=90)
    assert process.returncode == 0, out
    assert "RESTORED and verified" in out
    assert out.count('{"status":"ok","version":"1.0.0"}') == 6
    assert left() <= before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_cleans_up(number: signal.Signals) -> None:
    before = left()
    with demo() as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "2/3" in line:
                break
        os.killpg(process.pid, number)
        process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number)
    assert left() <= before
