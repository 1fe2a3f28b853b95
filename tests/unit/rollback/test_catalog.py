"""Finding playbook versions, and refusing what was changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from guard.errors import PlaybookError
from guard.model import PlaybookRef
from guard.rollback.catalog import Catalog, digest_of, load, shipped_path, write_digest


def install(root: Path, name: str, version: str, text: str = "- hosts: all\n") -> Path:
    folder = root / name / version
    (folder / "library").mkdir(parents=True)
    (folder / "restore.yml").write_text(text)
    (folder / "library" / "thing.py").write_text("print()\n")
    (folder / "manifest.yml").write_text(
        f'name: {name}\nversion: "{version}"\ndescription: A test.\nentry_points: {{restore: restore.yml}}\n'
    )
    write_digest(folder)
    return folder


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    root = tmp_path / "shipped"
    for version in ("1.0.0", "1.2.0", "1.10.1", "2.0.0"):
        install(root, "container", version)
    return root


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        ("container@1", "1.10.1"),
        ("container@1.2", "1.2.0"),
        ("container@1.0.0", "1.0.0"),
        ("container@2", "2.0.0"),
    ],
)
def test_a_version_prefix_finds_the_newest_that_begins_with_it(shipped: Path, wanted: str, version: str) -> None:
    assert Catalog(shipped=shipped).resolve(wanted).reference.version == version


def test_a_users_folder_comes_before_the_shipped_one_even_when_it_is_older(shipped: Path, tmp_path: Path) -> None:
    install(tmp_path / "mine", "container", "1.1.0")
    found = Catalog([tmp_path / "mine"], shipped).resolve("container@1")
    assert (found.reference.version, found.shipped) == ("1.1.0", False)
    assert Catalog([tmp_path / "mine"], shipped).resolve("container@2").shipped


def test_a_playbook_path_that_does_not_exist_is_like_an_empty_one(shipped: Path, tmp_path: Path) -> None:
    assert Catalog([tmp_path / "nowhere"], shipped).resolve("container@2").reference.version == "2.0.0"


@pytest.mark.parametrize(
    "wanted", ["container", "container@", "container@1.x", "../container@1", "-c@1", "c@01", "@1", ""]
)
def test_what_does_not_name_a_version_is_refused_with_an_example(shipped: Path, wanted: str) -> None:
    with pytest.raises(PlaybookError, match="container@1") as error:
        Catalog(shipped=shipped).resolve(wanted)
    assert error.value.exit_code == 2


def test_a_missing_version_is_answered_with_the_installed_ones(shipped: Path) -> None:
    with pytest.raises(PlaybookError) as error:
        Catalog(shipped=shipped).resolve("container@3")
    assert "container@1.10.1" in str(error.value)
    assert str(shipped) in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "restore.yml").write_text("- hosts: none\n"),
        lambda folder: (folder / "library" / "thing.py").unlink(),
        lambda folder: (folder / "library" / "extra.py").write_text(""),
        lambda folder: (folder / "restore.yml").rename(folder / "restore2.yml"),
        lambda folder: (folder / ".hidden").write_text("x"),
        lambda folder: (folder / "manifest.yml").write_text(
            (folder / "manifest.yml").read_text().replace("A test.", "Another.")
        ),
    ],
    ids=["changed", "removed", "added", "renamed", "hidden", "manifest"],
)
def test_a_changed_folder_is_refused_with_both_digests(shipped: Path, change: object) -> None:
    folder = shipped / "container" / "2.0.0"
    expected = load(folder).reference.digest
    change(folder)  # type: ignore[operator]
    with pytest.raises(PlaybookError) as error:
        Catalog(shipped=shipped).resolve("container@2")
    if "not a playbook file" not in str(error.value):  # the renamed one is caught even earlier
        assert expected in str(error.value)
        assert str(error.value).count("sha256:") == 2


def test_what_python_leaves_behind_does_not_change_the_digest(shipped: Path) -> None:
    folder = shipped / "container" / "2.0.0"
    (folder / "library" / "__pycache__").mkdir()
    (folder / "library" / "__pycache__" / "thing.cpython-311.pyc").write_bytes(b"x")
    (folder / "library" / "old.pyc").write_bytes(b"x")
    assert "library/old.pyc" not in Catalog(shipped=shipped).resolve("container@2").files


def test_the_digest_is_the_documented_one() -> None:
    files = {"b/x.py": b"1", "a.yml": b"2", "manifest.yml": b"name: x\ndigest: sha256:00\nversion: 1\n"}
    lines = "".join(
        f"{path}\0{hashlib.sha256(content).hexdigest()}\n"
        for path, content in [("a.yml", b"2"), ("b/x.py", b"1"), ("manifest.yml", b"name: x\nversion: 1\n")]
    )
    assert digest_of(files) == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def test_a_link_that_leaves_the_folder_is_refused(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    (shipped / "container" / "2.0.0" / "link.yml").symlink_to(tmp_path / "outside")
    with pytest.raises(PlaybookError, match="leaves the playbook folder"):
        Catalog(shipped=shipped).resolve("container@2")


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ("name: x\nversion: 1.0.0\n", "but its folder is"),
        ("name: container\nversion: 2.0.0\nentry_point: {}\n", "unknown key 'entry_point'"),
        ("name: container\nversion: 2.0.0\nentry_points: {restore: ../restore.yml}\n", "not a playbook file"),
        ("name: container\nversion: 2.0.0\nentry_points: [restore]\n", "at least one playbook"),
        ("name: container\nversion: 2.0.0\ndigest: md5\nentry_points: {restore: restore.yml}\n", "64 hex digits"),
        ("name: container\nversion: 2.0.0\nentry_points: {restore: restore.yml}\n", "has no digest"),
        ("- a list\n", "not a mapping"),
        ("{", "not YAML"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong_and_where(shipped: Path, manifest: str, told: str) -> None:
    (shipped / "container" / "2.0.0" / "manifest.yml").write_text(manifest)
    with pytest.raises(PlaybookError, match=told) as error:
        Catalog(shipped=shipped).resolve("container@2")
    assert "2.0.0/manifest.yml" in str(error.value)


def test_without_entry_points_every_playbook_beside_the_manifest_is_one(shipped: Path) -> None:
    folder = shipped / "container" / "2.0.0"
    (folder / "prepare.yml").write_text("- hosts: all\n")
    (folder / "manifest.yml").write_text("name: container\nversion: 2.0.0\n")
    write_digest(folder)
    found = load(folder)
    assert found.manifest.entry_points == {"prepare": "prepare.yml", "restore": "restore.yml"}
    with pytest.raises(PlaybookError, match="cannot snapshot: it offers prepare, restore"):
        found.entry("snapshot")


def test_all_lists_every_version_and_says_what_is_wrong_with_a_broken_one(shipped: Path) -> None:
    (shipped / "container" / "1.2.0" / "restore.yml").write_text("changed")
    listed = Catalog(shipped=shipped).all()
    assert [one.version for one in listed] == ["2.0.0", "1.10.1", "1.2.0", "1.0.0"]
    assert [bool(one.problem) for one in listed] == [False, False, True, False]


def test_a_plan_finds_the_very_version_it_was_made_with(shipped: Path) -> None:
    catalog = Catalog(shipped=shipped)
    reference = catalog.resolve("container@1").reference
    assert catalog.exactly(reference).reference == reference
    with pytest.raises(PlaybookError, match="not the one in the plan"):
        catalog.exactly(PlaybookRef(reference.name, reference.version, "sha256:" + "0" * 64))


def test_a_name_alone_is_its_newest_version(shipped: Path, tmp_path: Path) -> None:
    assert Catalog(shipped=shipped).newest("container").reference.version == "2.0.0"
    install(tmp_path / "mine", "container", "1.1.0")
    assert Catalog([tmp_path / "mine"], shipped).newest("container").reference.version == "1.1.0"
    with pytest.raises(PlaybookError, match="not installed"):
        Catalog(shipped=shipped).newest("compose")


def test_guards_own_playbooks_are_found_in_a_source_checkout() -> None:
    assert (shipped_path() / "container").is_dir()
