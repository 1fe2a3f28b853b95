"""Versioned playbooks: finding ``NAME@VERSION``, and refusing a folder whose content is not what its manifest says.

The digest of a folder is the SHA-256 of one line per file, sorted by POSIX path relative to the folder::

    path NUL hex-sha256-of-content LF

over every file but ``__pycache__`` folders and ``*.pyc``. ``manifest.yml`` takes part without its own ``digest:`` line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from guard.errors import PlaybookError
from guard.model import PlaybookRef

MANIFEST = "manifest.yml"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")
_WANTED = re.compile(r"(0|[1-9]\d{0,8})(?:\.(0|[1-9]\d{0,8}))?(?:\.(0|[1-9]\d{0,8}))?")
_ENTRY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.ya?ml")
_DIGEST_LINE = re.compile(rb"^digest:[^\n]*\n?", re.MULTILINE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KEYS = frozenset({"name", "version", "description", "entry_points", "digest"})
_LARGEST_FILE = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``manifest.yml`` says. ``entry_points`` maps a purpose (``restore``, ``snapshot``) to a playbook file."""

    name: str
    version: str
    description: str
    entry_points: Mapping[str, str]
    digest: str | None


@dataclass(frozen=True, slots=True)
class Installed:
    """A playbook version on disk whose content was read and matches its digest.

    ``files`` holds the very bytes that were verified, by POSIX path: a run writes these, so that nothing can change
    between the check and the use.
    """

    folder: Path
    manifest: Manifest
    files: Mapping[str, bytes]
    shipped: bool

    @property
    def reference(self) -> PlaybookRef:
        return PlaybookRef(self.manifest.name, self.manifest.version, self.manifest.digest or "")

    def entry(self, purpose: str) -> str:
        """The playbook file for ``purpose``. PlaybookError when this version has none."""
        try:
            return self.manifest.entry_points[purpose]
        except KeyError:
            known = ", ".join(sorted(self.manifest.entry_points))
            raise PlaybookError(
                f"playbook {self.manifest.name}@{self.manifest.version} cannot {purpose}: it offers {known}",
                hint=f"add `{purpose}:` to entry_points in {self.folder / MANIFEST}, or choose another playbook",
            ) from None


@dataclass(frozen=True, slots=True)
class Listed:
    """A version for ``guard playbooks``: with the reason when it cannot be used."""

    name: str
    version: str
    digest: str
    folder: Path
    shipped: bool
    description: str = ""
    problem: str = ""


def shipped_path() -> Path:
    """Where guard's own playbooks are: inside the wheel, or beside the package in a source checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_playbooks"
    return inside if inside.is_dir() else package.parent / "playbooks"


class Catalog:
    """Playbooks by name and version. The user's folders come first, in order, then the shipped one."""

    def __init__(self, paths: Sequence[Path] = (), shipped: Path | None = None) -> None:
        own = shipped or shipped_path()
        self._roots = [*((path, False) for path in paths), (own, True)]

    def resolve(self, wanted: str) -> Installed:
        """``container@1`` (newest installed 1.x.y), ``container@1.2`` or ``container@1.2.0``, verified.

        The first folder that has the name and a matching version decides. PlaybookError says what there is.
        """
        name, _, version = wanted.partition("@")
        match = _WANTED.fullmatch(version)
        if not _NAME.fullmatch(name) or match is None:
            raise PlaybookError(
                f"{wanted!r} does not name a playbook version",
                hint="write NAME@VERSION, such as container@1 (newest 1.x.y) or container@1.0.0 (exactly that)",
            )
        prefix = tuple(int(part) for part in match.groups() if part is not None)
        for root, shipped in self._roots:
            fitting = [v for v in _versions(root / name) if v[: len(prefix)] == prefix]
            if fitting:
                return load(root / name / _text(max(fitting)), shipped=shipped)
        raise PlaybookError(f"playbook {wanted} is not installed", hint=self._offer(name))

    def newest(self, name: str) -> Installed:
        """The newest version of that name, from the first folder that has it."""
        if not _NAME.fullmatch(name):
            raise PlaybookError(f"{name!r} does not name a playbook", hint="write NAME or NAME@VERSION")
        for root, shipped in self._roots:
            if found := _versions(root / name):
                return load(root / name / _text(max(found)), shipped=shipped)
        raise PlaybookError(f"playbook {name} is not installed", hint=self._offer(name))

    def exactly(self, reference: PlaybookRef) -> Installed:
        """The version a plan was made with. PlaybookError when it has gone or its content is another now."""
        found = self.resolve(f"{reference.name}@{reference.version}")
        if found.reference.digest != reference.digest:
            raise PlaybookError(
                f"playbook {reference.name}@{reference.version} in {found.folder} is not the one in the plan: "
                f"planned with {reference.digest}, found {found.reference.digest}",
                hint="put the planned version back, or start a new rollback",
            )
        return found

    def all(self) -> tuple[Listed, ...]:
        """Every installed version, the unusable ones with their problem; by name, then newest first."""
        found: list[Listed] = []
        for root, shipped in self._roots:
            for name in _names(root):
                for version in sorted(_versions(root / name), reverse=True):
                    found.append(_listed(root / name / _text(version), name, _text(version), shipped))
        return tuple(sorted(found, key=lambda one: one.name))

    def _offer(self, name: str) -> str:
        there = [f"{one.name}@{one.version}" for one in self.all()]
        same = [one for one in there if one.startswith(f"{name}@")]
        looked = ", ".join(str(root) for root, _ in self._roots)
        if not there:
            return f"no playbook is installed at all; looked in {looked}"
        return f"installed: {', '.join(same or there)}; looked in {looked}"


def load(folder: Path, *, shipped: bool = False) -> Installed:
    """Read and verify one version's folder. PlaybookError: unreadable, wrong manifest, or another digest."""
    files = dict(read_files(folder))
    manifest = _manifest(folder, files)
    found = digest_of(files)
    if manifest.digest is None:
        raise PlaybookError(
            f"{folder / MANIFEST} has no digest; the content's is {found}",
            hint=f"when the content is as you want it: guard playbooks digest {folder} --write",
        )
    if manifest.digest != found:
        raise PlaybookError(
            f"playbook folder {folder} was changed: its manifest expects {manifest.digest}, found {found}",
            hint="reinstall it; or, for a playbook of your own: give it a new version, then "
            f"guard playbooks digest {folder} --write",
        )
    return Installed(folder, manifest, files, shipped)


def digest_of(files: Mapping[str, bytes]) -> str:
    """The digest of a folder's files by POSIX path, as the module's docstring says."""
    total = hashlib.sha256()
    for path in sorted(files):
        content = _DIGEST_LINE.sub(b"", files[path]) if path == MANIFEST else files[path]
        total.update(f"{path}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return f"sha256:{total.hexdigest()}"


def read_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file that counts, with its content. Links that leave the folder, and special files, are refused."""
    if not folder.is_dir():
        raise PlaybookError(f"playbook folder {folder} is not there", hint="guard playbooks lists what is installed")
    real = folder.resolve()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if "__pycache__" in relative.parts or path.suffix == ".pyc":
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(real):
            raise PlaybookError(
                f"{path} is a link that leaves the playbook folder (to {path.resolve()})",
                hint="a playbook version is whole by itself: copy the file into the folder",
            )
        if path.is_dir():
            if path.is_symlink():
                raise PlaybookError(f"{path} is a link to a folder", hint="copy the folder instead")
            continue
        if not path.is_file():
            raise PlaybookError(f"{path} is not a regular file", hint="remove it from the playbook folder")
        yield relative.as_posix(), _content(path)


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise PlaybookError(f"{path} is larger than 8 MiB", hint="a playbook folder holds playbooks, not images")
        return path.read_bytes()
    except OSError as error:
        raise PlaybookError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error


def _manifest(folder: Path, files: Mapping[str, bytes]) -> Manifest:
    where = folder / MANIFEST
    if MANIFEST not in files:
        raise PlaybookError(f"{where} is missing", hint="docs/playbooks.md shows what a manifest says")
    try:
        said = yaml.safe_load(files[MANIFEST])
    except yaml.YAMLError as error:
        raise PlaybookError(f"{where} is not YAML: {error}") from error
    if not isinstance(said, dict):
        raise PlaybookError(f"{where} is not a mapping", hint="docs/playbooks.md shows what a manifest says")
    unknown = sorted(str(key) for key in set(said) - _KEYS)
    if unknown:
        raise PlaybookError(f"{where}: unknown key {unknown[0]!r}", hint=f"known keys: {', '.join(sorted(_KEYS))}")
    name, version = said.get("name"), said.get("version")
    if (name, version) != (folder.parent.name, folder.name):
        raise PlaybookError(
            f"{where} says {name}@{version}, but its folder is {folder.parent.name}/{folder.name}",
            hint="name and version in the manifest (quote the version) are those of the folders",
        )
    digest = said.get("digest")
    if digest is not None and (not isinstance(digest, str) or not _DIGEST.fullmatch(digest)):
        raise PlaybookError(f"{where}: digest must be sha256: and 64 hex digits, found {digest!r}")
    return Manifest(
        name=str(name),
        version=str(version),
        description=str(said.get("description") or ""),
        entry_points=_entry_points(where, said.get("entry_points"), files),
        digest=digest,
    )


def _entry_points(where: Path, said: object, files: Mapping[str, bytes]) -> dict[str, str]:
    """As the manifest names them; without ``entry_points``, every playbook beside it under its own name."""
    if said is None:
        said = {Path(file).stem: file for file in files if _ENTRY.fullmatch(file) and file != MANIFEST}
    if not isinstance(said, dict) or not said:
        raise PlaybookError(f"{where}: entry_points must name at least one playbook, such as {{restore: restore.yml}}")
    points: dict[str, str] = {}
    for purpose, file in said.items():
        if not isinstance(file, str) or not _ENTRY.fullmatch(file) or file not in files:
            raise PlaybookError(
                f"{where}: entry point {purpose}: {file!r} is not a playbook file of this folder",
                hint="name a .yml file that lies beside the manifest",
            )
        points[str(purpose)] = file
    return points


def _names(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())


def _versions(folder: Path) -> list[tuple[int, int, int]]:
    if not folder.is_dir():
        return []
    matches = (_VERSION.fullmatch(path.name) for path in folder.iterdir())
    return [(int(m[1]), int(m[2]), int(m[3])) for m in matches if m]


def _text(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)


def _listed(folder: Path, name: str, version: str, shipped: bool) -> Listed:
    try:
        found = load(folder, shipped=shipped)
    except PlaybookError as error:
        return Listed(name, version, "", folder, shipped, problem=error.message)
    return Listed(name, version, found.reference.digest, folder, shipped, found.manifest.description)


def write_digest(folder: Path) -> str:
    """Put the content's digest into the manifest, at its ``digest:`` line or at the end."""
    files = dict(read_files(folder))
    _manifest(folder, files)
    digest = digest_of(files)
    bare = _DIGEST_LINE.sub(b"", files[MANIFEST])
    if not bare.endswith(b"\n"):
        bare += b"\n"
        digest = digest_of({**files, MANIFEST: bare})
    (folder / MANIFEST).write_bytes(bare + f"digest: {digest}\n".encode())
    return digest
