"""``python -m guard.rollback.launch GO PARENT``: ansible-playbook, loaded before there is something to play.

It waits for the file GO, whose JSON is the command line, and is ansible-playbook from then on. When PARENT, the process
that started it, ends before that, it ends as well and takes GO's folder along.

Loading first, collecting no garbage while loading, and parsing Ansible's own table of moved plugins (500 kB) before the
word comes is what makes a run short: all of it is done when GO arrives. Afterwards what is loaded is exempt from
garbage collection, so that forked workers share it instead of copying it."""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_POLL_S = 0.002
# What ansible-playbook and its workers import one by one in the course of a play. Missing ones cost only their time.
_LATER = (
    "ansible.executor.module_common",
    "ansible.executor.task_executor",
    "ansible.inventory.manager",
    "ansible.plugins.action.normal",
    "ansible.plugins.connection.ssh",
    "ansible.plugins.inventory.yaml",
    "ansible.plugins.shell.sh",
    "ansible.plugins.strategy.linear",
    "ansible.plugins.vars.host_group_vars",
)
_TABLE = "config/ansible_builtin_runtime.yml"


def main() -> None:
    go, parent = Path(sys.argv[1]), int(sys.argv[2])
    gc.disable()
    from ansible.cli.playbook import PlaybookCLI

    for name in _LATER:
        with suppress(ImportError):
            importlib.import_module(name)
    with suppress(ImportError, AttributeError, OSError):
        _read_table()
    command = _wait(go, parent)
    if command is None:
        shutil.rmtree(go.parent, ignore_errors=True)
        return
    gc.freeze()
    gc.enable()
    sys.argv = command
    PlaybookCLI.cli_executor(command)


def _wait(go: Path, parent: int) -> list[str] | None:
    while os.getppid() == parent:
        try:
            return [str(part) for part in json.loads(go.read_text())]
        except FileNotFoundError:
            time.sleep(_POLL_S)
    return None


def _read_table() -> None:
    """Parse the table of moved plugins now. Ansible leaves its parser to be replaced, see _collection_meta.py there."""
    import ansible
    from ansible.utils.collection_loader import _collection_finder as finder

    parse: Callable[[bytes | str, object], object] = finder._meta_yml_to_dict
    content = (Path(ansible.__file__).parent / _TABLE).read_bytes()
    table = parse(content, ("ansible.builtin", "runtime.yml"))
    finder._meta_yml_to_dict = lambda text, name: table if text == content else parse(text, name)


if __name__ == "__main__":
    main()
