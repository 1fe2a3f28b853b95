"""How often a target is measured and how its answers are counted: a check's own keys, and those of ``defaults``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from guard.config import fields


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


class Counting(BaseModel):
    """Times and thresholds. What a check leaves out comes from its file's ``defaults``, and there from here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval: Annotated[fields.PositiveSeconds, Field(description="Time between two starts of a check.")] = 30.0
    timeout: Annotated[
        fields.PositiveSeconds, Field(description="One deadline around a whole check; longer is unhealthy.")
    ] = 10.0
    failure_threshold: Annotated[fields.Count, Field(description="Failures in a row that cross the threshold.")] = 3
    warning_threshold: Annotated[fields.Count, Field(description="Failures in a row that warn and arm a rollback.")] = 2
    success_threshold: Annotated[fields.Count, Field(description="Successes in a row that count as recovered.")] = 1
    initial_delay: Annotated[
        fields.Seconds, Field(description="No measurement before this long after guard begins to watch.")
    ] = 0.0
    confirm_interval: Annotated[
        fields.PositiveSeconds | None,
        Field(description="Interval from a first failure until it recovers or crosses. Default: the interval."),
    ] = None
    flapping: Annotated[
        Flapping, Field(description="So many failures among the last ones cross the threshold too, or none.")
    ] = None
    degraded_as: Annotated[
        DegradedAs, Field(description="What a degraded answer is taken for; degraded is neither good nor bad.")
    ] = "degraded"


THRESHOLD_KEYS = tuple(Counting.model_fields)
"""What `defaults` may say for all checks."""
