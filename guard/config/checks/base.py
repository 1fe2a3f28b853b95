"""What every check has: its name, its times, its thresholds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PrivateAttr

from guard.config import fields
from guard.config.checks.counting import Counting
from guard.config.substitute import has_template
from guard.decide.thresholds import Thresholds


class CheckBase(Counting):
    """What every check has."""

    name: Annotated[
        fields.Name,
        Field(description="Name of the check, unique in its service. Default: its type; then http-2, http-3 …"),
    ] = ""

    _on_hosts: bool = PrivateAttr(default=False)  # the service has hosts; set by ServiceConfig

    @property
    def thresholds(self) -> Thresholds:
        """A warning threshold above the failure threshold comes from a default, and is lowered to it; a flapping window
        with fewer failures than that is raised to it."""
        window = self.flapping
        flaps = max(window.failures, self.failure_threshold) if window else 0  # fewer never cross
        return Thresholds(
            failure=self.failure_threshold,
            warning=min(self.warning_threshold, self.failure_threshold),
            success=self.success_threshold,
            window=max(window.window, flaps) if window else 0,
            flaps=flaps,
        )

    @property
    def confirm_s(self) -> float | None:
        """The interval while a failure is confirmed, never above the ordinary one. None: the ordinary one."""
        return None if self.confirm_interval is None else min(self.confirm_interval, self.interval)

    def templates(self) -> tuple[str, ...]:
        """The texts of this check in which ``{{ variable }}`` is replaced."""
        return ()

    @property
    def per_host(self) -> bool:
        """Whether there is one target per host of the service, rather than one in all."""
        return any(has_template(text) for text in self.templates())
