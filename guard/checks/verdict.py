"""What a failure means: the service's (``unhealthy``), or guard's own (``unknown``).

A name that does not resolve is guard's own problem even when the resolver says that it does not exist: guard cannot
tell a removed service from a broken resolver, and a rollback mends neither. "No route to host" counts as the
service's: it is how a host of the same network says that it is off. A missing *network* is guard's own.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping

from guard.engines.local import OWN_ERRNOS
from guard.model import Measurement, State

EXCERPT = 200


def unhealthy(reason: str, latency_s: float | None = None, evidence: Mapping[str, str] | None = None) -> Measurement:
    return Measurement(State.UNHEALTHY, latency_s, reason, evidence or {})


def unknown(reason: str, evidence: Mapping[str, str] | None = None) -> Measurement:
    return Measurement(State.UNKNOWN, None, reason, evidence or {})


def of_os_error(error: OSError, where: str, latency_s: float | None) -> Measurement:
    """``where`` is the address, without secrets. Name resolution, TLS and plain network errors."""
    if isinstance(error, socket.gaierror):
        return unknown(f"guard could not resolve the name of {where}: {error.strerror}")
    if isinstance(error, ssl.SSLError):  # before errno: its number is OpenSSL's own
        if isinstance(error, ssl.SSLCertVerificationError):
            return unhealthy(f"TLS with {where} failed: {error.verify_message}", latency_s)
        detail = getattr(error, "reason", None)  # absent where Python itself made the error
        return unhealthy(f"TLS with {where} failed: {detail or error}", latency_s)
    problem = os.strerror(error.errno).lower() if error.errno else str(error) or type(error).__name__
    if error.errno in OWN_ERRNOS:
        return unknown(f"guard could not connect to {where}: {problem}")
    return unhealthy(f"{problem} at {where}", latency_s)


def excerpt(text: str, limit: int = EXCERPT) -> str:
    """One printable line: what a server sends must not write to anybody's terminal."""
    cut = text[: limit + 1]
    shown = "".join(char if char.isprintable() else " " for char in cut[:limit]).strip()
    return f"{shown} …" if len(cut) > limit else shown
