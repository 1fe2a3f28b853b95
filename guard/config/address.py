"""``host:port`` of a check that connects by itself.

Host and port are told apart before variables are filled in, so an IPv6 address of the inventory needs no brackets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from guard.config.substitute import check_template, fill_for_validation

EXPECTED = 'expected HOST:PORT such as "{{ ansible_host }}:5432", an IPv6 address in brackets: "[::1]:5432"'
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*", re.ASCII)  # names, and addresses of both kinds
_NAME_EXPECTED = "expected a host name such as shop.example.org"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect. ``host`` is a name or an IP literal without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str, fill: Callable[[str], str]) -> Address:
    """The address in ``text``, its variables replaced by ``fill``. ValueError says what was expected."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise ValueError(EXPECTED)
    name, number = fill(host[1:-1] if bracketed else host), fill(port)
    if not _HOST.fullmatch(name):
        raise ValueError(f"{EXPECTED}; {name!r} is no host name or address")
    if not re.fullmatch(r"[0-9]{1,5}", number, re.ASCII) or not 1 <= int(number) <= 65535:
        raise ValueError(f"{EXPECTED}; {number!r} is no port")
    return Address(name, int(number))


def _address(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(EXPECTED)
    check_template(value)
    read_address(value, fill_for_validation)
    return value


AddressText = Annotated[
    str, BeforeValidator(_address), WithJsonSchema({"type": "string", "pattern": r"^(.+:.+|.*\$\{.*)$"})
]


def _server_name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(_NAME_EXPECTED)
    check_template(value)
    read_name(value, fill_for_validation)
    return value


def read_name(text: str, fill: Callable[[str], str]) -> str:
    """The host name in ``text``, its variables replaced by ``fill``. ValueError says what was expected."""
    name = fill(text)
    if not _HOST.fullmatch(name):
        raise ValueError(f"{_NAME_EXPECTED}; {name!r} is none")
    return name


ServerName = Annotated[str, BeforeValidator(_server_name), WithJsonSchema({"type": "string", "minLength": 1})]
