"""What is wrong with a configuration file: each problem with its line, key, what was expected and what was found."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guard.config.checks import CHECK_TYPES
from guard.config.checks.plugin import installed
from guard.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]

_SECRET_KEYS = frozenset({"dsn", "headers", "store", "command", "env"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct. ``line`` counts from 1."""

    line: int
    path: KeyPath
    message: str
    about_key: bool = False  # the key itself is wrong, not its value


def show_path(path: KeyPath) -> str:
    """``services[0].checks[1].interval``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def show_value(value: object) -> str:
    """What was found, short enough for a line of text."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:76]}…{text[-1]}"


def as_error(shown: str, problems: Iterable[Problem]) -> ConfigError:
    """All of them in one error, in the order of their lines."""
    lines = []
    for problem in sorted(problems, key=lambda problem: problem.line):
        key = f"{show_path(problem.path)}: " if problem.path else ""
        line = f"{shown}:{problem.line}: {key}{problem.message}"
        if line not in lines:
            lines.append(line)
    return ConfigError("\n".join(lines))


def suggestion(wrong: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}? " if close else ""


def unknown_key(key: str, known: Sequence[str]) -> str:
    return f"unknown key; {suggestion(key, known)}Known keys here: {', '.join(known)}"


def found(path: KeyPath, value: object, substituted: Mapping[KeyPath, str]) -> str:
    """``, got …`` for a message, unless that could show a secret."""
    if path in substituted:
        return f", got the value of ${{{substituted[path]}}}"
    if any(part in _SECRET_KEYS for part in path) or (isinstance(value, str) and "@" in value):
        return ""
    return f", got {show_value(value)}"


def follow_on(error: ErrorDetails) -> bool:
    """Whether pydantic only says again, in another place, that something else was wrong."""
    if error["type"] == "default_factory_not_called":
        return True
    return error["type"] == "too_short" and bool(error["input"])


def _types() -> str:
    types = [*CHECK_TYPES, *sorted(set(installed()) - set(CHECK_TYPES))]
    return f"{', '.join(types[:-1])} or {types[-1]}"


def explain(error: ErrorDetails, path: KeyPath, known: Sequence[str], got: str) -> str:
    """One pydantic error in guard's own words."""
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "missing: it has no default"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return unknown_key(str(path[-1]), known)
        case "value_error":
            return f"{context['error']}{got}"
        case "plug_in":
            return str(context["said"])
        case "literal_error":
            return f"expected {str(context['expected']).replace(chr(39), '')}{got}"
        case "union_tag_not_found":
            return f"missing key type: {_types()}"
        case "union_tag_invalid":
            return f"expected the type {_types()}, got {show_value(context.get('tag'))}"
        case "model_type" | "model_attributes_type" | "dict_type" | "dataclass_type":
            return f"expected a mapping of keys to values{got}"
        case "tuple_type" | "list_type":
            return f"expected a list{got}"
        case "too_short" | "string_too_short":
            return "expected at least one" if error["type"] == "too_short" else "expected text, got none"
    return error["msg"].replace("Input should be", "expected", 1) + got
