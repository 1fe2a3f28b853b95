"""Image references, as the field writes them: ``[registry/]repository[:tag][@sha256:digest]`` or an image ID.

The grammar is the one of the distribution project (``reference.go``). Names that begin with ``-`` never match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_IMAGE_ID = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{12,64})")
_FULL_ID = re.compile(r"sha256:[0-9a-f]{1,64}")
_TAG = re.compile(r"[\w][\w.-]{0,127}")

GUARD_TAG_PREFIXES = ("guard_", "backup_")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference. An image ID has only ``image_id`` (possibly a prefix of it, without ``sha256:``)."""

    repository: str = ""
    tag: str = ""
    digest: str = ""
    image_id: str = ""


def parse(text: str) -> Reference:
    """ValueError when ``text`` cannot be an image reference."""
    if _FULL_ID.fullmatch(text):
        return Reference(image_id=text.removeprefix("sha256:"))
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an image reference")
    return Reference(match["repository"], match["tag"] or "", match["digest"] or "")


def repository(text: str) -> str:
    """The repository part, or "" for an image ID or something unreadable."""
    try:
        return parse(text).repository
    except ValueError:
        return ""


def familiar(repository_name: str) -> str:
    """The short form an engine shows: without the default registry and its ``library`` folder."""
    for prefix in ("docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/", "library/"):
        if repository_name.startswith(prefix):
            return repository_name.removeprefix(prefix)
    return repository_name


def same_repository(left: str, right: str) -> bool:
    return familiar(left) == familiar(right)


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def looks_like_id(text: str) -> bool:
    """A bare hexadecimal ID of at least 12 digits, as ``docker images`` prints it."""
    return _IMAGE_ID.fullmatch(text) is not None


def is_guard_tag(reference: str) -> bool:
    """Whether guard itself put this tag there (a pin or a backup), so that it says nothing about a deploy."""
    try:
        return parse(reference).tag.startswith(GUARD_TAG_PREFIXES)
    except ValueError:
        return False
