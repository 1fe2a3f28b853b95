"""The http check: its request, and the limits of its answer's time. What it expects is in ``http_expect``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from guard.config import fields, secret_fields
from guard.config.checks.base import CheckBase
from guard.config.checks.http_expect import HttpExpect, HttpVersion
from guard.config.checks.limits import TimeLimits

__all__ = ["HttpCheck", "HttpExpect", "HttpVersion"]

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_THE_CONNECTION = frozenset({"connection", "content-length", "transfer-encoding"})


def _pem_file(value: object, info: ValidationInfo) -> Path:
    """Absolute, and readable now. It is read again when it changes, so certificates can be renewed under guard."""
    if isinstance(value, Path):
        return value
    here = fields.reading(info)
    if here is None or not isinstance(value, str) or not value or "\x00" in value:
        raise ValueError("expected the path of a PEM file, relative to this file")
    path = Path(os.path.normpath(here.folder / value))
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"cannot read the file {path}: {error.strerror}") from error


PemFile = Annotated[Path, BeforeValidator(_pem_file), WithJsonSchema({"type": "string"})]


class HttpCheck(TimeLimits, CheckBase):
    """An HTTP request and what its answer must be."""

    type: Annotated[Literal["http"], Field(description="An HTTP request.")] = "http"
    url: Annotated[fields.Url, Field(description="Address; {{ variable }} of the host makes it one target per host.")]
    expect: Annotated[HttpExpect, Field(description="What a good answer looks like.")] = HttpExpect()
    method: Annotated[Literal["GET", "HEAD", "POST", "PUT", "OPTIONS"], Field(description="Request method.")] = "GET"
    headers: Annotated[
        secret_fields.Headers,
        Field(description="Request headers; a value may be {file: PATH} and hold {{ variable }}.", repr=False),
    ] = {}  # noqa: RUF012 - pydantic copies a default
    body: Annotated[
        secret_fields.RequestBody | None,
        Field(description="Body of a POST or PUT request; or {file: PATH}.", repr=False),
    ] = None
    tls_verify: Annotated[fields.Flag, Field(description="Verify the server's certificate.")] = True
    tls_ca: Annotated[
        PemFile | None, Field(description="Certificates (PEM) that are trusted instead of the system's.")
    ] = None
    client_cert: Annotated[
        PemFile | None, Field(description="guard's own certificate (PEM); with its key, unless client_key is given.")
    ] = None
    client_key: Annotated[PemFile | None, Field(description="The key (PEM) of client_cert.")] = None
    follow_redirects: Annotated[
        fields.Flag, Field(description="Follow redirects; otherwise a redirect is judged by its own status.")
    ] = False

    @field_validator("headers", mode="after")
    @classmethod
    def _framing_is_guards(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in _OF_THE_CONNECTION:
                raise ValueError(f"header {name}: guard sets it itself")
        return headers

    @field_validator("body", mode="after")
    @classmethod
    def _body_has_a_method(cls, body: str | None, info: ValidationInfo) -> str | None:
        method = info.data.get("method", "POST")
        if body is not None and method in _WITHOUT_BODY:
            raise ValueError(f"a {method} request has no body: use method POST or PUT")
        return body

    @field_validator("tls_ca", mode="after")
    @classmethod
    def _verified_by_something(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and info.data.get("tls_verify") is False:
            raise ValueError("with tls_verify: false no certificate is verified: leave one of them out")
        return path

    @field_validator("client_key", mode="after")
    @classmethod
    def _key_of_a_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and info.data.get("client_cert") is None:
            raise ValueError("a key without its certificate: give client_cert too")
        return path

    def templates(self) -> tuple[str, ...]:
        return (self.url, *self.headers.values())
