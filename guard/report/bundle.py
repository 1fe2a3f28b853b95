"""The evidence of a gate or a rollback as one archive: what one attaches to an incident."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from guard.errors import StateError


def write_bundle(
    file: Path,
    folder: str,
    texts: Mapping[str, str],
    artifacts: Mapping[str, Path],
    leave_out: Collection[str],
    at: datetime,
) -> None:
    """A ``.tar.gz`` with everything below ``folder``: ``texts`` by name, and the files of ``artifacts`` by name.

    ``leave_out``: names of files that are not evidence. ``at``: the time of the texts. The archive is for its owner
    alone (0600). StateError when it cannot be written; then nothing is left.
    """
    try:
        handle, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
    except OSError as error:
        raise StateError(f"{file} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as out, tarfile.open(fileobj=out, mode="w:gz") as archive:
            for each, text in sorted(texts.items()):
                _add(archive, f"{folder}/{each}", text.encode(), at.timestamp())
            for each, root in sorted(artifacts.items()):
                for path in _files(root, leave_out):
                    where = f"{folder}/{each}/{path.relative_to(root)}"
                    _add(archive, where, path.read_bytes(), path.stat().st_mtime)
        Path(name).replace(file)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise StateError(f"{file} cannot be written: {error.strerror}") from error


def _files(root: Path, leave_out: Collection[str]) -> Iterator[Path]:
    """Plain files in order; links lead nowhere, for they could lead out of the folder."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and not {*path.relative_to(root).parts} & {*leave_out}:
            yield path


def _add(archive: tarfile.TarFile, name: str, content: bytes, at: float) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(at), 0o600
    archive.addfile(entry, io.BytesIO(content))
