"""A playbook of one's own: copied, changed, signed with its digest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from guard.errors import PlaybookError
from guard.rollback.catalog import Catalog, load
from guard.rollback.eject import eject

GUARD = Path(sys.executable).with_name("guard")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "playbooks"
    folder.mkdir()
    return folder


def test_a_copy_has_its_own_name_version_and_digest_and_the_same_content(mine: Path) -> None:
    catalog = Catalog([mine])
    source = catalog.newest("container")
    folder = eject(catalog, source, "my-name", mine)
    copy = catalog.resolve("my-name@1")
    assert copy.folder == folder == mine / "my-name" / "1.0.0"
    assert (copy.reference.name, copy.reference.version) == ("my-name", "1.0.0")
    assert copy.reference.digest != source.reference.digest
    assert copy.manifest.entry_points == source.manifest.entry_points
    assert {path: text for path, text in copy.files.items() if path != "manifest.yml"} == {
        path: text for path, text in source.files.items() if path != "manifest.yml"
    }
    assert [path.name for path in mine.iterdir()] == ["my-name"]


@pytest.mark.parametrize(
    "name", ["", "..", "../evil", "a/b", "/etc", "-rf", "My-Name", "a b", "{{ x }}", "a\n", "ü", "a" * 64, "."]
)
def test_a_hostile_name_is_refused_and_nothing_is_written(mine: Path, name: str) -> None:
    catalog = Catalog([mine])
    with pytest.raises(PlaybookError, match="cannot name a playbook"):
        eject(catalog, catalog.newest("container"), name, mine)
    assert list(mine.iterdir()) == []
    assert [path.name for path in mine.parent.iterdir()] == ["playbooks"]


def test_nothing_is_overwritten_and_no_name_is_taken(mine: Path, tmp_path: Path) -> None:
    catalog = Catalog([mine])
    source = catalog.newest("container")
    with pytest.raises(PlaybookError, match="playbook container already"):
        eject(catalog, source, "container", mine)
    eject(catalog, source, "my-name", mine)
    with pytest.raises(PlaybookError, match="playbook my-name already"):
        eject(catalog, source, "my-name", tmp_path / "elsewhere")
    (mine / "other").mkdir()
    (mine / "other" / "notes.txt").write_text("mine")
    with pytest.raises(PlaybookError, match="exists already"):
        eject(catalog, source, "other", mine)
    (mine / "link").symlink_to(tmp_path / "far")
    with pytest.raises(PlaybookError, match="exists already"):
        eject(catalog, source, "link", mine)
    assert (mine / "other" / "notes.txt").read_text() == "mine"


def guard(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(GUARD), *arguments], cwd=folder, capture_output=True, text=True, check=False)


CONFIG = "services:\n  - {name: web, checks: [{type: docker}]}\n"


def test_the_commands_copy_and_say_what_is_next_and_give_the_digest(tmp_path: Path) -> None:
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "guard.yml").write_text(f"playbook_path: playbooks\n{CONFIG}")
    ran = guard(tmp_path, "playbooks", "eject", "container", "my-name")
    assert ran.returncode == 0, ran
    folder = tmp_path / "playbooks" / "my-name" / "1.0.0"
    assert "rollback: {playbook: my-name@1}" in ran.stdout
    assert "playbook_path" not in ran.stdout
    (folder / "swap.yml").write_text((folder / "swap.yml").read_text() + "# mine\n")
    printed = json.loads(guard(tmp_path, "playbooks", "digest", str(folder), "--output", "json").stdout)["digest"]
    with pytest.raises(PlaybookError, match=printed):
        load(folder)
    assert guard(tmp_path, "playbooks", "digest", str(folder), "--write").stdout.strip() == printed
    assert load(folder).reference.digest == printed
    listed = json.loads(guard(tmp_path, "--output", "json", "playbooks").stdout)["playbooks"]
    assert [one["name"] for one in listed if not one["shipped"]] == ["my-name"]


def test_without_a_playbook_path_it_asks_for_a_folder_and_then_says_what_to_add(tmp_path: Path) -> None:
    (tmp_path / "guard.yml").write_text(CONFIG)
    ran = guard(tmp_path, "playbooks", "eject", "container", "my-name")
    assert ran.returncode == 2
    assert "--to" in ran.stderr
    ran = guard(tmp_path, "playbooks", "eject", "container@1.0.0", "my-name", "--to", "own")
    assert ran.returncode == 0, ran
    assert f"playbook_path: {tmp_path / 'own'}" in ran.stdout
    assert load(tmp_path / "own" / "my-name" / "1.0.0").reference.name == "my-name"
