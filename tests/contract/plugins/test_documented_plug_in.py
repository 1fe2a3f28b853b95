"""The plug-in of the documentation, taken from there, installed, and used by the guard command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs" / "plug-ins.md"
GUARD = Path(sys.executable).with_name("guard")


def build(folder: Path, files: dict[str, str]) -> Path:
    """The place that ``pip`` has installed them to."""
    source, target = folder / "source", folder / "installed"
    source.mkdir()
    for name, text in files.items():
        (source / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True, text=True)
    return target


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = dict(re.findall(r"^`([\w.]+)`\n\n```\w+\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL))
    assert sorted(files) == ["guard_file_age.py", "pyproject.toml"]
    return build(tmp_path_factory.mktemp("plug-in"), files)


def guard(folder: Path, installed: Path, check: str, command: str = "check") -> subprocess.CompletedProcess[str]:
    (folder / "guard.yml").write_text(
        f"services:\n  - name: export\n    hosts: localhost\n    checks:\n      - {check}\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(installed), "GUARD_STATE_DIR": str(folder / "state")}
    argv = [str(GUARD), command, *(["--output", "json"] if command == "check" else [])]
    return subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=60)


def target(ran: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    [found] = json.loads(ran.stdout)["services"][0]["targets"]
    return found["last"]["state"], found["last"]["reason"]


def test_the_documented_check_measures_on_each_host(tmp_path: Path, installed: Path) -> None:
    check = f"{{type: file_age, path: '{tmp_path}/{{{{ inventory_hostname }}}}.csv', most_minutes: 90}}"
    missing = guard(tmp_path, installed, check)
    assert target(missing) == ("unhealthy", f"there is no file {tmp_path}/localhost.csv"), missing
    (tmp_path / "localhost.csv").touch()
    good = guard(tmp_path, installed, check)
    assert good.returncode == 0, good
    assert target(good) == ("healthy", f"{tmp_path}/localhost.csv is 0 min old")
    assert guard(tmp_path, installed, check, "validate").returncode == 0


@pytest.mark.parametrize(
    ("check", "key", "message"),
    [
        ("{type: file_age, path: /x, most_minute: 5}", "most_minute", "unknown key; did you mean most_minutes?"),
        ("{type: file_age}", "path", "missing: it has no default"),
        ("{type: file_age, path: /x, most_minutes: soon}", "most_minutes", "expected a valid number"),
        ("{type: file_age, path: /x, interval: 0s}", "interval", "longer than zero"),
        ("{type: file_age, path: '{{ x | upper }}'}", "path", "evaluates nothing"),
        ("{type: file_ages, path: /x}", "type", 'prometheus or file_age, got "file_ages"'),
    ],
)
def test_what_is_wrong_with_it_is_said_with_its_line_and_key(
    tmp_path: Path, installed: Path, check: str, key: str, message: str
) -> None:
    ran = guard(tmp_path, installed, check, "validate")
    assert ran.returncode == 2, ran
    assert f"guard.yml:5: services[0].checks[0].{key}: " in ran.stderr, ran.stderr
    assert message in ran.stderr


BROKEN = """
import asyncio
from guard.plugins import PluginSettings
class Raises:
    @classmethod
    def build(cls, settings, site): return cls()
    async def measure(self): raise RuntimeError("oh no")
class Hangs(Raises):
    async def measure(self): await asyncio.sleep(3600)
class Unbuildable(Raises):
    @classmethod
    def build(cls, settings, site): raise KeyError("what")
class Wrong(Raises):
    Settings = dict
"""
POINTS = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "broken"
version = "1"
[project.entry-points."guard.checks"]
raises = "broken:Raises"
hangs = "broken:Hangs"
unbuildable = "broken:Unbuildable"
wrong = "broken:Wrong"
gone = "broken_nowhere:X"
http = "broken:Raises"
[tool.setuptools]
py-modules = ["broken"]
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("broken"), {"pyproject.toml": POINTS, "broken.py": BROKEN})


@pytest.mark.parametrize(
    ("check", "state", "reason"),
    [
        ("{type: raises}", "unknown", "the check itself failed: RuntimeError: oh no"),
        ("{type: hangs, timeout: 500ms}", "unhealthy", "the check did not end within 0.5 s"),
        ("{type: http, url: 'http://127.0.0.1:1'}", "unhealthy", "connection refused at 127.0.0.1:1"),
    ],
)
def test_a_broken_plug_in_breaks_nothing_else(
    tmp_path: Path, broken: Path, check: str, state: str, reason: str
) -> None:
    assert target(guard(tmp_path, broken, check)) == (state, reason)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("gone", "the plug-in broken_nowhere:X for checks of type gone cannot be loaded: ModuleNotFoundError"),
        ("wrong", "its Settings must derive from guard.plugins.PluginSettings"),
        ("unbuildable", "check unbuildable: the plug-in broken:Unbuildable cannot make its probe: KeyError('what')"),
    ],
)
def test_a_plug_in_that_is_no_use_is_an_error_and_no_traceback(
    tmp_path: Path, broken: Path, kind: str, message: str
) -> None:
    ran = guard(tmp_path, broken, f"{{type: {kind}}}")
    assert ran.returncode == 2, ran
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
