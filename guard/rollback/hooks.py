"""Hooks: the user's own task files, run on each host right before and after its swap.

They are trusted code, like the inventory. A hook is one file, whole by itself: its bytes are copied into the run's
folder, and what was copied is what runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from guard.errors import ConfigError

FOLDER = "hooks"
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


def copy(hooks: Sequence[Hook], folder: Path, write: Callable[[Path, bytes], None]) -> None:
    """Into a run's folder; ``write`` makes a private file."""
    if hooks:
        (folder / FOLDER).mkdir(mode=0o700)
    for hook in hooks:
        write(folder / FOLDER / f"{hook.when}.yml", hook.content)


def variables(hooks: Sequence[Hook], folder: Path, hosts: Sequence[str]) -> dict[str, object]:
    """What a run's playbook is told. Without hooks nothing at all: it then has no task for them."""
    if not hooks:
        return {}
    paths = {hook.when: str(folder / FOLDER / f"{hook.when}.yml") for hook in hooks}
    return {"guard_hooks": paths, "guard_hosts": list(hosts)}


def document(hooks: Sequence[Hook]) -> dict[str, dict[str, str]]:
    """What ``run.json`` says about them."""
    return {hook.when: {"file": str(hook.path), "sha256": hook.sha256} for hook in hooks}


def search_paths(scratch: Path, environ: Mapping[str, str] | None) -> str:
    """Where modules and roles come from: nowhere but the playbook's folder; for hooks, where the user has them."""
    if environ is None:
        return (
            f"collections_path = {scratch}/collections\ncollections_scan_sys_path = False\nroles_path = {scratch}/roles"
        )
    home = environ.get("ANSIBLE_HOME") or f"{environ.get('HOME') or Path('~').expanduser()}/.ansible"
    shared = "/usr/share/ansible"
    collections = environ.get("ANSIBLE_COLLECTIONS_PATH") or f"{home}/collections:{shared}/collections"
    roles = environ.get("ANSIBLE_ROLES_PATH") or f"{home}/roles:{shared}/roles:/etc/ansible/roles"
    lines = [f"collections_path = {collections}", "collections_scan_sys_path = True", f"roles_path = {roles}"]
    return "\n".join(" ".join(line.splitlines()) for line in lines)


class _AnyTag(yaml.SafeLoader):
    """Ansible's own tags (``!vault``, ``!unsafe``) are for Ansible to understand."""


_AnyTag.add_multi_constructor("", lambda _loader, _suffix, node: str(node.value))


def read_hooks(service: str, paths: Mapping[str, Path | None]) -> tuple[Hook, ...]:
    """The hooks that are configured, by ``before`` and ``after``. ConfigError when one is no list of tasks."""
    return tuple(_read(service, when, path) for when, path in paths.items() if path is not None)


def _read(service: str, when: str, path: Path) -> Hook:
    what = f"service {service}: rollback.hooks.{when}: {path}"
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
