"""The tcp check."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from guard.config import fields
from guard.config.address import AddressText
from guard.config.checks.base import CheckBase


class TcpCheck(CheckBase):
    """A TCP connection and, if asked for, what the server says first."""

    type: Annotated[Literal["tcp"], Field(description="A TCP connection.")] = "tcp"
    address: Annotated[
        AddressText,
        Field(description="HOST:PORT; {{ variable }} of the host makes it one target per host."),
    ]
    send: Annotated[fields.PlainText, Field(description="Text to send once the connection stands.")] = ""
    expect: Annotated[
        fields.Regex | None,
        Field(description="Regular expression that must be found in what the server says. Default: connecting is all."),
    ] = None

    def templates(self) -> tuple[str, ...]:
        return (self.address,)
