"""Whose problem a failure is."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from guard.checks.verdict import excerpt, of_os_error
from guard.model import State

OWN = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EACCES", "EPERM", "ENETUNREACH", "ENETDOWN", "EADDRNOTAVAIL"]
THEIRS = ["ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "EHOSTDOWN", "EPROTO"]


@pytest.mark.parametrize(("name", "state"), [(n, State.UNKNOWN) for n in OWN] + [(n, State.UNHEALTHY) for n in THEIRS])
def test_an_error_of_the_network_is_guards_own_or_the_services(name: str, state: State) -> None:
    measured = of_os_error(OSError(getattr(errno, name), "text of Python's"), "web:80", 0.1)
    assert measured.state is state
    assert "web:80" in measured.reason


def test_the_numbers_of_tls_and_of_name_resolution_are_not_those_of_the_system() -> None:
    assert of_os_error(ssl.SSLError(errno.EPERM, "wrong version"), "web:443", 0.1).state is State.UNHEALTHY
    assert of_os_error(socket.gaierror(socket.EAI_NONAME, "unknown"), "web:80", 0.1).state is State.UNKNOWN


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "plain"), ("a\nb\x1b[2J", "a b [2J"), ("x" * 11, "x" * 10 + " …"), ("  ", ""), ("é\u202eb", "é b")],
)
def test_an_excerpt_is_one_printable_line(text: str, shown: str) -> None:
    assert excerpt(text, 10) == shown
