"""The commented example that ``guard init`` writes: ``guard/_example`` in the wheel, else the checkout's own."""

from __future__ import annotations

from pathlib import Path

from guard.errors import GuardError

_PACKAGE = Path(__file__).resolve().parent.parent
_IN_WHEEL = _PACKAGE / "_example"
_IN_SOURCE = _PACKAGE.parent / "inventory" / "example"

_WHERE_TO = {"guard.yml": "guard.yml", "hosts.yml": "inventory/hosts.yml"}


def example_files() -> dict[str, str]:
    """Where a file goes, relative to the folder that ``guard init`` fills, and its content."""
    folder = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_SOURCE
    try:
        return {target: (folder / name).read_text(encoding="utf-8") for name, target in _WHERE_TO.items()}
    except OSError as error:
        raise GuardError(
            f"guard's example files are missing from {folder}: {error.strerror}", hint="Install guard again."
        ) from error
