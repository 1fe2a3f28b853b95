"""What every check has: its name, its times, its thresholds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from guard.config import fields
from guard.config.substitute import has_template
from guard.decide.thresholds import Thresholds


class CheckBase(BaseModel):
    """What every check has. Whatever a file's check leaves out comes from its ``defaults``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[
        fields.Name,
        Field(description="Name of the check, unique in its service. Default: its type; then http-2, http-3 …"),
    ] = ""
    interval: Annotated[
        fields.PositiveSeconds, Field(description="Time between two starts of the check. Default: `defaults`.")
    ] = 30.0
    timeout: Annotated[
        fields.PositiveSeconds,
        Field(description="One deadline around the whole check; longer is unhealthy. Default: `defaults`."),
    ] = 10.0
    failure_threshold: Annotated[
        fields.Count, Field(description="Failures in a row that cross the threshold. Default: `defaults`.")
    ] = 3
    warning_threshold: Annotated[
        fields.Count, Field(description="Failures in a row that warn and arm a rollback. Default: `defaults`.")
    ] = 2
    success_threshold: Annotated[
        fields.Count, Field(description="Successes in a row that count as recovered. Default: `defaults`.")
    ] = 1

    _on_hosts: bool = PrivateAttr(default=False)  # the service has hosts; set by ServiceConfig

    @property
    def thresholds(self) -> Thresholds:
        """A warning threshold above the failure threshold comes from a default, and is lowered to it."""
        return Thresholds(
            failure=self.failure_threshold,
            warning=min(self.warning_threshold, self.failure_threshold),
            success=self.success_threshold,
        )

    def templates(self) -> tuple[str, ...]:
        """The texts of this check in which ``{{ variable }}`` is replaced."""
        return ()

    @property
    def per_host(self) -> bool:
        """Whether there is one target per host of the service, rather than one in all."""
        return any(has_template(text) for text in self.templates())
