"""A copy of a playbook version for the user to change: with a name, a version and a digest of its own."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import yaml

from guard.errors import PlaybookError
from guard.rollback.catalog import MANIFEST, Catalog, Installed, write_digest

FIRST_VERSION = "1.0.0"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def eject(catalog: Catalog, source: Installed, name: str, root: Path) -> Path:
    """Write ``root/name/1.0.0`` and return it; all of it is there, or nothing. PlaybookError: refused, and why."""
    if not _NAME.fullmatch(name):
        raise PlaybookError(
            f"{name!r} cannot name a playbook", hint="a small letter, then small letters, digits, - and _, at most 63"
        )
    taken = [one for one in catalog.all() if one.name == name]
    if taken:
        raise PlaybookError(
            f"there is a playbook {name} already, in {taken[0].folder.parent}",
            hint="choose another name: a copy never hides or overwrites what is there",
        )
    folder = root / name / FIRST_VERSION
    if folder.parent.exists() or folder.parent.is_symlink():
        raise PlaybookError(f"{folder.parent} exists already", hint="remove it, or choose another name")
    try:
        root.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))  # no name of a playbook begins with a dot
        try:
            _write(source, name, new / name / FIRST_VERSION)
            new.chmod(0o755)
            (new / name).rename(folder.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise PlaybookError(f"cannot write {folder}: {error.strerror}", hint="name another folder with --to") from error
    return folder


def _write(source: Installed, name: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    for path, content in source.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_manifest(source, name) if path == MANIFEST else content)
    write_digest(folder)


def _manifest(source: Installed, name: str) -> bytes:
    manifest = source.manifest
    said = {
        "name": name,
        "version": FIRST_VERSION,
        "description": f"{manifest.description} Made from {manifest.name}@{manifest.version}.".strip(),
        "entry_points": dict(manifest.entry_points),
    }
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True).encode()
