"""The kinds of values the configuration knows. Each has one validator, one error text and one JSON Schema.

A validator raises ValueError with the expectation; ``problems`` adds file, line, key and what stood there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from guard.config.durations import parse_duration
from guard.config.substitute import check_template, fill_for_validation, has_template

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_NAME = re.compile(NAME, re.ASCII)
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", re.ASCII)
_PLAYBOOK = re.compile(r"[a-z][a-z0-9_-]{0,62}@[0-9]{1,9}(\.[0-9]{1,9}){0,2}", re.ASCII)
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?%", re.ASCII)
UNSAFE = re.compile(r"[\x00-\x1f\x7f]")

FROM_ENVIRONMENT = {"type": "string", "pattern": r"\$\{"}  # what a number may be as long as it is not substituted


class Reading:
    """What a validation of a file needs to know: where paths start, and which texts turned out to be secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets: set[str] = set()


def reading(info: ValidationInfo) -> Reading | None:
    """The file being read, or None when a model is built from Python."""
    return info.context if isinstance(info.context, Reading) else None


# --- durations and numbers ---


def _positive(value: object) -> float:
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError("expected a duration longer than zero")
    return seconds


_DURATION_SCHEMA = {"type": ["string", "number"], "examples": ["500ms", "30s", "5m", "1h", 30]}
Seconds = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
PositiveSeconds = Annotated[
    float, BeforeValidator(_positive), WithJsonSchema({**_DURATION_SCHEMA, "exclusiveMinimum": 0})
]


def _whole(value: object) -> int | None:
    """Digits in a string are a number too: that is how ``${NAME}`` arrives."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        return int(value)
    return None


def _count(value: object) -> int:
    number = _whole(value)
    if number is None or not 1 <= number <= 1_000_000:
        raise ValueError("expected a whole number of at least 1")
    return number


Count = Annotated[
    int, BeforeValidator(_count), WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, FROM_ENVIRONMENT]})
]


LARGEST_WINDOW = 100  # a letter each, kept per target and written with every observation


def _window(value: object) -> int:
    number = _whole(value)
    if number is None or not 2 <= number <= LARGEST_WINDOW:
        raise ValueError(f"expected a whole number from 2 to {LARGEST_WINDOW}")
    return number


Window = Annotated[
    int,
    BeforeValidator(_window),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 2, "maximum": LARGEST_WINDOW}, FROM_ENVIRONMENT]}),
]


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "yes", "on", "false", "no", "off"}:
        return value.lower() in {"true", "yes", "on"}
    raise ValueError("expected true or false")


Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"anyOf": [{"type": "boolean"}, FROM_ENVIRONMENT]})]


def _percent_or_count(value: object) -> int | str | None:
    number = _whole(value)
    if number is not None:
        return number if 1 <= number <= 1_000_000 else None
    if isinstance(value, str) and _PERCENT.fullmatch(value) and 0 < float(value[:-1]) <= 100:
        return value
    return None


_HOSTS_QUORUM = re.compile(r"([0-9.]+%?)(?: of)? hosts?", re.ASCII)


def _quorum(value: object) -> int | str:
    """``2 hosts`` and ``50% of hosts`` become ``2 hosts`` and ``50% hosts``."""
    of_hosts = _HOSTS_QUORUM.fullmatch(value) if isinstance(value, str) else None
    quorum = "any" if value == "any" else _percent_or_count(of_hosts[1] if of_hosts else value)
    if quorum is None:
        raise ValueError(
            'expected any, a whole number of at least 1, or a percentage such as "50%"; '
            'or the same of hosts, such as "2 hosts" or "50% of hosts"'
        )
    return f"{quorum} hosts" if of_hosts else quorum


_PERCENT_SCHEMA = {"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,6})?%$"}
_COUNT_SCHEMA = {"type": "integer", "minimum": 1}
_HOSTS_SCHEMA = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%?( of)? hosts?$"}
Quorum = Annotated[
    int | str,
    BeforeValidator(_quorum),
    WithJsonSchema({"anyOf": [{"const": "any"}, _COUNT_SCHEMA, _PERCENT_SCHEMA, _HOSTS_SCHEMA]}),
]


def _batches(value: object) -> tuple[int | str, ...]:
    expected = 'expected a list of host counts and percentages that grow, such as [1, "50%", "100%"]'
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(expected)
    steps = tuple(_percent_or_count(step) for step in value)
    counts = [step for step in steps if isinstance(step, int)]
    percents = [float(step[:-1]) for step in steps if isinstance(step, str)]
    if None in steps or counts != sorted(set(counts)) or percents != sorted(set(percents)):
        raise ValueError(expected)
    return tuple(step for step in steps if step is not None)


Batches = Annotated[
    tuple[int | str, ...],
    BeforeValidator(_batches),
    WithJsonSchema({"type": "array", "minItems": 1, "items": {"anyOf": [_COUNT_SCHEMA, _PERCENT_SCHEMA]}}),
]


def _task_file(value: object, info: ValidationInfo) -> Path:
    """Absolute. What is in it, ``guard validate`` says, and whoever is about to run it."""
    if isinstance(value, Path):
        return value
    here = reading(info)
    if here is None or not isinstance(value, str) or not value or "\x00" in value:
        raise ValueError("expected the path of a file with Ansible tasks, relative to this file")
    return Path(os.path.normpath(here.folder / value))


TaskFile = Annotated[Path, BeforeValidator(_task_file), WithJsonSchema({"type": "string"})]


# --- names ---


def as_text(value: object) -> str:
    """YAML reads 5432 as a number; whoever writes it where a text belongs must say so."""
    if not isinstance(value, str):
        raise ValueError("expected text (put it in quotes)")
    if "\x00" in value:
        raise ValueError("expected text without NUL characters")
    return value


Text = Annotated[str, BeforeValidator(as_text)]


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            "expected a name of letters, digits, '_', '.' and '-' that begins with a letter or digit, 63 at most"
        )
    return value


Name = Annotated[str, BeforeValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME}$"})]


def _pattern(value: object) -> str:
    text = as_text(value)
    if not text.strip() or text.lstrip().startswith(("-", "@")) or UNSAFE.search(text):
        raise ValueError(
            "expected an Ansible host pattern such as web or web:&dc1:!web3 (no '-' or '@' in front, one line)"
        )
    return text.strip()


HostPattern = Annotated[str, BeforeValidator(_pattern), WithJsonSchema({"type": "string", "minLength": 1})]


def _playbook(value: object) -> str:
    if not isinstance(value, str) or not _PLAYBOOK.fullmatch(value):
        raise ValueError("expected a playbook as name@version, such as container@1 or container@1.0.0")
    return value


PlaybookName = Annotated[
    str, BeforeValidator(_playbook), WithJsonSchema({"type": "string", "pattern": f"^{_PLAYBOOK.pattern}$"})
]


# --- text with {{ variables }} ---


def _template(value: object) -> str:
    text = as_text(value)
    check_template(text)
    return text


def _container(value: object) -> str:
    text = _template(value)
    if not _CONTAINER.fullmatch(fill_for_validation(text)):
        raise ValueError("expected a container name: letters, digits, '_', '.' and '-', a letter or digit first")
    return text


Container = Annotated[str, BeforeValidator(_container), WithJsonSchema({"type": "string", "minLength": 1})]


def _unit_name(value: object) -> str:
    text = _template(value)
    if not _NAME.fullmatch(fill_for_validation(text)):
        raise ValueError(
            "expected a name of letters, digits, '_', '.' and '-' that begins with a letter or digit, 63 at most; "
            "it may hold {{ variable }}"
        )
    return text


UnitName = Annotated[str, BeforeValidator(_unit_name), WithJsonSchema({"type": "string", "minLength": 1})]


def _url(value: object) -> str:
    text = _template(value)
    expected = "expected a URL such as http://{{ ansible_host }}:8080/healthz"
    filled = fill_for_validation(text)
    if UNSAFE.search(filled) or " " in filled or not filled.lower().startswith(("http://", "https://")):
        raise ValueError(expected)
    try:
        parts = urlsplit(filled)
        good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise ValueError(expected)
    return text


Url = Annotated[str, BeforeValidator(_url), WithJsonSchema({"type": "string", "pattern": r"^(https?://|\$\{)"})]


def plain(text: str) -> str:
    """For texts that take no variables: saying so beats comparing with a text that still holds braces."""
    if has_template(text):
        raise ValueError("{{ … }} is not replaced here: variables can stand in addresses, names, headers and arguments")
    return text


PlainText = Annotated[str, BeforeValidator(as_text), AfterValidator(plain)]


# --- HTTP expectations ---

StatusRange = tuple[int, int]


def _status(value: object) -> tuple[StatusRange, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    ranges = [_status_range(item) for item in items]
    found = tuple(item for item in ranges if item is not None)
    if not found or len(found) != len(ranges):
        raise ValueError('expected a status such as 200, "2xx" or "200-299", or a list of them')
    return found


def _status_range(item: object) -> StatusRange | None:
    if isinstance(item, (tuple, list)) and len(item) == 2:  # a range that was validated before
        low, high = _whole(item[0]), _whole(item[1])
    elif isinstance(item, str) and re.fullmatch(r"[1-5]xx", item):
        low = int(item[0]) * 100
        high = low + 99
    elif isinstance(item, str) and re.fullmatch(r"[0-9]{3}-[0-9]{3}", item, re.ASCII):
        low, high = int(item[:3]), int(item[4:])
    else:
        low = high = _whole(item)
    if low is None or high is None or not 100 <= low <= high <= 599:
        return None
    return low, high


_STATUS_ITEM = {
    "anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": r"^([1-5]xx|[0-9]{3}(-[0-9]{3})?|.*\$\{.*)$"},
    ]
}
StatusSet = Annotated[
    tuple[StatusRange, ...],
    BeforeValidator(_status),
    WithJsonSchema({"anyOf": [*_STATUS_ITEM["anyOf"], {"type": "array", "minItems": 1, "items": _STATUS_ITEM}]}),
]


def _regex(value: object) -> str:
    text = plain(as_text(value))
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a regular expression ({error})") from error
    return text


Regex = Annotated[str, BeforeValidator(_regex), WithJsonSchema({"type": "string", "format": "regex"})]
