"""The TLS settings of an http check, as a context that is built once and again when one of its files changes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


class TlsFilesError(Exception):
    """A certificate or key of guard's own cannot be read now: guard cannot measure, whatever the server does."""


@dataclass(frozen=True, slots=True)
class Tls:
    """``ca``: trusted instead of the system's certificates. ``key`` is None when it is in the file of ``cert``."""

    verify: bool = True
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TlsFilesError when a file is missing, unreadable or no PEM file."""
        try:
            stamps = tuple(_stamp(path) for path in (self.ca, self.cert, self.key) if path is not None)
            return _context(self, stamps)
        except OSError as error:  # ssl.SSLError is one
            names = ", ".join(str(path) for path in (self.ca, self.cert, self.key) if path is not None)
            why = "no proper PEM file" if isinstance(error, ssl.SSLError) else error.strerror
            raise TlsFilesError(f"guard cannot use the TLS files of this check ({names}): {why}") from error


SYSTEM = Tls()


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=64)
def _context(tls: Tls, stamps: tuple[tuple[int, int, int], ...]) -> ssl.SSLContext:  # noqa: ARG001 # part of the key
    """Kept, for it takes 15 ms: the system's certificates, and those of certifi where a system has none."""
    if tls.verify:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.ca is None and not context.get_ca_certs():
            import certifi

            context.load_verify_locations(certifi.where())
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    return context


def _no_password() -> str:
    """OpenSSL would ask on the terminal for the password of an encrypted key."""
    raise ssl.SSLError("the key is encrypted")
