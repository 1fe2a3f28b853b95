"""Values that may be secrets: a text, or ``{file: PATH}``. What was read from a file is noted, to be masked later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, SecretStr, ValidationInfo, WithJsonSchema

from guard.config.fields import UNSAFE, as_text, plain, reading
from guard.config.substitute import check_template, has_template

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SECRET_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"file": {"type": "string", "description": "File to read; relative to the configuration"}},
            "required": ["file"],
            "additionalProperties": False,
        },
    ]
}


def _secret(value: object, info: ValidationInfo) -> str:
    """A text, or the content of ``{file: PATH}`` without the line end behind it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if not isinstance(value, Mapping):
        return _text_or_file(value)
    here = reading(info)
    name = value.get("file")
    if here is None or set(value) != {"file"} or not isinstance(name, str) or not name or "\x00" in name:
        raise ValueError("expected text or {file: PATH}")
    path = here.folder / name
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"cannot read the secret file {path}: {why}") from error
    if not text:
        raise ValueError(f"the secret file {path} is empty")
    here.secrets.add(text)
    return text


def _text_or_file(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text or {file: PATH}")
    return as_text(value)


def _dsn(value: object, info: ValidationInfo) -> SecretStr | None:
    if value is None and reading(info) is None:
        return None  # only the built-in set may lack it: its check then observes `unknown`
    text = _secret(value, info)
    check_template(text)
    if not has_template(text) and not (re.match(r"postgres(ql)?://", text) or "=" in text):
        raise ValueError("expected a PostgreSQL address such as postgresql://user:password@host:5432/database")
    return SecretStr(text)


Dsn = Annotated[SecretStr | None, BeforeValidator(_dsn), WithJsonSchema(_SECRET_SCHEMA)]


def _environment(value: object, info: ValidationInfo) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping of variable names to texts")
    given = {}
    for name, item in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an environment variable")
        try:
            given[name] = _secret(item, info)
            check_template(given[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return given


Environment = Annotated[
    dict[str, str],
    BeforeValidator(_environment),
    WithJsonSchema({"type": "object", "additionalProperties": _SECRET_SCHEMA}),
]


def _headers(value: object, info: ValidationInfo) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping of header names to texts")
    headers = {}
    for name, given in value.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        text = str(given) if isinstance(given, int) and not isinstance(given, bool) else _header_text(name, given, info)
        headers[name] = text
    return headers


def _header_text(name: str, given: object, info: ValidationInfo) -> str:
    try:
        text = _secret(given, info)
        check_template(text)
    except ValueError as error:
        raise ValueError(f"header {name}: {error}") from error
    if UNSAFE.search(text):
        raise ValueError(f"header {name}: expected one line without control characters")
    return text


Headers = Annotated[
    dict[str, str],
    BeforeValidator(_headers),
    WithJsonSchema(
        {"type": "object", "additionalProperties": {"anyOf": [*_SECRET_SCHEMA["anyOf"], {"type": "integer"}]}}
    ),
]


def _request_body(value: object, info: ValidationInfo) -> str:
    return plain(_secret(value, info))


RequestBody = Annotated[str, BeforeValidator(_request_body), WithJsonSchema(_SECRET_SCHEMA)]
