"""A gate on a real terminal: a live view there, plain lines in CI on the same one."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest
from guard_command import GUARD, Guard

from guard.demo.fleet import Fleet


def on_a_terminal(guard: Guard, *arguments: str, **environ: str) -> tuple[int, str]:
    """Run on a pseudo-terminal of 80 columns; exit code and all that was written to it."""
    own = {**guard.environment, "GUARD_CONFIG": str(guard.config), "GUARD_STATE_DIR": str(guard.state), "COLUMNS": "80"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [GUARD, *arguments], cwd=guard.folder, env={**own, **environ}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:
        pass  # Linux says so when the other end is closed
    finally:
        os.close(ours)
    return process.wait(60), written.decode()


@pytest.mark.parametrize(
    ("environ", "moves", "coloured"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm-256color", "CI": "true"}, False, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_a_gate_is_shown_as_the_terminal_can(
    guard: Guard, fleet: Fleet, environ: dict[str, str], moves: bool, coloured: bool
) -> None:
    code, text = on_a_terminal(guard, "gate", "web", "--for", "2s", **environ)
    assert code == 0, text
    assert ("\x1b[2K" in text) is moves, "the view below the lines is drawn again and again"
    assert ("\x1b[32m" in text) is coloured
    assert "HEALTHY" in text and "web/http@web1" in text
