"""The postgres check."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from guard.config import fields, secret_fields
from guard.config.checks.base import CheckBase
from guard.config.checks.limits import TimeLimits

Scalar = str | int | float | bool | None


def _expected(value: object) -> object:
    """A list is a whole row, kept as a tuple."""
    listed = value if isinstance(value, (list, tuple)) else [value]
    if not listed or not all(item is None or isinstance(item, (str, int, float, bool)) for item in listed):
        raise ValueError("expected text, a number, true or false, or a list of these, one for each column")
    for item in listed:
        if isinstance(item, str):
            fields.plain(item)
    return tuple(listed) if listed is value else value


_SCALAR_SCHEMA = {"type": ["string", "number", "boolean", "null"]}
Expected = Annotated[
    Scalar | tuple[Scalar, ...],
    BeforeValidator(_expected),
    WithJsonSchema({"anyOf": [_SCALAR_SCHEMA, {"type": "array", "minItems": 1, "items": _SCALAR_SCHEMA}]}),
]


class PostgresCheck(TimeLimits, CheckBase):
    """A query over a fresh connection. ``dsn`` is None only in the built-in set without WAREHOUSE_DSN."""

    type: Annotated[Literal["postgres"], Field(description="A query to a PostgreSQL server.")] = "postgres"
    dsn: Annotated[
        secret_fields.Dsn,
        Field(description="Connection address (URL or key=value); or {file: PATH}; may hold {{ variable }}."),
    ]
    query: Annotated[fields.PlainText, Field(description="The query to run.", min_length=1)] = "select 1"
    expect: Annotated[
        Expected,
        Field(description="What the first column of the first row must be; a list: the whole row. Default: anything."),
    ] = None
    role: Annotated[
        Literal["primary", "replica"] | None, Field(description="What the server must be. Default: either.")
    ] = None
    max_lag: Annotated[
        fields.PositiveSeconds | None, Field(description="How far a replica may be behind its primary.")
    ] = None

    @field_validator("max_lag", mode="after")
    @classmethod
    def _only_a_replica_lags(cls, lag: float | None, info: ValidationInfo) -> float | None:
        if lag is not None and info.data.get("role") == "primary":
            raise ValueError("a primary has no lag: leave max_lag out, or expect role: replica")
        return lag

    def templates(self) -> tuple[str, ...]:
        return () if self.dsn is None else (self.dsn.get_secret_value(),)

    @property
    def problem(self) -> str:
        """Why this check cannot measure at all ("" when it can): it then observes `unknown`."""
        return "WAREHOUSE_DSN is not set, so guard does not know the database" if self.dsn is None else ""
