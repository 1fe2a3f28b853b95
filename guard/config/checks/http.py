"""The http check and what it expects of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from guard.config import fields
from guard.config.checks.base import CheckBase


def _plain_values(value: object) -> object:
    if isinstance(value, str):
        fields.plain(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            _plain_values(item)
    elif isinstance(value, list):
        for item in value:
            _plain_values(item)
    return value


def _plain_mapping(value: dict[str, object]) -> dict[str, object]:
    _plain_values(value)
    return value


@dataclass(frozen=True, slots=True)
class HttpExpect:
    """What a good answer looks like. ``status``: inclusive ranges. A dataclass, for a field may be called json."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    status: Annotated[
        fields.StatusSet, Field(description='Accepted status: 200, "2xx", "200-299" or a list of them.')
    ] = ((200, 299),)
    json: Annotated[
        Annotated[dict[str, object], AfterValidator(_plain_mapping)] | None,
        Field(description="The answer must be JSON that holds at least these keys with these values."),
    ] = None
    body: Annotated[
        fields.Regex | None, Field(description="Regular expression that must be found in the answer's text.")
    ] = None

    def accepts(self, status: int) -> bool:
        return any(low <= status <= high for low, high in self.status)

    @property
    def reads_body(self) -> bool:
        return self.json is not None or self.body is not None


class HttpCheck(CheckBase):
    """An HTTP request and what its answer must be."""

    type: Annotated[Literal["http"], Field(description="An HTTP request.")] = "http"
    url: Annotated[fields.Url, Field(description="Address; {{ variable }} of the host makes it one target per host.")]
    expect: Annotated[HttpExpect, Field(description="What a good answer looks like.")] = HttpExpect()
    method: Annotated[Literal["GET", "HEAD", "POST", "OPTIONS"], Field(description="Request method.")] = "GET"
    headers: Annotated[
        fields.Headers,
        Field(description="Request headers; a value may be {file: PATH} and hold {{ variable }}.", repr=False),
    ] = {}  # noqa: RUF012 - pydantic copies a default
    tls_verify: Annotated[fields.Flag, Field(description="Verify the server's certificate.")] = True
    follow_redirects: Annotated[
        fields.Flag, Field(description="Follow redirects; otherwise a redirect is judged by its own status.")
    ] = False

    def templates(self) -> tuple[str, ...]:
        return (self.url, *self.headers.values())
