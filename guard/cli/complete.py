"""What a shell offers behind a command: names of the configuration and of its inventory. Never an error."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.errors import GuardError

if TYPE_CHECKING:
    from guard.config.schema import GuardConfig


def service_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Services that are not on the line yet."""
    config = _config(context)
    given = context.params.get(parameter.name or "")
    taken = given if isinstance(given, tuple) else ()
    names = [service.name for service in config.services] if config is not None else []
    return _fitting((name for name in names if name not in taken), incomplete)


def host_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Hosts of the services that are on the line, else of all."""
    from guard.wiring import inventory

    config = _config(context)
    if config is None:
        return []
    wanted = context.params.get("service")
    try:
        hosts = inventory(config, os.environ)
        patterns = {s.hosts for s in config.services if s.hosts is not None and wanted in (None, s.name)}
        return _fitting({host.name for pattern in patterns for host in hosts.hosts(pattern)}, incomplete)
    except GuardError:
        return []


def _config(context: click.Context) -> GuardConfig | None:
    from guard.wiring import load_config

    outer = context.parent.params if context.parent is not None else {}
    asked = context.params.get("config") or outer.get("config")
    try:
        return load_config(asked if isinstance(asked, Path) else None, os.environ)
    except GuardError:
        return None


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
