"""What may be shown and stored of a configuration: secrets masked, everything else as it is."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from guard.config.schema import GuardConfig

MASK = "***"

_SECRET_NAME = re.compile(r"auth|cookie|token|secret|key|passw|pwd|session|credential|signature", re.IGNORECASE)
_NEVER_MASKED = frozenset({"name", "type", "depends_on"})  # identities: a report without them says nothing
_KEY_VALUE_PASSWORD = re.compile(r"((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)


def redacted(config: GuardConfig) -> dict[str, object]:
    """The configuration as JSON values, for artifacts and evidence.

    Masked: passwords in a DSN or URL, headers and environment variables that carry credentials, and every text into
    which ``${…}`` or a secret file went, whole. Names are never masked.
    """
    plain = config.model_dump(mode="json", exclude={"secrets"})
    for dumped, service in zip(plain["services"], config.services, strict=True):
        for entry, check in zip(dumped["checks"], service.checks, strict=True):
            dsn = getattr(check, "dsn", None)
            if dsn is not None:
                text = dsn.get_secret_value()
                entry["dsn"] = MASK if text in config.secrets else redact_address(text)
            if entry.get("body") is not None:
                entry["body"] = MASK  # a request's; nobody knows where in it a password stands
            for key in ("headers", "env"):
                if key in entry:
                    entry[key] = {
                        name: MASK if _SECRET_NAME.search(name) else value for name, value in entry[key].items()
                    }
    cleaned = _clean(plain, config.secrets)
    return cleaned if isinstance(cleaned, dict) else {}


def _clean(value: object, secrets: Collection[str], key: str = "") -> object:
    if key in _NEVER_MASKED:
        return value
    if isinstance(value, str):
        return MASK if value in secrets else redact_address(value)
    if isinstance(value, dict):
        return {name: _clean(item, secrets, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, secrets, key) for item in value]
    return value


def redact_address(text: str) -> str:
    """A URL or ``key=value`` address without its password. Other texts come back unchanged."""
    if "://" in text:
        try:
            parts = urlsplit(text)
            password = parts.password
        except ValueError:
            return MASK  # not an address that can be taken apart: nobody knows where the password is
        if password is not None:
            user, at, rest = parts.netloc.rpartition("@")
            text = parts._replace(netloc=f"{user.partition(':')[0]}:{MASK}{at}{rest}").geturl()
    return _KEY_VALUE_PASSWORD.sub(rf"\g<1>{MASK}", text)
