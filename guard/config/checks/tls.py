"""The tls check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from guard.config import fields
from guard.config.address import AddressText, ServerName
from guard.config.checks.base import CheckBase


def _certificates(value: object, info: ValidationInfo) -> Path:
    """Absolute. A file without a single certificate would trust nobody, so it is refused while its line is known."""
    here = fields.reading(info)
    if isinstance(value, Path):
        return value
    if here is None or not isinstance(value, str) or not value or "\x00" in value:
        raise ValueError("expected the path of a file with certificates in PEM form, relative to this file")
    import ssl

    path = Path(os.path.normpath(here.folder / value))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"{path} holds no certificate in PEM form") from error
    except OSError as error:
        raise ValueError(f"cannot read the certificates in {path}: {error.strerror}") from error
    return path


CertificatesFile = Annotated[Path, BeforeValidator(_certificates), WithJsonSchema({"type": "string"})]


class TlsCheck(CheckBase):
    """A TLS handshake, and how long the server's certificate is still valid."""

    type: Annotated[Literal["tls"], Field(description="A TLS handshake and the server's certificate.")] = "tls"
    address: Annotated[
        AddressText,
        Field(description="HOST:PORT; {{ variable }} of the host makes it one target per host."),
    ]
    server_name: Annotated[
        ServerName | None,
        Field(
            description="Name to ask for (SNI) and to find in the certificate; may hold {{ variable }}. "
            "Default: the address's host."
        ),
    ] = None
    ca: Annotated[
        CertificatesFile | None,
        Field(description="File with the certificates to trust (PEM), instead of the system's; relative to this file."),
    ] = None
    degraded_before: Annotated[
        fields.Seconds, Field(description="Degraded when the certificate expires in less than this.")
    ] = 14 * 86400.0
    unhealthy_before: Annotated[
        fields.Seconds,
        Field(description="Unhealthy when the certificate expires in less than this. Default: once it has expired."),
    ] = 0.0

    def templates(self) -> tuple[str, ...]:
        return (self.address,) if self.server_name is None else (self.address, self.server_name)
