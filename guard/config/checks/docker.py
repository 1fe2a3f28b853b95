"""The docker check."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from guard.config import fields
from guard.config.checks.base import CheckBase


class DockerCheck(CheckBase):
    """Whether a container runs, is healthy by its own health check, and does not restart in a loop."""

    type: Annotated[Literal["docker"], Field(description="A look at the container itself.")] = "docker"
    container: Annotated[
        fields.Container | None,
        Field(description="Container to look at; may hold {{ variable }}. Default: the service's container."),
    ] = None

    def templates(self) -> tuple[str, ...]:
        return () if self.container is None else (self.container,)

    @property
    def per_host(self) -> bool:
        return self._on_hosts or super().per_host
