"""What an http check expects of an answer. A JMESPath expression is compiled here, so that a wrong one is found now."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from guard.config import fields

if TYPE_CHECKING:
    from jmespath.parser import ParsedResult

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


@lru_cache(maxsize=256)
def compiled(expression: str) -> ParsedResult:
    """jmespath.exceptions.JMESPathError (a ValueError) when it is none. Loaded late: most configurations need none."""
    import jmespath

    return jmespath.compile(expression)


def _expression(text: str) -> str:
    from jmespath.exceptions import JMESPathError
    from jmespath.functions import Functions

    try:
        tree = compiled(text).parsed
    except (JMESPathError, RecursionError) as error:
        what = str(error).splitlines()[0].removesuffix(":") if str(error) else type(error).__name__
        raise ValueError(f"expected a JMESPath expression ({what})") from error
    for name, given in _calls(tree):
        if name not in Functions.FUNCTION_TABLE:
            raise ValueError(f"expected a JMESPath expression (there is no function {name}())")
        signature = Functions.FUNCTION_TABLE[name]["signature"]
        many = bool(signature) and bool(signature[-1].get("variadic"))
        if given < len(signature) or (given > len(signature) and not many):
            raise ValueError(f"expected a JMESPath expression ({name}() takes {len(signature)} arguments, not {given})")
    return text


def _calls(node: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    """Every function's name and number of arguments: the library itself would only notice when it is called."""
    children = node.get("children")
    if not isinstance(children, list):
        return
    if node["type"] == "function_expression":
        yield str(node["value"]), len(children)
    for child in children:
        if isinstance(child, Mapping):
            yield from _calls(child)


JmesPath = Annotated[fields.PlainText, AfterValidator(_expression), WithJsonSchema({"type": "string", "minLength": 1})]


def _several(value: object) -> object:
    return value if isinstance(value, (list, tuple)) else (value,)


JmesPaths = Annotated[
    tuple[JmesPath, ...],
    BeforeValidator(_several),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}),
]


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


def _header_name(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("expected the name of a header")
    return value


HeaderName = Annotated[str, BeforeValidator(_header_name), WithJsonSchema({"type": "string", "minLength": 1})]


@dataclass(frozen=True, slots=True)
class HttpVersion:
    """Where the answer names the release it comes from; one of the three. It must be the release under test."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    json: Annotated[JmesPath | None, Field(description="JMESPath of the version in the JSON answer.")] = None
    header: Annotated[HeaderName | None, Field(description="Header of the answer that holds the version.")] = None
    body: Annotated[
        fields.Regex | None,
        Field(description="Regular expression that finds the version in the text: its first group, else all of it."),
    ] = None

    @model_validator(mode="after")
    def _one_place(self) -> HttpVersion:
        if sum(place is not None for place in (self.json, self.header, self.body)) != 1:
            raise ValueError("expected one of json, header or body: where the answer names its version")
        return self


@dataclass(frozen=True, slots=True)
class HttpExpect:
    """What a good answer looks like. ``status``: inclusive ranges. A dataclass, for a field may be called json."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    status: Annotated[
        fields.StatusSet, Field(description='Accepted status: 200, "2xx", "200-299" or a list of them.')
    ] = ((200, 299),)
    headers: Annotated[
        Annotated[dict[HeaderName, fields.Regex], Field(min_length=1)] | None,
        Field(
            description="Headers that must be there, each with a regular expression that must be found in its value."
        ),
    ] = None
    json: Annotated[
        Annotated[dict[str, object], AfterValidator(_plain_mapping)] | None,
        Field(description="The answer must be JSON that holds at least these keys with these values."),
    ] = None
    jmespath: Annotated[
        Annotated[JmesPaths, Field(min_length=1)] | None,
        Field(description="JMESPath expression, or a list of them, each of which must be true for the JSON answer."),
    ] = None
    body: Annotated[
        fields.Regex | None, Field(description="Regular expression that must be found in the answer's text.")
    ] = None
    version: Annotated[
        HttpVersion | None, Field(description="Where the answer names its version: it must be the release under test.")
    ] = None

    def accepts(self, status: int) -> bool:
        return any(low <= status <= high for low, high in self.status)

    @property
    def reads_body(self) -> bool:
        """Whether anything is expected of what stands behind the headers."""
        in_body = self.version is not None and self.version.header is None
        return in_body or not (self.json is None and self.jmespath is None and self.body is None)
