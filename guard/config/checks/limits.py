"""How long an answer may take, for the checks that measure it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from guard.config import fields


class TimeLimits(BaseModel):
    """Beside the time-out, which is the end of the check itself."""

    degraded_above: Annotated[
        fields.PositiveSeconds | None, Field(description="Taking longer than this is degraded; postgres: to connect.")
    ] = None
    unhealthy_above: Annotated[
        fields.PositiveSeconds | None, Field(description="Taking longer than this is unhealthy; postgres: to connect.")
    ] = None

    @field_validator("unhealthy_above", mode="after")
    @classmethod
    def _later_than_degraded(cls, limit: float | None, info: ValidationInfo) -> float | None:
        sooner = info.data.get("degraded_above")
        if limit is not None and sooner is not None and limit <= sooner:
            raise ValueError(f"must be longer than degraded_above ({sooner:g} s)")
        return limit
