"""The only place where adapters are built: from options and the environment to a Session."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from guard.config.load import load
from guard.config.schema import GuardConfig
from guard.model import Measurement, State, TargetKey
from guard.ports import Engines, Inventory, Probe, Store
from guard.service.events import Listener, nobody
from guard.service.session import Bound, Session, UnderTest

if TYPE_CHECKING:
    import structlog

    from guard.rollback.catalog import Catalog
    from guard.schedule import ScheduledTarget


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def state_folder(asked: Path | None, environ: Mapping[str, str]) -> Path:
    """``--state-dir``, ``$GUARD_STATE_DIR``, else ``/var/lib/guard`` for root and the user's own state folder."""
    if asked is not None:
        return asked.absolute()
    if environ.get("GUARD_STATE_DIR"):
        return Path(environ["GUARD_STATE_DIR"]).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/guard")
    base = environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(base) / "guard"


def load_config(asked: Path | None, environ: Mapping[str, str]) -> GuardConfig:
    return load(asked, environ, Path.cwd())


def catalog(config: GuardConfig) -> Catalog:
    from guard.rollback.catalog import Catalog

    return Catalog(config.playbook_path)


def inventory(config: GuardConfig, environ: Mapping[str, str]) -> Inventory:
    from guard.inventory import AnsibleInventory

    folder = config.source.parent if config.source is not None else None
    patterns = [service.hosts for service in config.services if service.hosts is not None]
    return AnsibleInventory(config.inventory, environ=environ, folder=folder, expected=patterns)


def engines(environ: Mapping[str, str]) -> Engines:
    from guard.engines.hosts import HostEngines

    return HostEngines(environ)


def open_store(config: GuardConfig, state_dir: Path, *, read_only: bool = False) -> Store:
    from guard.store import open_store as open_

    return open_(config.store, state_dir, read_only)


class Masked:
    """A probe whose answers are told and stored without the secrets of configuration and host variables."""

    def __init__(self, probe: Probe, secrets: Collection[str]) -> None:
        from guard.rollback.redact import Redactor

        self._probe = probe
        self._redactor = Redactor(secrets)

    async def measure(self) -> Measurement:
        found = await self._probe.measure()
        evidence = {key: self._redactor.text(value) for key, value in found.evidence.items()}
        return replace(found, reason=self._redactor.text(found.reason), evidence=evidence)


def targets_of(
    bound: Bound, engines: Engines, known: Collection[str] = (), under_test: UnderTest | None = None
) -> list[ScheduledTarget]:
    """Every check of a service on every host it is for, as something the schedule can run."""
    from guard.checks.registry import build
    from guard.checks.site import Site
    from guard.config.checks import DockerCheck
    from guard.rollback.redact import secrets_in
    from guard.schedule import ScheduledTarget

    board = under_test or UnderTest()
    found = []
    names = {bound.name, str(bound.config.unit), bound.config.hosts}  # a report without them says nothing
    known = [text for text in known if text not in names]
    for check in bound.config.checks:
        one_for_all = bound.swarm and isinstance(check, DockerCheck) and check.container is None
        for host in bound.hosts if check.per_host and not one_for_all else (None,):
            key = TargetKey(bound.name, check.name, host.name if host is not None else "")
            around = host if host is not None else bound.hosts[0] if bound.local or one_for_all else None
            unit = bound.unit_on(around) if around is not None else bound.config.unit
            managers = bound.hosts if one_for_all and not bound.local else ()
            should = partial(board.image, bound.name, around.name if around is not None else "")
            site = Site(host, engines, unit, managers, should)
            probe = Masked(build(check, site), [*known, *(secrets_in(host.variables) if host else ())])
            found.append(
                ScheduledTarget(
                    key,
                    probe,
                    check.interval,
                    check.timeout,
                    check.thresholds,
                    initial_delay_s=check.initial_delay,
                    confirm_s=check.confirm_s,
                    degraded_as=State(check.degraded_as),
                )
            )
    return found


@asynccontextmanager
async def open_session(
    config: GuardConfig,
    state_dir: Path,
    log: structlog.stdlib.BoundLogger,
    *,
    read_only: bool = False,
    tell: Listener | None = None,
) -> AsyncIterator[Session]:
    """Everything a command works with; closed in reverse order, connections included."""
    from guard.store import this_process

    environ = dict(os.environ)
    for warning in config.warnings:
        log.warning(warning)
    if config.built_in:
        log.warning("no configuration file was found: the built-in set of services is used")
    with open_store(config, state_dir, read_only=read_only) as store:
        ways = engines(environ)
        under_test = UnderTest()
        try:
            yield Session(
                config=config,
                state_dir=state_dir,
                inventory=inventory(config, environ),
                store=store,
                engines=ways,
                catalog=catalog(config),
                clock=SystemClock(),
                log=log,
                holder=this_process(),
                build_targets=partial(targets_of, known=config.secrets, under_test=under_test),
                environ=environ,
                tell=tell or nobody,
                under_test=under_test,
            )
        finally:
            await ways.close()
