"""``guard doctor``: what of this machine and the hosts would stand in the way, and its fix."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from guard.cli.options import Options, common_options
from guard.cli.running import say

if TYPE_CHECKING:
    from guard.config.schema import GuardConfig
    from guard.model import Host
    from guard.service.doctor import Finding

PROBLEM, CONFIGURATION = 1, 2


@click.command()
@common_options
def doctor(options: Options) -> int:
    """What of this machine and the hosts would stand in the way of a rollback, and its fix. Nothing is changed.

    Exit code: 0 nothing (warnings at most), 1 a problem, 2 the configuration or inventory is wrong.
    """
    from guard.errors import GuardError
    from guard.service.doctor import Finding, Verdict, programs, state_folder, tried
    from guard.wiring import load_config, open_store
    from guard.wiring import state_folder as folder_of

    found: list[Finding] = []
    config: GuardConfig | None = None
    wanted: list[Host | None] = []
    try:
        config = load_config(options.config, os.environ)
        wanted, told = _hosts(config)
        found.append(Finding("configuration", Verdict.OK, told))
    except GuardError as error:
        found.append(Finding("configuration", Verdict.PROBLEM, error.message, error.hint or "see guard validate"))
    wrong = found[0].verdict is Verdict.PROBLEM
    remote = any(host is not None and host.variables.get("ansible_connection") != "local" for host in wanted)
    found += programs(os.environ, remote=remote)
    folder = folder_of(options.state_dir, os.environ)
    found += state_folder(folder)
    if config is not None:
        loaded = config

        def store() -> str:
            with open_store(loaded, folder, read_only=True):
                return loaded.store.partition(":")[0]

        found.append(tried("store", store, "see docs/configuration.md, store"))
        found += _playbooks(config)
    found += asyncio.run(_asked(wanted))
    problems = [one for one in found if one.verdict is Verdict.PROBLEM]
    say(options, {"ok": not problems, "findings": [asdict(one) for one in found]}, _lines(found))
    return CONFIGURATION if wrong else PROBLEM if problems else 0


def _hosts(config: GuardConfig) -> tuple[list[Host | None], str]:
    """Every host of every service once (None: this machine's engine), and the configuration in a few words."""
    from guard.wiring import inventory

    hosts: dict[str, Host | None] = {}
    inventories = inventory(config, os.environ)
    for service in config.services:
        if service.hosts is None:
            hosts[""] = None
        else:
            hosts |= {host.name: host for host in inventories.hosts(service.hosts)}
    source = config.source if config.source is not None else "the built-in set"
    return list(hosts.values()), f"{source}: {len(config.services)} services, {len(hosts)} hosts"


def _playbooks(config: GuardConfig) -> list[Finding]:
    from guard.service.doctor import tried
    from guard.wiring import catalog

    installed = catalog(config)
    names = sorted({service.rollback.playbook for service in config.services})

    def resolved(name: str) -> str:
        found = installed.resolve(name).reference
        return f"{found.name}@{found.version}, {found.digest[:19]}"

    return [tried("playbook", lambda name=name: resolved(name), "see guard playbooks") for name in names]  # type: ignore[misc]


async def _asked(wanted: Sequence[Host | None]) -> list[Finding]:
    from guard.service.doctor import hosts
    from guard.wiring import engines

    ways = engines(dict(os.environ))
    try:
        return await hosts(ways, wanted)
    finally:
        await ways.close()


def _lines(found: Sequence[Finding]) -> list[str]:
    from guard.report.text import table
    from guard.service.doctor import Verdict

    marks = {Verdict.OK: "ok", Verdict.WARNING: "WARNING", Verdict.PROBLEM: "PROBLEM"}
    lines = []
    rows = table([[marks[one.verdict], one.host or "here", one.subject, one.text] for one in found])
    for one, row in zip(found, rows, strict=True):
        lines.append(row)
        if one.fix:
            lines.append(f"         fix: {one.fix}")
    problems = sum(one.verdict is Verdict.PROBLEM for one in found)
    warnings = sum(one.verdict is Verdict.WARNING for one in found)
    return [*lines, "", f"{problems} problems, {warnings} warnings"]
