"""Shell completion, through the very script that a shell is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = Path(sys.executable).with_name("guard")
CONFIG = """\
inventory: hosts.yml
services:
  - {name: web, hosts: web, checks: [{type: docker}]}
  - {name: worker, checks: [{type: docker}]}
"""
INVENTORY = "web: {hosts: {web1: {}, web2: {}, other: {}}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guard.yml").write_text(CONFIG)
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    return tmp_path


def bash(folder: Path, script: str) -> str:
    environ = {"PATH": f"{GUARD.parent}:{os.environ['PATH']}", "HOME": str(folder)}
    command = ["bash", "--noprofile", "--norc", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("guard ga", ["gate"]),
        ("guard gate w", ["web", "worker"]),
        ("guard gate web w", ["worker"]),
        ("guard rollback w", ["web", "worker"]),
        ("guard rollback web --limit web", ["web1", "web2"]),
        ("guard --config no-such-file.yml gate w", []),
    ],
)
def test_bash_is_offered_commands_services_and_hosts(folder: Path, words: str, offered: list[str]) -> None:
    parts = words.split()
    quoted = " ".join(parts)
    script = f"""eval "$(guard completion bash)"
        COMP_WORDS=({quoted}); COMP_CWORD={len(parts) - 1}; _guard_completion guard; printf '%s\\n' "${{COMPREPLY[@]}}" """
    assert bash(folder, script).split() == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(folder: Path, shell: str) -> None:
    script = bash(folder, f"guard completion {shell}")
    assert f"_GUARD_COMPLETE={shell}_complete" in script


def test_guard_alone_shows_its_help(folder: Path) -> None:
    done = subprocess.run([GUARD], capture_output=True, text=True, check=False, cwd=folder)
    assert done.stdout.startswith("Usage: guard")
    assert (done.returncode, done.stderr) == (0, "")
