"""Reading an engine's JSON without trusting it: a field of another type is as if it were not there."""

from __future__ import annotations

from collections.abc import Mapping

Facts = Mapping[str, object]


def inner(facts: Facts, key: str) -> Facts:
    value = facts.get(key)
    return value if isinstance(value, Mapping) else {}


def string(facts: Facts, key: str) -> str:
    value = facts.get(key)
    return value if isinstance(value, str) else ""


def strings(facts: Facts, key: str) -> tuple[str, ...]:
    value = facts.get(key)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def number(facts: Facts, key: str) -> int:
    value = facts.get(key)
    return int(value) if isinstance(value, int | float) else 0
