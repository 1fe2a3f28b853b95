"""Ansible's inventory as guard sees it: hosts of a pattern, with their variables as plain data.

Ansible itself loads it, in a subprocess (``guard.inventory.dump``), so every inventory that Ansible understands works:
files, folders, group_vars and host_vars, vault, scripts and plug-ins, with the user's ``ansible.cfg``.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guard.config.substitute import Undecryptable
from guard.decide.names import names_text
from guard.errors import InventoryError
from guard.model import Host

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_S = 120.0  # dynamic inventories ask clouds
_QUIET = {
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",  # a source that cannot be read is an error, not a warning
    "ANSIBLE_HOST_PATTERN_MISMATCH": "ignore",
    "ANSIBLE_LOCALHOST_WARNING": "False",
    "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
    "ANSIBLE_DEPRECATION_WARNINGS": "False",
    "ANSIBLE_NOCOLOR": "True",
    "ANSIBLE_FORCE_COLOR": "False",
    "ANSIBLE_DISPLAY_TRACEBACK": "never",
    "LC_ALL": "C.UTF-8",  # Ansible refuses to start in another encoding
    "PYTHONIOENCODING": "utf-8",
}
_UNDECRYPTABLE = "__guard_cannot_decrypt__"
_PLUGIN_SAID = re.compile(r"^\[WARNING\]: Failed to parse inventory with '([^']+)' plugin: (.+)$", re.MULTILINE)
_ORIGIN = re.compile(r"^Origin: (/.+:[0-9]+:[0-9]+)$", re.MULTILINE)
_HOST_NAME = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:@%-]{0,252}", re.ASCII)

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(slots=True)
class _Loaded:
    """What is known of the inventory in the state that ``stamp`` describes."""

    stamp: Stamp
    patterns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unmatched: dict[str, tuple[str, ...]] = field(default_factory=dict)
    variables: dict[str, dict[str, object]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class AnsibleInventory:
    """The port ``Inventory``. Blocking (about a second per load); safe to use from several threads.

    ``sources`` are absolute paths. ``expected`` are patterns that will be asked for: one load then answers them all.
    ``folder`` is where ``ansible.cfg`` is looked for first, usually the configuration file's.
    Answers are kept until a file of the inventory changes; what a script or plug-in says is kept until ``forget``.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        *,
        environ: Mapping[str, str],
        folder: Path | None = None,
        expected: Iterable[str] = (),
    ) -> None:
        self._sources = tuple(sources)
        self._environ = environ
        self._folder = folder
        self._expected = dict.fromkeys(expected)
        self._loaded: _Loaded | None = None
        self._lock = threading.Lock()

    @property
    def sources(self) -> tuple[Path, ...]:
        return self._sources

    def hosts(self, pattern: str, limit: str | None = None) -> tuple[Host, ...]:
        """Hosts of ``pattern`` in the inventory's order, only those that ``limit`` matches too."""
        _check_pattern(pattern)
        if limit is not None:
            _check_pattern(limit)
        if not self._sources:
            return self._without_inventory(pattern, limit)
        with self._lock:
            loaded = self._load([pattern] if limit is None else [pattern, limit])
        names = loaded.patterns[pattern]
        if not names:
            raise self._nobody(pattern, loaded)
        if limit is not None:
            within = set(loaded.patterns[limit])
            if not within:
                raise self._nobody(limit, loaded)
            names = tuple(name for name in names if name in within)
            if not names:
                raise InventoryError(
                    f"none of the hosts of {pattern!r} is matched by the limit {limit!r}",
                    hint=f"Hosts of {pattern!r}: {_some(loaded.patterns[pattern])}.",
                )
        return tuple(Host(name, loaded.variables[name]) for name in names)

    def unmatched(self, pattern: str) -> tuple[str, ...]:
        """Parts of a pattern that match nobody, such as ``wbe3`` in ``web:!wbe3``: most likely a typing error."""
        self.hosts(pattern)
        return self._loaded.unmatched.get(pattern, ()) if self._loaded else ()

    def forget(self) -> None:
        """Load anew at the next question, also what scripts and plug-ins said."""
        with self._lock:
            self._loaded = None

    def _load(self, patterns: Sequence[str]) -> _Loaded:
        stamp = _stamp(self._sources)
        loaded = self._loaded
        if loaded is None or loaded.stamp != stamp:
            loaded = _Loaded(stamp)
        missing = [pattern for pattern in patterns if pattern not in loaded.patterns]
        if missing:
            asked = dict.fromkeys([*missing, *(known for known in self._expected if known not in loaded.patterns)])
            _merge(loaded, self._ask(list(asked)), needed=missing, where=self._where())
            self._expected.update(asked)
        self._loaded = loaded
        return loaded

    def _ask(self, patterns: list[str]) -> dict[str, object]:
        for source in self._sources:
            if not source.exists():
                raise InventoryError(f"there is no inventory {source}", hint="Correct the key inventory in guard.yml.")
        sources = [str(source) for source in self._sources]
        request = json.dumps({"sources": sources, "patterns": patterns, "undecryptable": _UNDECRYPTABLE})
        with tempfile.TemporaryDirectory(prefix="guard-inventory-") as scratch:
            done = self._run(request, Path(scratch))
        try:
            answer = json.loads(done.stdout)
        except ValueError as error:
            raise self._failed(_why(done.stderr) or f"its loader ended with code {done.returncode}") from error
        if "error" in answer:
            raise self._failed(_why_plugins(done.stderr) or str(answer["error"]))
        return dict(answer)

    def _run(self, request: str, scratch: Path) -> subprocess.CompletedProcess[str]:
        environment = {**self._environ, **_QUIET, "ANSIBLE_LOCAL_TEMP": str(scratch)}
        settings = self._settings_file()
        if settings is not None:
            environment["ANSIBLE_CONFIG"] = str(settings)
        command = [sys.executable, "-P", "-m", "guard.inventory.dump"]
        try:
            return subprocess.run(
                command,
                input=request,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_LONGEST_S,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise self._failed(f"it was not loaded within {_LONGEST_S:.0f} s") from error

    def _settings_file(self) -> Path | None:
        """ansible.cfg beside the configuration or the inventory, unless the environment names one."""
        if self._environ.get("ANSIBLE_CONFIG"):
            return None
        folders = [self._folder, *(source if source.is_dir() else source.parent for source in self._sources)]
        for folder in folders:
            if folder is not None and (folder / "ansible.cfg").is_file():
                return folder / "ansible.cfg"
        return None

    def _where(self) -> str:
        return f"the inventory {_some([str(source) for source in self._sources])}"

    def _failed(self, why: str) -> InventoryError:
        return InventoryError(
            f"Ansible cannot load {self._where()}: {why}",
            hint="`ansible-inventory --list -i INVENTORY` shows more.",
        )

    def _nobody(self, pattern: str, loaded: _Loaded) -> InventoryError:
        known = [*loaded.groups, *loaded.hosts]
        close = difflib.get_close_matches(pattern, known, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        return InventoryError(
            f"the host pattern {pattern!r} matches no host in {self._where()}",
            hint=f"{hint}Groups: {_some(loaded.groups)}. Hosts: {_some(loaded.hosts)}.",
        )

    def _without_inventory(self, pattern: str, limit: str | None) -> tuple[Host, ...]:
        if pattern in _LOCAL and limit in (None, pattern):
            return (Host(pattern, {"inventory_hostname": pattern, "ansible_connection": "local"}),)
        raise InventoryError(
            f"the host pattern {limit or pattern!r} needs an inventory, and none is configured",
            hint="Name one with the key inventory in guard.yml.",
        )


def _check_pattern(pattern: str) -> None:
    """It becomes an argument of Ansible's, one line, and no file to read (``@file``)."""
    brackets = pattern.count("[") == pattern.count("]")  # Ansible drops an open one, and "~[" would be everybody
    if not pattern.strip() or pattern.lstrip().startswith(("-", "@")) or not pattern.isprintable() or not brackets:
        raise InventoryError(
            f"{pattern!r} is not a host pattern",
            hint="Write groups and hosts such as web or web:&dc1:!web3, with no '-' or '@' in front.",
        )


def _merge(loaded: _Loaded, answer: dict[str, object], *, needed: Sequence[str], where: str) -> None:
    matches = _mapping(answer["patterns"])
    for pattern, match in ((pattern, _mapping(match)) for pattern, match in matches.items()):
        if match["error"]:
            if pattern in needed:
                raise InventoryError(f"the host pattern {pattern!r} cannot be used: {match['error']}")
            continue
        loaded.patterns[pattern] = _names(match["hosts"])
        loaded.unmatched[pattern] = _names(match["unmatched"])
    for host, variables in _mapping(answer["variables"]).items():
        if not _HOST_NAME.fullmatch(host):
            raise InventoryError(
                f"{where} holds a host named {host!r}: expected letters, digits, '_', '.', ':', '@', '%' or '-'",
                hint="Ansible reads a file that is not valid YAML or JSON as a list of host names: look for that.",
            )
        loaded.variables[host] = {name: _marked(value) for name, value in _mapping(variables).items()}
    loaded.groups, loaded.hosts = _names(answer["groups"]), _names(answer["hosts"])


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InventoryError("Ansible's loader gave an answer that guard does not understand")
    return value


def _names(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _marked(value: object) -> object:
    if isinstance(value, dict):
        if set(value) == {_UNDECRYPTABLE}:
            return Undecryptable(str(value[_UNDECRYPTABLE]))
        return {key: _marked(item) for key, item in value.items()}
    return [_marked(item) for item in value] if isinstance(value, list) else value


def _why_plugins(stderr: str) -> str:
    """What the plug-in said that this file was most likely meant for; Ansible tries all of them in turn."""
    said: dict[str, str] = dict(_PLUGIN_SAID.findall(stderr))
    for plugin in ("yaml", "script", *said):
        if plugin in said:
            origin = _ORIGIN.search(stderr)
            return said[plugin] + (f" ({origin.group(1)})" if origin else "")
    return ""


def _why(stderr: str) -> str:
    """The last thing a loader printed that did not even answer."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return _why_plugins(stderr) or (lines[-1][:600] if lines else "")


def _some(names: Sequence[str]) -> str:
    return names_text(names, 10) or "none"


def _stamp(sources: Iterable[Path]) -> Stamp:
    """Names, times and sizes of every file that belongs to the inventory, group_vars and host_vars included."""
    found: list[tuple[str, int, int]] = []
    for source in sources:
        trees = [source] if source.is_dir() else [source.parent / "group_vars", source.parent / "host_vars"]
        files = [] if source.is_dir() else [source]
        for tree in trees:
            for folder, _, names in os.walk(tree):
                files += [Path(folder) / name for name in names]
        for file in files:
            try:
                facts = file.stat()
            except OSError:
                found.append((str(file), 0, 0))  # vanished, or a dangling link: also a state to notice
            else:
                found.append((str(file), facts.st_mtime_ns, facts.st_size))
    return tuple(sorted(found))
