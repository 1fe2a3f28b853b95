"""Hooks: the user's own task files, run on each host right before and after its swap.

They are trusted code, like the inventory. A hook is one file, whole by itself: its bytes are copied into the run's
folder, and what was copied is what runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from guard.errors import ConfigError

_LARGEST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Hook:
    """A task file as it was read. ``when`` is ``before`` or ``after``."""

    when: str
    path: Path
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class _AnyTag(yaml.SafeLoader):
    """Ansible's own tags (``!vault``, ``!unsafe``) are for Ansible to understand."""


_AnyTag.add_multi_constructor("", lambda _loader, _suffix, node: str(node.value))


def read_hooks(paths: Mapping[str, Path | None]) -> tuple[Hook, ...]:
    """The hooks that are configured, by ``before`` and ``after``. ConfigError when one is no list of tasks."""
    return tuple(_read(when, path) for when, path in paths.items() if path is not None)


def _read(when: str, path: Path) -> Hook:
    what = f"rollback.hooks.{when}: {path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{what} cannot be read: {error.strerror}", hint="paths are relative to guard.yml") from error
    if len(content) > _LARGEST_BYTES:
        raise ConfigError(f"{what} is larger than 1 MiB: it cannot be a task file")
    try:
        said = yaml.load(content, Loader=_AnyTag)  # noqa: S506 - a SafeLoader that leaves tags to Ansible
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{what} is not YAML: {error}") from error
    if not isinstance(said, list) or not said or not all(isinstance(task, dict) for task in said):
        raise ConfigError(f"{what} is not a list of tasks", hint="such as: - {name: Drain, ansible.builtin.uri: {…}}")
    if any("hosts" in task or "import_playbook" in task for task in said):
        raise ConfigError(f"{what} is a playbook", hint="a hook is only the list of tasks; guard chooses the hosts")
    return Hook(when, path, content)
