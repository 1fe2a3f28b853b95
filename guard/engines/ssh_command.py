"""From inventory variables to ssh's argument list, as Ansible's own ssh plug-in builds it. Pure: nothing is run here.

Source: ``_build_command`` of ansible-core's ``plugins/connection/ssh.py``. ssh takes the first value it is given for an
option, so guard's own come first and no inventory can share its connection or make it wait for a password.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guard.errors import EngineUnreachable
from guard.model import Host

DEFAULT_CONNECT_TIMEOUT_S = 10
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ADDRESS = re.compile(r"[A-Za-z0-9_\[:][A-Za-z0-9_.:%@\[\]-]*")
_INTERPRETER = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*")

_OWN_OPTIONS = (
    *("-T", "-a", "-x"),
    *("-o", "BatchMode=yes"),
    *("-o", "ExitOnForwardFailure=yes"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
    *("-o", "StreamLocalBindMask=0177", "-o", "StreamLocalBindUnlink=yes"),
    *("-o", "ControlPersist=no"),
    *("-o", "RemoteCommand=none", "-o", "PermitLocalCommand=no"),
)
_NO_PASSWORDS = (
    *("-o", "KbdInteractiveAuthentication=no"),
    *("-o", "PreferredAuthentications=gssapi-with-mic,gssapi-keyex,hostbased,publickey"),
    *("-o", "PasswordAuthentication=no"),
)


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach a host over SSH. ``options`` are what its inventory variables say, as arguments."""

    host: str
    address: str
    executable: str
    options: tuple[str, ...]
    connect_timeout_s: int
    sudo: tuple[str, ...]  # the command in front of what must run with more rights; empty without become
    python: str

    def master(self, control: Path, local: Path, remote: str, command: str) -> tuple[str, ...]:
        """The kept connection: forwards ``local`` to the host's socket ``remote``, and runs ``command`` there."""
        return (
            self.executable,
            *_OWN_OPTIONS,
            *("-o", "ControlMaster=yes"),
            *self.options,
            # -S is the one option of which the last wins, so it stands behind the inventory's arguments.
            *("-S", str(control), "-L", f"{local}:{remote}"),
            *("--", self.address, command),
        )

    def session(self, control: Path, command: str) -> tuple[str, ...]:
        """One more command over the kept connection."""
        own = ("-o", "ControlMaster=no", "-S", str(control))
        return (
            self.executable,
            *_OWN_OPTIONS,
            "-o",
            "ControlMaster=no",
            *self.options,
            *own,
            "--",
            self.address,
            command,
        )


def login(host: Host) -> Login:
    """EngineUnreachable names the variable that cannot be used."""
    variables = _Variables(host)
    timeout = variables.number("ansible_ssh_timeout", 1, 3600) or DEFAULT_CONNECT_TIMEOUT_S
    return Login(
        host=host.name,
        address=_address(variables),
        executable=variables.word("ansible_ssh_executable") or "ssh",
        options=(*_options(variables), "-o", f"ConnectTimeout={timeout}", *_arguments(variables)),
        connect_timeout_s=timeout,
        sudo=_sudo(variables),
        python=_python(variables),
    )


def _address(variables: _Variables) -> str:
    address = variables.word("ansible_host", "ansible_ssh_host") or variables.host.name
    if not _ADDRESS.fullmatch(address):
        raise variables.refusal("ansible_host", "it is no host name or address")
    return address


def _options(variables: _Variables) -> list[str]:
    options = shlex.split(variables.text("ansible_ssh_args"))
    if variables.flag("ansible_host_key_checking", "ansible_ssh_host_key_checking") is False:
        options += ["-o", "StrictHostKeyChecking=no"]  # the operator's own word in the inventory; guard never says it
    if port := variables.number("ansible_port", 1, 65535) or variables.number("ansible_ssh_port", 1, 65535):
        options += ["-o", f"Port={port}"]
    if key := variables.quotable("ansible_private_key_file", "ansible_ssh_private_key_file"):
        options += ["-o", f'IdentityFile="{Path(key).expanduser()}"']
    options += _NO_PASSWORDS
    if user := variables.quotable("ansible_user", "ansible_ssh_user"):
        options += ["-o", f'User="{user}"']
    return options


def _arguments(variables: _Variables) -> list[str]:
    arguments = []
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        try:
            arguments += shlex.split(variables.text(name))
        except ValueError as error:
            raise variables.refusal(name, str(error)) from error
    return arguments


def _sudo(variables: _Variables) -> tuple[str, ...]:
    if not variables.flag("ansible_become"):
        return ()
    method = variables.word("ansible_become_method") or "sudo"
    if method.removeprefix("ansible.builtin.") != "sudo":
        return ()  # only matters where the SSH user may not use the engine, which is said there
    user = variables.word("ansible_become_user") or "root"
    return ("sudo", "-n", "-u", user, "--")


def _python(variables: _Variables) -> str:
    """The interpreter Ansible would use; discovery ("auto") is not repeated here."""
    python = variables.word("ansible_python_interpreter")
    return python if _INTERPRETER.fullmatch(python) and not python.startswith("auto") else "python3"


class _Variables:
    """A host's variables, read as plain data; whatever could be taken for an option or a second line is refused."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._values: Mapping[str, object] = host.variables

    def refusal(self, name: str, why: str) -> EngineUnreachable:
        return EngineUnreachable(
            f"{self.host.name}: guard does not connect with this {name}: {why}",
            hint=f"Correct {name} in the inventory.",
        )

    def text(self, *names: str) -> str:
        """The first of these variables that is set, or ""."""
        for name in names:
            value = self._values.get(name)
            if value is None or value == "":
                continue
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise self.refusal(name, f"it is a {type(value).__name__}, not text")
            if _CONTROL.search(str(value)):
                raise self.refusal(name, "it has a line end or control character in it")
            return str(value)
        return ""

    def word(self, *names: str) -> str:
        value = self.text(*names)
        if value.startswith("-"):
            raise self.refusal(names[0], "it begins with '-'")
        return value

    def quotable(self, *names: str) -> str:
        value = self.word(*names)
        if '"' in value:
            raise self.refusal(names[0], "it has a quotation mark in it")
        return value

    def number(self, name: str, low: int, high: int) -> int | None:
        text = self.text(name)
        if not text:
            return None
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise self.refusal(name, f"it is no number from {low} to {high}")
        return int(text)

    def flag(self, *names: str) -> bool | None:
        for name in names:
            value = self._values.get(name)
            if isinstance(value, bool | int):
                return bool(value)
            if isinstance(value, str) and value:
                return value.strip().lower() in {"yes", "true", "on", "1", "y", "t"}
        return None


def connection(host: Host) -> str:
    """``ssh`` or ``local``. EngineUnreachable for connections that carry no socket."""
    name = _Variables(host).word("ansible_connection").removeprefix("ansible.builtin.") or "ssh"
    if name in ("ssh", "smart"):
        return "ssh"
    if name == "local":
        return "local"
    raise EngineUnreachable(
        f"{host.name}: guard cannot look at its engine over ansible_connection={name}",
        hint="guard looks over ssh or local connections.",
    )


def engine_address(host: Host) -> str:
    """``guard_docker_host`` of the inventory, or ""."""
    return _Variables(host).word("guard_docker_host")
