"""The postgres check."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from guard.config import fields
from guard.config.checks.base import CheckBase


class PostgresCheck(CheckBase):
    """A query over a fresh connection. ``dsn`` is None only in the built-in set without WAREHOUSE_DSN."""

    type: Annotated[Literal["postgres"], Field(description="A query to a PostgreSQL server.")] = "postgres"
    dsn: Annotated[
        fields.Dsn,
        Field(description="Connection address (URL or key=value); or {file: PATH}; may hold {{ variable }}."),
    ]
    query: Annotated[fields.PlainText, Field(description="The query to run.", min_length=1)] = "select 1"
    expect: Annotated[
        str | int | float | bool | None,
        Field(description="What the first column of the first row must be. Default: any answer will do."),
    ] = None

    def templates(self) -> tuple[str, ...]:
        return () if self.dsn is None else (self.dsn.get_secret_value(),)

    @property
    def problem(self) -> str:
        """Why this check cannot measure at all ("" when it can): it then observes `unknown`."""
        return "WAREHOUSE_DSN is not set, so guard does not know the database" if self.dsn is None else ""
