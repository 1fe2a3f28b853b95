"""What every loop works with: the configuration bound to its hosts, and the ports."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from guard.errors import UsageError
from guard.model import Host, Image, SwarmUnit, Unit
from guard.ports import Clock, Engines, Inventory, Store
from guard.service.events import Listener, nobody

if TYPE_CHECKING:
    import structlog

    from guard.config.schema import GuardConfig, ServiceConfig
    from guard.rollback.ahead import Ahead
    from guard.rollback.catalog import Catalog
    from guard.schedule import ScheduledTarget

DEFAULT_ENGINE = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Bound:
    """A service and the hosts it lives on. A service without ``hosts`` lives on this machine's own engine."""

    config: ServiceConfig
    hosts: tuple[Host, ...]
    local: bool

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def swarm(self) -> bool:
        """A Swarm service is one thing on many nodes: its hosts are where it can be asked for."""
        return isinstance(self.config.unit, SwarmUnit)

    def unit_on(self, host: Host) -> Unit:
        """What the service is on that host, its variables replaced. ConfigError when the host lacks one."""
        from guard.config.substitute import render_unit

        return render_unit(self.config.unit, host)

    def engine_host(self, host: Host) -> Host | None:
        """What ``Engines.on`` wants: None is this machine's engine."""
        return None if self.local else host

    def narrowed(self, names: frozenset[str]) -> Bound:
        return Bound(self.config, tuple(host for host in self.hosts if host.name in names), self.local)


class UnderTest:
    """Which image must run where: what a gate found at its start, and what a rollback has put there while it verifies.

    Checks ask it, so that an old instance which still answers does not pass for the new one. A watch expects nothing:
    another image under its eyes is a new deploy, and no failure.
    """

    def __init__(self) -> None:
        self._images: dict[str, dict[str, Image]] = {}

    def expect(self, bound: Bound, images: Mapping[str, Image]) -> None:
        """From now on these images by host, and nothing on other hosts. A Swarm service has one, whoever is asked."""
        one_for_all = {host.name: image for image in images.values() for host in bound.hosts} if bound.swarm else {}
        self._images[bound.name] = {**images, **one_for_all}

    def forget(self, bound: Bound) -> None:
        """From now on anything may run there."""
        self._images.pop(bound.name, None)

    def image(self, service: str, host: str) -> Image | None:
        """None: nothing is expected. ``host`` "": what every host runs, if it is the same everywhere."""
        expected = self._images.get(service, {})
        if host:
            return expected.get(host)
        ids = {image.image_id for image in expected.values()}
        return next(iter(expected.values())) if len(ids) == 1 else None


@dataclass(frozen=True, slots=True)
class Session:
    """Built by ``guard.wiring`` for one command; everything in it lives as long as that command."""

    config: GuardConfig
    state_dir: Path
    inventory: Inventory
    store: Store
    engines: Engines
    catalog: Catalog
    clock: Clock
    log: structlog.stdlib.BoundLogger
    holder: str
    build_targets: Callable[[Bound, Engines], list[ScheduledTarget]]
    environ: Mapping[str, str]
    tell: Listener = nobody
    under_test: UnderTest = field(default_factory=UnderTest)
    early: Ahead | None = None  # the process of a run that is certain to come soon, see guard.rollback.ahead

    def bind(self, names: Sequence[str], limit: str | None = None) -> tuple[Bound, ...]:
        """The services of those names (all when none is given) with their hosts."""
        configs = [self.config.service(name) for name in names] if names else list(self.config.services)
        if len({config.name for config in configs}) != len(configs):
            raise UsageError("a service is named twice")
        return tuple(self._bind(config, limit) for config in configs)

    def _bind(self, config: ServiceConfig, limit: str | None) -> Bound:
        if config.hosts is None:
            if limit not in (None, "localhost", "all"):
                raise UsageError(
                    f"service {config.name} has no hosts, so --limit {limit!r} matches nobody",
                    hint="leave --limit out, or give the service `hosts:` in the configuration",
                )
            return Bound(config, (local_host(),), True)
        return Bound(config, self.inventory.hosts(config.hosts, limit), False)

    def engine_address(self, bound: Bound, host: Host) -> str:
        """Where the engine's socket is, as the restore module on that host sees it."""
        own = host.variables.get("guard_docker_host")
        if isinstance(own, str) and own:
            return own
        if bound.local or host.variables.get("ansible_connection") == "local":
            return self.environ.get("DOCKER_HOST") or DEFAULT_ENGINE
        return DEFAULT_ENGINE


def local_host() -> Host:
    """This machine as Ansible sees it when there is no inventory."""
    return Host(
        "localhost",
        {
            "inventory_hostname": "localhost",
            "ansible_host": "localhost",
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
        },
    )


def new_id(kind: str, now: datetime) -> str:
    """``rb-20261123-234010-9f3a``: sorts by time, safe as a path, unique enough between guards."""
    return f"{kind}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def author(environ: Mapping[str, str]) -> str:
    """Who asks: the CI's name of the actor, else the login name."""
    for name in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_USER_ID", "SUDO_USER", "USER", "LOGNAME"):
        if environ.get(name):
            return environ[name]
    return f"uid {os.getuid()}"
