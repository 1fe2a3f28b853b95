"""A fresh private folder per run, whole by itself, and its retention.

::

    <state>/runs/<rollback id>/<run>/
      run.json        what was asked for: playbook, version, digest, entry, hosts, variables (redacted), forks …
      playbook/       the playbook folder, the very bytes whose digest was verified
      hooks/          the user's task files that ran around each swap; run.json has their SHA-256
      ansible.cfg     every setting that is not Ansible's default
      events.jsonl    redacted events as they came, one JSON object per line
      stdout.log      what ansible-playbook printed, redacted
      shim.log        what the process that owns the run had to say; empty when all is well
      result.json     how it ended, and each host's result; written once, by rename
      hosts/HOST/     result.json (the module's full result, redacted), container.log (the last lines of the container)
      lock, pid       held for the life of the run; whose it is
      word            a named pipe, in the folder of a run that is armed in advance: what to do comes through it
      inventory.yml, vars.yml, secrets.json    only during the run

The playbook is copied, not used in place: what ran can be read afterwards, an upgrade in the middle of a run cannot
mix two versions, and what was verified is what runs. The inventory is written by guard for exactly the hosts concerned,
from the variables Ansible itself resolved, every value tagged ``!unsafe``: Ansible uses them and evaluates none.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import yaml

from guard.errors import StateError, UsageError
from guard.model import Host
from guard.rollback import hooks
from guard.rollback.catalog import Installed
from guard.rollback.forks import default_forks
from guard.rollback.redact import Redactor, secrets_in

RUN, LOCK, PID, RESULT = "run.json", "lock", "pid", "result.json"
EVENTS, STDOUT, SHIM_LOG, HOSTS = "events.jsonl", "stdout.log", "shim.log", "hosts"
INVENTORY, VARS, SECRETS, CONFIG, PLAYBOOK = "inventory.yml", "vars.yml", "secrets.json", "ansible.cfg", "playbook"
WORD = "word"
DURABLE = (RUN, PID, RESULT)  # a run's life on disk, in order: asked for, taken over by its shim, ended
PASSING = (INVENTORY, VARS, SECRETS)  # may hold secrets: gone when the run is over

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@%+-]{0,252}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_TMP = 40  # a socket's path ends at 107 bytes: /tmp/guard-run-xxxxxxxx/ + 40 (%C) + 17 (ssh's own suffix)
# Ansible sets these itself; an inventory dump may carry some of them along.
_MAGIC = frozenset(
    {
        "inventory_hostname",
        "inventory_hostname_short",
        "inventory_file",
        "inventory_dir",
        "groups",
        "group_names",
        "hostvars",
        "omit",
        "vars",
        "playbook_dir",
        "role_name",
        "role_path",
        "play_hosts",
        "environment",
        "ansible_play_hosts",
        "ansible_play_hosts_all",
        "ansible_play_batch",
        "ansible_check_mode",
        "ansible_diff_mode",
        "ansible_forks",
        "ansible_limit",
        "ansible_verbosity",
        "ansible_version",
        "ansible_playbook_python",
        "ansible_facts",
        "ansible_run_tags",
        "ansible_skip_tags",
        "ansible_inventory_sources",
        "ansible_config_file",
        "ansible_search_path",
        "ansible_play_name",
        "ansible_role_name",
    }
)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run to be started.

    ``folder`` is new and lies below ``<state>/runs`` (see ``run_folder``). ``variables`` reach the playbook as extra
    variables, as data. ``targets`` are the image IDs the hosts are to run in the end; a result that names another image
    is a failure. ``secrets`` are masked wherever they turn up; values of secret-looking variables are masked anyway.
    ``forks`` None: as many as fit this machine. ``check``: Ansible's check mode. ``prepares``: the run ends before the
    swap, so ``planned`` is how a host may end. ``hooks`` run around each swap, with the user's own collections;
    ``others`` are hosts they may delegate to. ``armed_s``: the run waits for a word, at most that long (and
    ``timeout_s`` is what it may take besides).
    """

    folder: Path
    playbook: Installed
    entry: str
    hosts: tuple[Host, ...]
    variables: Mapping[str, object] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    forks: int | None = None
    timeout_s: float = 1800.0
    check: bool = False
    prepares: bool = False
    hooks: tuple[hooks.Hook, ...] = ()
    others: tuple[Host, ...] = ()
    armed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What ``run.json`` says: all a shim, or a guard that adopts the run, needs to know."""

    entry: str
    hosts: tuple[str, ...]
    targets: Mapping[str, str]
    forks: int
    timeout_s: float
    check: bool
    scratch: Path
    prepares: bool = False
    armed: bool = False


def run_folder(state_dir: Path, rollback_id: str, run: str) -> Path:
    """Where a run's artifacts are. Both names are generated or match a strict pattern; nothing is created."""
    for name in (rollback_id, run):
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot name a run", hint="letters, digits, - and _, at most 80")
    return state_dir / "runs" / rollback_id / run


def create(folder: Path) -> int:
    """Make the folder and take its lock. Returns the lock's descriptor, which the shim inherits."""
    try:
        folder.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise StateError(f"run folder {folder} exists already", hint="a run's folder is used once") from error
    except OSError as error:
        raise StateError(f"cannot create {folder}: {error.strerror}", hint="check --state-dir and its disk") from error
    fcntl.flock(lock, fcntl.LOCK_EX)  # the folder is new: at most somebody who only looks holds it for an instant
    return lock


def fill(spec: RunSpec, scratch: Path) -> Asked:
    """Write everything the shim reads. StateError when the disk does not take it; UsageError for a hostile name."""
    names = checked_names(spec.hosts)
    for name in spec.variables:
        if not _VARIABLE.fullmatch(name):
            raise UsageError(f"{name!r} cannot name an Ansible variable")
    secrets = set(spec.secrets) | secrets_in(spec.variables)
    for host in (*spec.hosts, *spec.others):
        secrets |= secrets_in(host.variables)
    asked = Asked(
        entry=spec.playbook.entry(spec.entry),
        hosts=names,
        targets=dict(spec.targets),
        forks=spec.forks or default_forks(len(names)),
        timeout_s=spec.timeout_s + spec.armed_s,
        check=spec.check,
        scratch=scratch,
        prepares=spec.prepares,
        armed=spec.armed_s > 0,
    )
    persist_s = math.ceil(spec.armed_s) + 60
    waiting = {"guard_word_pipe": str(spec.folder / WORD), "guard_word_longest_s": spec.armed_s} if asked.armed else {}
    try:
        _copy_playbook(spec)
        hooks.copy(spec.hooks, spec.folder, write)
        others = [host for host in spec.others if _HOST.fullmatch(host.name)]  # the rest can't be delegated to
        write(spec.folder / INVENTORY, inventory_text((*spec.hosts, *others), scratch, persist_s))
        around = hooks.variables(spec.hooks, spec.folder, names)
        write(spec.folder / VARS, variables_text({**spec.variables, **waiting, **around}))
        write(spec.folder / SECRETS, json.dumps(sorted(secrets)))
        write(spec.folder / CONFIG, config_text(scratch, asked.forks, os.environ if spec.hooks else None))
        write(spec.folder / RUN, json.dumps(_document(spec, asked, Redactor(secrets)), indent=1))
    except OSError as error:
        raise StateError(f"cannot write {spec.folder}: {error.strerror}", hint="check the disk") from error
    return asked


def _copy_playbook(spec: RunSpec) -> None:
    root = spec.folder / PLAYBOOK
    root.mkdir(mode=0o700)
    for path, content in spec.playbook.files.items():
        for parent in reversed((root / path).relative_to(root).parents):
            (root / parent).mkdir(mode=0o700, exist_ok=True)  # parents=True would not give them this mode
        write(root / path, content)


def read_asked(folder: Path) -> Asked:
    """StateError when the folder holds no readable ``run.json``: then nothing was ever started there."""
    try:
        said = json.loads((folder / RUN).read_text())
        return Asked(
            entry=said["entry"],
            hosts=tuple(said["hosts"]),
            targets=said["targets"],
            forks=said["forks"],
            timeout_s=said["timeout_s"],
            check=said["check"],
            scratch=Path(said["scratch"]),
            prepares=said.get("prepares", False),
            armed=said.get("armed", False),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"{folder / RUN} cannot be read: {error}", hint="nothing was started from this folder"
        ) from error


def scrub(folder: Path, scratch: Path | None) -> None:
    """Remove what may hold secrets. Safe to call again."""
    for name in PASSING:
        with suppress(FileNotFoundError):
            (folder / name).unlink()
    if scratch is not None and scratch.name.startswith("guard-run-"):
        shutil.rmtree(scratch, ignore_errors=True)


def remove(folder: Path) -> None:
    """The run has left nothing worth keeping: its folder goes, and its rollback's when that is empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def write(path: Path, content: str | bytes) -> None:
    """A new file, 0600 from its first byte."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def checked_names(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Host names become paths and inventory keys: only plain ones pass, each once."""
    names = tuple(host.name for host in hosts)
    for name in names:
        if not _HOST.fullmatch(name) and not _is_address(name):
            raise UsageError(
                f"inventory host name {name!r} is refused: it would become a path, and could be read as a pattern",
                hint="rename it in the inventory (letters, digits, . _ @ % + -) and keep the address in ansible_host",
            )
    if len(set(names)) != len(names):
        raise UsageError("a host is named twice in one run")
    return names


def _is_address(name: str) -> bool:
    try:
        return ip_address(name).version == 6 and "%" not in name
    except ValueError:
        return False


def inventory_text(hosts: Iterable[Host], scratch: Path, persist_s: int = 60) -> str:
    """A YAML inventory of exactly these hosts. Every value is ``!unsafe``: used, and never evaluated.

    The tag stands on the mapping: on a scalar, Ansible guesses the type again and makes ``"1.10"`` a number.
    """
    lines = ["all:", "  hosts:"]
    for host in hosts:
        lines.append(f"    {flow(host.name)}: !unsafe {flow(_with_connection(host, scratch, persist_s))}")
    return "\n".join(lines) + "\n"


def variables_text(variables: Mapping[str, object]) -> str:
    """Extra variables as YAML, ``!unsafe`` throughout."""
    return f"!unsafe {flow(variables)}\n"


def _with_connection(host: Host, scratch: Path, persist_s: int) -> dict[str, object]:
    """The host's variables, with guard's own SSH options where ssh looks first (socket) or last (keep-alive)."""
    found = {k: v for k, v in host.variables.items() if k not in _MAGIC and _VARIABLE.fullmatch(k)}
    if found.get("ansible_connection") in ("local", "ansible.builtin.local"):
        found.setdefault("ansible_python_interpreter", sys.executable)
        return found
    # A shared socket would hide a changed host key; ssh takes the first value it is given, so ours stands first.
    shared = f"-o ControlMaster=auto -o ControlPersist={persist_s}s -o ControlPath={scratch}/%C"
    found["ansible_ssh_args"] = f"{shared} {found.get('ansible_ssh_args') or '-C'}"
    # A frozen host becomes unreachable after about 15 s. Last, so that the user's own keep-alive wins.
    alive = "-o ServerAliveInterval=5 -o ServerAliveCountMax=2"
    found["ansible_ssh_extra_args"] = f"{found.get('ansible_ssh_extra_args') or ''} {alive}".strip()
    return found


def flow(value: object) -> str:
    """One line of YAML for any data. Not JSON: YAML reads ``1e-05`` and astral characters differently."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(_plain(value), Dumper=dumper, default_flow_style=True, width=2**31 - 1, allow_unicode=False)
    return str(text).removesuffix("\n").removesuffix("\n...")


def _plain(value: object) -> object:
    """Only what YAML has a type for; text without lone surrogates, which no file can hold."""
    if isinstance(value, Mapping):
        return {str(_plain(str(key))): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value).encode(errors="replace").decode()


def config_text(scratch: Path, forks: int, environ: Mapping[str, str] | None = None) -> str:
    """The run's own ansible.cfg: the user's (and one in the current folder) is never read. ``environ``: the run has
    hooks, which may need the collections and roles that this environment says."""
    return f"""\
[defaults]
forks = {forks}
host_key_checking = True
gathering = explicit
interpreter_python = /usr/bin/python3
timeout = 10
nocows = True
nocolor = True
retry_files_enabled = False
localhost_warning = False
inventory_unparsed_warning = False
deprecation_warnings = False
local_tmp = {scratch}/ansible
fact_caching = memory
{hooks.search_paths(scratch, environ)}
home = {scratch}/home
internal_poll_interval = 0.005
display_skipped_hosts = False
[inventory]
enable_plugins = yaml
unparsed_is_failed = True
[connection]
pipelining = True
[ssh_connection]
pipelining = True
retries = 0
"""


def new_scratch() -> Path:
    """A 0700 folder with a short path for sockets and ansible-runner's own files; gone after the run."""
    base = tempfile.gettempdir()
    try:
        return Path(tempfile.mkdtemp(prefix="guard-run-", dir=base if len(base) <= _LONGEST_TMP else "/tmp"))  # noqa: S108
    except OSError as error:
        raise StateError(f"cannot make a folder in {base}: {error.strerror}", hint="check the disk") from error


def _document(spec: RunSpec, asked: Asked, redactor: Redactor) -> dict[str, object]:
    reference = spec.playbook.reference
    return {
        "playbook": {"name": reference.name, "version": reference.version, "digest": reference.digest},
        "entry": asked.entry,
        "hosts": list(asked.hosts),
        "targets": dict(asked.targets),
        "variables": redactor.value(spec.variables),
        "forks": asked.forks,
        "timeout_s": asked.timeout_s,
        "check": asked.check,
        "prepares": asked.prepares,
        "hooks": hooks.document(spec.hooks),
        "scratch": str(asked.scratch),
        "armed": asked.armed,
    }


def is_held(folder: Path) -> bool:
    """Whether a process holds the run's lock, that is: whether the run is alive."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look at once do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def prune(state_dir: Path, runs: int, days: float, unfinished: set[str], now: float) -> tuple[str, ...]:
    """Delete artifacts beyond the newest ``runs``, or older than ``days``. Returns the deleted names.

    ``now`` is seconds since the epoch. Rollbacks and snapshots are counted apart, so that daily snapshots push no
    rollback out. A rollback in ``unfinished``, or with a run that is alive, is never deleted and counts towards no
    limit.
    """
    root = state_dir / "runs"
    if not root.is_dir():
        return ()
    kinds: dict[str, list[tuple[float, str, Path]]] = {}
    for folder in root.iterdir():
        if folder.is_dir() and not folder.is_symlink() and folder.name not in unfinished and not _is_alive(folder):
            kind = folder.name.partition("-")[0]
            kinds.setdefault(kind, []).append((folder.stat().st_mtime, folder.name, folder))
    deleted: list[str] = []
    for ended in kinds.values():
        for place, (changed, name, folder) in enumerate(sorted(ended, reverse=True)):
            if place >= runs or now - changed > days * 86400:
                shutil.rmtree(folder)
                deleted.append(name)
    return tuple(deleted)


def _is_alive(folder: Path) -> bool:
    return any(is_held(run) for run in folder.iterdir() if run.is_dir())
