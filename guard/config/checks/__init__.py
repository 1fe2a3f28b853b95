"""The checks a service can have, as frozen values, one file per type. What a check measures is in ``guard.checks``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from guard.config.checks.base import CheckBase
from guard.config.checks.command import CommandCheck
from guard.config.checks.counting import THRESHOLD_KEYS
from guard.config.checks.docker import DockerCheck
from guard.config.checks.http import HttpCheck, HttpExpect
from guard.config.checks.plugin import PluginCheck, PluginSettings, installed
from guard.config.checks.postgres import PostgresCheck
from guard.config.checks.prometheus import PrometheusCheck
from guard.config.checks.tcp import TcpCheck
from guard.config.checks.tls import TlsCheck

__all__ = [
    "CHECK_TYPES",
    "THRESHOLD_KEYS",
    "Check",
    "CommandCheck",
    "DockerCheck",
    "HttpCheck",
    "HttpExpect",
    "PluginSettings",
    "PostgresCheck",
    "PrometheusCheck",
    "TcpCheck",
    "TlsCheck",
    "settle",
]

BuiltIn = Annotated[
    HttpCheck
    | PostgresCheck
    | DockerCheck
    | TcpCheck
    | TlsCheck
    | CommandCheck
    | PrometheusCheck,
    Field(discriminator="type"),
]  # fmt: skip # one line per type
CHECK_TYPES = ("http", "postgres", "docker", "tcp", "tls", "command", "prometheus")


def _kind(value: object) -> str:
    """A type that nobody brings is left to the built-in ones, which say so."""
    if isinstance(value, CheckBase):
        return "plug-in" if isinstance(value, PluginSettings) else "built-in"
    named = value.get("type") if isinstance(value, dict) else None
    foreign = isinstance(named, str) and named not in CHECK_TYPES and named in installed()
    return "plug-in" if foreign else "built-in"


Check = Annotated[
    Annotated[BuiltIn, Tag("built-in")] | Annotated[PluginCheck, Tag("plug-in")],
    Discriminator(_kind),
]


def settle(checks: tuple[Check, ...], *, on_hosts: bool) -> tuple[Check, ...]:
    """Give every check its name (http, then http-2, http-3 …, passing over taken ones) and its service's hosts."""
    taken = {check.name for check in checks}
    settled = []
    for check in checks:
        name, number = check.name or check.type, 1
        while not check.name and name in taken:
            number += 1
            name = f"{check.type}-{number}"
        taken.add(name)
        fresh = check.model_copy(update={"name": name})
        fresh._on_hosts = on_hosts  # a private attribute: no file can set it, and copies keep it
        settled.append(fresh)
    return tuple(settled)
