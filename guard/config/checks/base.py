"""What every check has: its name, its times, its thresholds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from guard.config import fields
from guard.config.substitute import has_template
from guard.decide.thresholds import Thresholds


class FlappingConfig(BaseModel):
    """Failures that come and go: so many among so many."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: Annotated[fields.Window, Field(description="How many of the last known observations are looked at.")] = 10
    failures: Annotated[
        fields.Count, Field(description="How many of them must be failures.", validate_default=True)
    ] = 5

    @field_validator("failures", mode="after")
    @classmethod
    def _fits(cls, failures: int, info: ValidationInfo) -> int:
        window = info.data.get("window", failures)
        if failures > window:
            raise ValueError(f"expected at most window ({window})")
        return failures


def _none(value: object) -> object:
    return None if value == "none" else value


Flapping = Annotated[
    FlappingConfig | None,
    BeforeValidator(_none),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "none"},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "window": TypeAdapter(fields.Window).json_schema(),
                        "failures": TypeAdapter(fields.Count).json_schema(),
                    },
                },
            ]
        }
    ),
]
DegradedAs = Literal["degraded", "unhealthy", "healthy"]


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

    initial_delay: Annotated[
        fields.Seconds, Field(description="No measurement before this long after guard begins to watch. Default: 0.")
    ] = 0.0
    confirm_interval: Annotated[
        fields.PositiveSeconds | None,
        Field(description="Interval from a first failure until it recovers or crosses. Default: the interval."),
    ] = None
    flapping: Annotated[
        Flapping, Field(description="So many failures among the last ones cross the threshold too. Default: none.")
    ] = None
    degraded_as: Annotated[
        DegradedAs,
        Field(description="What a degraded answer is taken for. Default: degraded, neither good nor bad."),
    ] = "degraded"

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
