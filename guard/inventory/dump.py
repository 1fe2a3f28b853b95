"""A program of its own: loads an inventory with Ansible's loader and prints JSON. Nothing here is evaluated.

stdin:  {"sources": [PATH], "patterns": [PATTERN], "undecryptable": KEY}
stdout: {"patterns": {PATTERN: {"hosts": [NAME], "unmatched": [PART], "error": TEXT}}, "variables": {HOST: {…}},
         "groups": [NAME], "hosts": [NAME]}  or  {"error": TEXT}

Run as ``python -m guard.inventory.dump``: Ansible in guard's own process would cost every idle watcher its memory.
Variables are the raw ones: Jinja in them stays text, vaulted ones are decrypted when there is a password for
them, and are {KEY: REASON} otherwise.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

_DECIDED_BY_A_PLAY = frozenset({"ansible_playbook_python", "ansible_config_file", "playbook_dir"})

_OPTIONS = {
    "DEFAULT_REMOTE_USER": "ansible_user",
    "DEFAULT_REMOTE_PORT": "ansible_port",
    "DEFAULT_PRIVATE_KEY_FILE": "ansible_ssh_private_key_file",
    "DEFAULT_TRANSPORT": "ansible_connection",
    "DEFAULT_BECOME": "ansible_become",
    "DEFAULT_BECOME_METHOD": "ansible_become_method",
    "DEFAULT_BECOME_USER": "ansible_become_user",
    "INTERPRETER_PYTHON": "ansible_python_interpreter",
}
_SSH_OPTIONS = {
    "ssh_args": "ansible_ssh_args",
    "ssh_common_args": "ansible_ssh_common_args",
    "ssh_extra_args": "ansible_ssh_extra_args",
    "ssh_executable": "ansible_ssh_executable",
}
_UNCHECKED = "-o StrictHostKeyChecking=no"  # what Ansible itself does when host_key_checking was turned off


def main() -> None:
    gc.disable()  # while Ansible is imported there is nothing to collect, and looking takes a fifth of the time
    request = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever Ansible or a plug-in prints must not end up in the answer
    with out:
        json.dump(_answer(request["sources"], request["patterns"], request["undecryptable"]), out)


def _answer(sources: list[str], patterns: list[str], undecryptable: str) -> dict[str, object]:
    from ansible import constants
    from ansible.cli import CLI
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.vars.manager import VariableManager

    gc.enable()
    try:
        loader = DataLoader()
        identities = list(constants.DEFAULT_VAULT_IDENTITY_LIST)
        loader.set_vault_secrets(CLI.setup_vault_secrets(loader, vault_ids=identities, auto_prompt=False))
        inventory = InventoryManager(loader=loader, sources=sources)
        variables = VariableManager(loader=loader, inventory=inventory)
        matches: dict[str, Any] = {pattern: _match(inventory, pattern) for pattern in patterns}
        wanted = {name for match in matches.values() for name in match["hosts"]}
        return {
            "patterns": matches,
            "variables": {
                name: _variables(variables, inventory.get_host(name), undecryptable) for name in sorted(wanted)
            },
            "groups": sorted(set(inventory.groups) - {"all", "ungrouped"}),
            "hosts": [host.name for host in inventory.get_hosts("all")],
        }
    except AnsibleError as error:
        return {"error": str(error)}


def _match(inventory: Any, pattern: str) -> dict[str, object]:
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import split_host_pattern

    try:
        parts = [part.lstrip("&!") for part in split_host_pattern(pattern)]
        unmatched = [part for part in parts if part and part != "all" and not inventory.get_hosts(part)]
        return {"hosts": [host.name for host in inventory.get_hosts(pattern)], "unmatched": unmatched, "error": ""}
    except AnsibleError as error:
        return {"hosts": [], "unmatched": [], "error": str(error)}


def _variables(manager: Any, host: Any, undecryptable: str) -> dict[str, object]:
    from ansible import constants

    raw = {**_connection_settings(), **manager.get_vars(host=host, include_hostvars=False, stage="all")}
    internal = (constants.INTERNAL_STATIC_VARS | _DECIDED_BY_A_PLAY) - {"inventory_hostname"}
    return {str(name): _plain(value, undecryptable) for name, value in raw.items() if name not in internal}


@cache
def _connection_settings() -> dict[str, object]:
    """How ansible.cfg and the environment say that hosts are reached, as the variables that mean the same.

    guard's runs have a configuration of their own, and its engine connections are no Ansible: the variables serve both.
    Only what somebody has set; an inventory variable of the same name wins.
    """
    from ansible import constants
    from ansible.plugins.loader import connection_loader

    connection_loader.get("ssh", class_only=True)  # makes the plug-in's options known
    found: dict[str, object] = {}
    for option, variable in _OPTIONS.items():
        value, origin = constants.config.get_config_value_and_origin(option)
        if origin != "default" and value is not None:
            found[variable] = value
    for option, variable in _SSH_OPTIONS.items():
        value, origin = constants.config.get_config_value_and_origin(
            option, plugin_type="connection", plugin_name="ssh"
        )
        if origin != "default" and value is not None:
            found[variable] = value
    if str(found.get("ansible_python_interpreter", "")).startswith("auto"):
        del found["ansible_python_interpreter"]
    checked, origin = constants.config.get_config_value_and_origin("HOST_KEY_CHECKING")
    if origin != "default" and not checked:
        found["ansible_ssh_common_args"] = f"{found.get('ansible_ssh_common_args', '')} {_UNCHECKED}".strip()
    return found


def _plain(value: Any, undecryptable: str) -> object:
    """JSON's kinds only. Every text becomes exactly ``str``: no tag of Ansible's ("trusted as template") survives."""
    from ansible.errors import AnsibleError

    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, undecryptable) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, undecryptable) for item in value]
    try:
        return str(value)  # a vaulted value is decrypted by this
    except AnsibleError as error:
        return {undecryptable: str(error).splitlines()[0]}


if __name__ == "__main__":
    main()
