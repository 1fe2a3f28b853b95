"""The prometheus check."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from guard.config import fields, secret_fields
from guard.config.checks.base import CheckBase
from guard.config.checks.http import PemFile
from guard.config.promql import check_query


def _query(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a PromQL query")
    check_query(text)
    return text


def _number(value: object) -> float:
    """Also in a string, which is how ``${NAME}`` arrives."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError("expected a number")


Query = Annotated[fields.Text, AfterValidator(_query), WithJsonSchema({"type": "string", "minLength": 1})]
Number = Annotated[
    float, BeforeValidator(_number), WithJsonSchema({"anyOf": [{"type": "number"}, fields.FROM_ENVIRONMENT]})
]


class PrometheusCheck(CheckBase):
    """A PromQL query, and the limits that every sample it gives must keep."""

    type: Annotated[Literal["prometheus"], Field(description="A query to a Prometheus server.")] = "prometheus"
    url: Annotated[fields.Url, Field(description="Address of the Prometheus server; may hold {{ variable }}.")]
    query: Annotated[Query, Field(description="PromQL; a string in it may hold {{ variable }}.")]
    min: Annotated[Number | None, Field(description="A sample below this is unhealthy.")] = None
    max: Annotated[
        Number | None, Field(description="A sample above this is unhealthy. At least one of min and max is needed.")
    ] = Field(default=None, validate_default=True)
    headers: Annotated[
        secret_fields.Headers,
        Field(description="Request headers; a value may be {file: PATH} and hold {{ variable }}.", repr=False),
    ] = {}  # noqa: RUF012 - pydantic copies a default
    tls_verify: Annotated[fields.Flag, Field(description="Verify the server's certificate.")] = True
    tls_ca: Annotated[
        PemFile | None, Field(description="Certificates (PEM) that are trusted instead of the system's.")
    ] = None

    @field_validator("max", mode="after")
    @classmethod
    def _some_limit(cls, highest: float | None, info: ValidationInfo) -> float | None:
        if "min" not in info.data:
            return highest  # it has an error of its own
        lowest = info.data["min"]
        if lowest is None and highest is None:
            raise ValueError("expected max, min or both: without a limit no answer is a bad one")
        if lowest is not None and highest is not None and highest < lowest:
            raise ValueError(f"expected at least min ({lowest:g})")
        return highest

    def templates(self) -> tuple[str, ...]:
        return (self.url, self.query, *self.headers.values())
