"""Masking secrets in everything a run leaves behind. PURE.

Two ways, together: the secrets that are known (wherever they turn up, also inside longer text, JSON-escaped or
URL-quoted), and values whose key or text says what they are (``password``, ``token=…``, ``://user:pass@``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

MASK = "********"
_SHORTEST_INSIDE = 4  # shorter secrets are masked as whole values only: masking every "a" would leave no text
_WORDS = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|api_?key|access_?key|private_?key(?!_file)|dsn|credentials?"
    r"|authorization"
)
_KEY = re.compile(rf"(?:^|[_\-.])(?:\w*(?:password|passwd|secret|token)|{_WORDS})(?:$|[_\-.]|\d)", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"""(?P<key>\b[\w.-]*(?:{_WORDS})[\w-]*["']?\s*[=:]\s*)(?P<scheme>(?:bearer|basic)\s+)?["']?(?P<value>[^\s"',;&}}]{{3,}})""",
    re.IGNORECASE,
)
_URL = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^\s:/@]*:)(?P<value>[^\s/@]+)(?=@)", re.IGNORECASE)
_NOT_SECRET = re.compile(r"(?:none|null|true|false|\*+)$", re.IGNORECASE)


def is_secret_key(key: str) -> bool:
    """Whether a variable of that name holds a secret (``ansible_become_pass``, ``db_password``, ``API_TOKEN`` …)."""
    return _KEY.search(key) is not None


def secrets_in(values: Mapping[str, object]) -> set[str]:
    """The text values, at any depth, below keys that say they are secret."""
    found: set[str] = set()
    for key, value in values.items():
        if is_secret_key(key):
            found.update(_texts(value))
        elif isinstance(value, Mapping):
            found |= secrets_in({str(k): v for k, v in value.items()})
    return found


class Redactor:
    """Masks in text and in JSON-like values. The same input always gives the same output."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if secret and not _NOT_SECRET.match(secret)}
        self._whole = frozenset(known)
        forms = {form for secret in known if len(secret) >= _SHORTEST_INSIDE for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._inside = re.compile("|".join(re.escape(form) for form in longest_first)) if forms else None

    def text(self, value: str) -> str:
        if value in self._whole:
            return MASK
        if self._inside is not None:
            value = self._inside.sub(MASK, value)
        value = _URL.sub(lambda m: m["before"] + MASK, value)
        return _ASSIGNED.sub(_assigned, value)

    def value(self, value: object) -> object:
        """The same value with every secret masked; keys stay, unless they are or contain a known secret."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._key(str(key)): self._below(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(inner) for inner in value]
        return value

    def _key(self, key: str) -> str:
        return self._inside.sub(MASK, key) if self._inside is not None else key

    def _below(self, key: str, value: object) -> object:
        if is_secret_key(key) and isinstance(value, str | bytes | int | float) and not isinstance(value, bool):
            return MASK
        return self.value(value)


def _assigned(match: re.Match[str]) -> str:
    if _NOT_SECRET.match(match["value"]):
        return match[0]
    return f"{match['key']}{match['scheme'] or ''}{MASK}"


def _forms(secret: str) -> set[str]:
    """How a secret may look after others have written it: as it is, line by line, in JSON, in a URL, or only the
    password of an address."""
    inside = {found["value"] for pattern in (_URL, _ASSIGNED) for found in pattern.finditer(secret)}
    lines = {line.strip() for line in secret.splitlines() if len(line.strip()) >= 2 * _SHORTEST_INSIDE}
    whole = {secret, secret.strip()} | {part for part in inside if len(part) >= _SHORTEST_INSIDE}
    escaped = {json.dumps(text)[1:-1] for text in whole} | {repr(text)[1:-1] for text in whole}
    return lines | whole | escaped | {quote(text, safe="") for text in whole}


def _texts(value: object) -> set[str]:
    if isinstance(value, str):
        return {value} if value else set()
    if isinstance(value, Mapping):
        return {text for inner in value.values() for text in _texts(inner)}
    if isinstance(value, list | tuple):
        return {text for inner in value for text in _texts(inner)}
    return {str(value)} if isinstance(value, int | float) and not isinstance(value, bool) else set()
