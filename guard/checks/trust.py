"""Whom to believe about a server's certificate."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path


@cache
def system_trust() -> ssl.SSLContext:
    """Built once, for it takes 15 ms: the system's certificates, and those of certifi where a system has none."""
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def trust_in(file: Path) -> ssl.SSLContext:
    """The certificates of that PEM file and no others. Read anew each time (0.2 ms): files are replaced in use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file)
    return context
