"""``{{ variable }}`` in a check: plain text replacement by an inventory variable of the host.

Nothing is evaluated: no filters, no lookups, no expressions, and a value that itself contains ``{{ … }}`` is
inserted as the text it is. ``check_template`` refuses everything else when the file is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from guard.errors import ConfigError
from guard.model import ComposeUnit, ContainerUnit, Host, SwarmUnit, Unit

_NAME = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
_PLACEHOLDER = re.compile(r"\{\{\s*(" + _NAME + r")\s*\}\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Undecryptable:
    """Stands where an inventory variable is vaulted and guard has no password that opens it."""

    reason: str


def has_template(text: str) -> bool:
    return "{{" in text


def check_template(text: str) -> None:
    """ValueError when ``text`` holds anything but ``{{ name }}`` or ``{{ name.key }}``."""
    rest = _PLACEHOLDER.sub("", text)
    if "{{" in rest or "{%" in rest or "{#" in rest:
        raise ValueError(
            "only {{ name }} or {{ name.key }} of an inventory variable can stand here: "
            "guard replaces text and evaluates nothing (no filters, lookups or expressions)"
        )


def fill_for_validation(text: str) -> str:
    """``text`` with every placeholder as ``1``, which is good as a host, a port and a path."""
    return _PLACEHOLDER.sub("1", text)


def render(template: str, host: Host, *, what: str = "a check") -> str:
    """``template`` with the host's variables as text. ConfigError names ``what``, the host and the variable."""
    return _PLACEHOLDER.sub(lambda match: _value(match.group(1), host, what), template)


def render_unit(unit: Unit, host: Host, *, what: str = "a service") -> Unit:
    """The unit with the host's variables in its names."""
    match unit:
        case ContainerUnit(name):
            return ContainerUnit(render(name, host, what=f"{what}: container"))
        case ComposeUnit(project, service):
            texts = (render(text, host, what=f"{what}: compose") for text in (project, service))
            return ComposeUnit(*texts)
        case SwarmUnit(service):
            return SwarmUnit(render(service, host, what=f"{what}: swarm"))


def _value(name: str, host: Host, what: str) -> str:
    first, *rest = name.split(".")
    value: object = host.variables.get(first)
    if first == "inventory_hostname" or (first == "ansible_host" and value is None):
        value = host.name
    for key in rest:
        value = value.get(key) if isinstance(value, Mapping) else None
    return _text(value, name, host, what)


def _text(value: object, name: str, host: Host, what: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    where = f"{what}: inventory variable {name} of host {host.name}"
    if isinstance(value, Undecryptable):
        raise ConfigError(
            f"{where} is vaulted and cannot be decrypted: {value.reason}",
            hint="Set ANSIBLE_VAULT_PASSWORD_FILE to the password file.",
        )
    if value is None:
        raise ConfigError(
            f"{where} is not defined", hint="Define it in the inventory (host_vars, group_vars), or correct the name."
        )
    raise ConfigError(f"{where} is a {type(value).__name__}, and only text, numbers and booleans can be inserted")
