"""Which engine is the local one, and whose fault it is when it cannot be reached."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from guard.engines.docker_api import DockerEngine
from guard.engines.hosts import HostEngines
from guard.engines.local import TcpWay, UnixWay, local_address, way_to
from guard.engines.resolve import resolver
from guard.errors import EngineDown, EngineError, EngineUnreachable


def test_docker_host_is_honoured() -> None:
    assert local_address({}) == "unix:///var/run/docker.sock"
    assert local_address({"DOCKER_HOST": "unix:///run/podman.sock"}) == "unix:///run/podman.sock"
    assert way_to("unix:///run/podman.sock", resolver) == UnixWay("/run/podman.sock")
    assert way_to("tcp://127.0.0.1", resolver) == TcpWay("127.0.0.1", 2375, resolver)


@pytest.mark.parametrize("address", ["ssh://web1", "npipe:////./pipe/x", "unix://relative", "tcp://", "tcp://h:x", "x"])
def test_an_address_guard_cannot_speak_to_is_said(address: str) -> None:
    with pytest.raises(EngineUnreachable, match="cannot speak to an engine"):
        HostEngines({"DOCKER_HOST": address}).on(None)


def test_tls_to_an_engine_is_refused_rather_than_left_out() -> None:
    with pytest.raises(EngineUnreachable, match="TLS"):
        HostEngines({"DOCKER_HOST": "tcp://127.0.0.1:2376", "DOCKER_TLS_VERIFY": "1"}).on(None)


def look(path: Path) -> EngineError:
    with pytest.raises(EngineError) as raised:
        asyncio.run(DockerEngine(UnixWay(str(path)), 1.0).container("web"))
    return raised.value


def test_a_socket_that_does_not_exist_is_an_engine_that_is_down(tmp_path: Path) -> None:
    assert type(look(tmp_path / "none")) is EngineDown


def test_a_socket_nobody_listens_at_is_an_engine_that_is_down(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "s"))
        assert type(look(tmp_path / "s")) is EngineDown


def test_an_engine_that_takes_connections_and_never_answers_is_down(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(tmp_path / "s"))
        frozen.listen()
        assert type(look(tmp_path / "s")) is EngineDown


def test_a_socket_guard_may_not_open_is_guards_own_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def denied(path: str) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("guard.engines.local.dial_unix", denied)
    error = look(tmp_path / "s")
    assert type(error) is EngineUnreachable
    assert "group docker" in (error.hint or "")
