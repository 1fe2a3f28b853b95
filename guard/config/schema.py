"""What a configuration holds, as frozen values. Unknown keys are errors everywhere.

``GuardConfig`` is the whole of it after loading: paths absolute, defaults applied, names given. Code may rely on its
being complete and checked; ``guard.config.load`` is the only thing that builds one from a file.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from guard.config import fields
from guard.config.checks import Check, DockerCheck, HttpCheck, HttpExpect, PostgresCheck, settle
from guard.config.checks.counting import Counting
from guard.config.maintenance import MaintenanceConfig
from guard.decide.windows import Window
from guard.errors import UsageError
from guard.model import ComposeUnit, ContainerUnit, SwarmUnit, Unit


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Defaults(Counting):
    """What a check gets for the keys that it leaves out."""


class RetentionConfig(_Frozen):
    """How much of the past is kept. An unfinished run is never deleted."""

    runs: Annotated[fields.Count, Field(description="Artifacts of this many rollbacks are kept, and of snapshots.")] = (
        50
    )
    days: Annotated[
        fields.Count, Field(description="Artifacts and hourly sums of observations older than this are deleted.")
    ] = 90
    observations_days: Annotated[
        fields.Count, Field(description="Each observation is kept this many days, then only hourly sums are.")
    ] = 7
    observations: Annotated[
        fields.Count,
        Field(description="At most so many single observations are kept; older ones become sums."),
    ] = 2_000_000


class HooksConfig(_Frozen):
    """Task files of your own, run on each host around its swap."""

    before: Annotated[fields.TaskFile | None, Field(description="Tasks right before a host's swap.")] = None
    after: Annotated[
        fields.TaskFile | None, Field(description="Tasks right after it, also when it failed: they undo `before`.")
    ] = None


class RollbackConfig(_Frozen):
    """How a service is rolled back."""

    playbook: Annotated[
        fields.PlaybookName,
        Field(
            description="name@version: container@1 is the newest installed 1.x.y. "
            "Default: container@1, for a Compose service compose@1, for a Swarm service swarm@1."
        ),
    ] = "container@1"
    batches: Annotated[
        fields.Batches, Field(description='Cumulative counts or percentages of hosts, such as [1, "50%", "100%"].')
    ] = ("100%",)
    on_batch_failure: Annotated[
        Literal["stop", "continue", "revert"],
        Field(description="After a batch in which a host failed; revert: stop, and put back what was restored."),
    ] = "stop"
    verify_for: Annotated[
        fields.Seconds, Field(description="The service's checks must hold for this long after the swap.")
    ] = 30.0
    min_gap: Annotated[
        fields.Seconds, Field(description="No second automatic rollback of the service within this time.")
    ] = 600.0
    scope: Annotated[
        Literal["all", "failing"],
        Field(description="all: every host that runs the bad release; failing: only hosts whose own targets failed."),
    ] = "all"
    good_after: Annotated[
        fields.Seconds, Field(description="`guard watch` calls a release good after this long in health.")
    ] = 600.0
    fallback: Annotated[
        Literal["local-images", "none"],
        Field(description="Without a good release on record: the newest other local image of the repository, or none."),
    ] = "local-images"
    health_timeout: Annotated[
        fields.PositiveSeconds, Field(description="How long a host waits for the restored container to be healthy.")
    ] = 60.0
    hooks: Annotated[HooksConfig, Field(description="Task files run around each host's swap.")] = HooksConfig()


class ComposeTarget(_Frozen):
    """A service of a Compose project."""

    project: Annotated[fields.UnitName, Field(description="Compose project; may hold {{ variable }}.")]
    service: Annotated[fields.UnitName, Field(description="Service in the project; may hold {{ variable }}.")]


class SwarmTarget(_Frozen):
    """A Swarm service."""

    service: Annotated[fields.UnitName, Field(description="Swarm service; may hold {{ variable }}.")]


def _name_of_service(data: dict[str, object]) -> str:
    """The container's default: the service's name (absent when the name itself was wrong)."""
    name = data.get("name")
    return name if isinstance(name, str) else ""


class ServiceConfig(_Frozen):
    """What is guarded: a name, its hosts, its container, its checks, its policy."""

    name: Annotated[fields.Name, Field(description="Unique name; it also names folders.")]
    critical: Annotated[
        fields.Flag, Field(description="A service that is not critical is logged and notified, never rolled back.")
    ] = True
    hosts: Annotated[
        fields.HostPattern | None,
        Field(description="Ansible host pattern. Default: none, the container runs on the local engine."),
    ] = None
    container: Annotated[
        fields.Container, Field(description="Container name; may hold {{ variable }}. Default: the service's name.")
    ] = Field(default_factory=_name_of_service)
    compose: Annotated[
        ComposeTarget | None, Field(description="Compose service with one container per host, instead of container.")
    ] = None
    swarm: Annotated[
        SwarmTarget | None, Field(description="Swarm service, instead of container; hosts are its managers.")
    ] = None
    depends_on: Annotated[
        tuple[fields.Name, ...],
        Field(description="Services this one needs: while one of them fails, this one is not rolled back."),
    ] = ()
    maintenance: Annotated[
        tuple[MaintenanceConfig, ...],
        Field(description="Hours that come again, in which this service is not rolled back by itself."),
    ] = ()
    rollback: Annotated[RollbackConfig, Field(description="How the service is rolled back.", validate_default=True)] = (
        RollbackConfig()
    )
    quorum: Annotated[
        fields.Quorum,
        Field(description="How many of the service's targets must have failed: any, a number or a percentage."),
    ] = "any"
    checks: Annotated[tuple[Check, ...], Field(description="How the service is measured.", min_length=1)]

    @property
    def unit(self) -> Unit:
        """What the service is on each host; its names may still hold ``{{ variable }}``."""
        if self.compose is not None:
            return ComposeUnit(self.compose.project, self.compose.service)
        return SwarmUnit(self.swarm.service) if self.swarm is not None else ContainerUnit(self.container)

    @property
    def windows(self) -> tuple[Window, ...]:
        """Its maintenance windows; once loaded, those for all services among them."""
        return tuple(one.window for one in self.maintenance)

    @field_validator("rollback", mode="after")
    @classmethod
    def _playbook_of_its_kind(cls, rollback: RollbackConfig, info: ValidationInfo) -> RollbackConfig:
        kind = next((kind for kind in ("compose", "swarm") if info.data.get(kind) is not None), "container")
        own = "playbook" in rollback.model_fields_set
        return rollback if own else rollback.model_copy(update={"playbook": f"{kind}@1"})

    @field_validator("checks", mode="after")
    @classmethod
    def _settle_checks(cls, checks: tuple[Check, ...], info: ValidationInfo) -> tuple[Check, ...]:
        return settle(checks, on_hosts=info.data.get("hosts") is not None)


class GuardConfig(_Frozen):
    """A loaded configuration."""

    inventory: tuple[Path, ...] = ()
    store: str = "sqlite"
    services: tuple[ServiceConfig, ...]
    playbook_path: tuple[Path, ...] = ()
    retention: RetentionConfig = RetentionConfig()
    source: Path | None = None  # the file it came from
    legacy: bool = False  # the older JSON form
    built_in: bool = False  # no file at all
    warnings: tuple[str, ...] = ()
    secrets: frozenset[str] = Field(default=frozenset(), repr=False)  # texts that came from ${…} or a secret file

    def service(self, name: str) -> ServiceConfig:
        """The service of that name. UsageError names those there are."""
        for service in self.services:
            if service.name == name:
                return service
        names = [service.name for service in self.services]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise UsageError(f"there is no service {name!r}", hint=f"{hint}Configured services: {', '.join(names)}.")


__all__ = [
    "Check",
    "Defaults",
    "DockerCheck",
    "GuardConfig",
    "HttpCheck",
    "HttpExpect",
    "MaintenanceConfig",
    "PostgresCheck",
    "RetentionConfig",
    "RollbackConfig",
    "ServiceConfig",
]
