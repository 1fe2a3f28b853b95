"""The way to an engine over SSH when something is wrong: whose fault it is, how soon it is said, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from guard.checks.docker import DockerProbe
from guard.demo.fleet import Fleet
from guard.demo.host import Host as FleetHost
from guard.engines.hosts import HostEngines
from guard.errors import EngineDown, EngineUnreachable
from guard.model import ContainerUnit, Host, State
from tests.contract.engines.conftest import inventory_host, run_web

T = TypeVar("T")


def with_engines(main: Callable[[HostEngines], Awaitable[T]]) -> T:
    async def run() -> T:
        engines = HostEngines({})
        try:
            return await main(engines)
        finally:
            await engines.close()

    before = ssh_processes(os.getpid())
    try:
        return asyncio.run(run())
    finally:
        assert ssh_processes(os.getpid()) == before, "no ssh process outlives its engines"


def ssh_processes(parent: int) -> set[int]:
    """Living children of this process that are ssh."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().rsplit(")", 1)
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, ppid = rest.split()[:2]
        if name.endswith("(ssh") and int(ppid) == parent and state != "Z":
            found.add(int(stat.parent.name))
    return found


def refused(at: Host, error: type[Exception], within_s: float = 3.0, timeout_s: float = 3.0) -> str:
    """Look at the container web there; the message and hint of the error that must come."""

    async def main(engines: HostEngines) -> str:
        began = time.monotonic()
        with pytest.raises(error) as raised:
            await engines.on(at).container("web", timeout_s=timeout_s)
        assert type(raised.value) is error
        assert time.monotonic() - began < within_s
        return str(raised.value)

    return with_engines(main)


async def looks(engines: HostEngines, at: Host, timeout_s: float = 3.0) -> str:
    facts = await engines.on(at).container("web", timeout_s=timeout_s)
    return facts.status if facts else "missing"


def test_one_connection_serves_all_looks(fleet: Fleet, host: FleetHost) -> None:
    async def main(engines: HostEngines) -> None:
        at = inventory_host(fleet)
        assert await asyncio.gather(*(looks(engines, at, 10.0) for _ in range(20))) == ["running"] * 20
        assert len(ssh_processes(os.getpid())) == 1

    with_engines(main)


def test_an_engine_that_was_killed_is_down_and_found_again_when_it_is_back(fleet: Fleet, host: FleetHost) -> None:
    async def main(engines: HostEngines) -> None:
        at = inventory_host(fleet)
        assert await looks(engines, at) == "running"
        await asyncio.to_thread(host.kill_engine)
        with pytest.raises(EngineDown, match="is down: nothing listens at"):
            await looks(engines, at, 5.0)
        await asyncio.to_thread(host.start_engine)
        assert await looks(engines, at, 5.0) in ("running", "exited")

    with_engines(main)
    run_web(host)


def test_an_engine_that_was_never_there_is_down(fleet: Fleet, host: FleetHost) -> None:
    message = refused(inventory_host(fleet, guard_docker_host="unix:///run/other.sock"), EngineDown)
    assert "(ENOENT)" in message


def test_a_frozen_engine_is_down(fleet: Fleet, host: FleetHost) -> None:
    pids = host._processes("dockerd")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        message = refused(inventory_host(fleet), EngineDown)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert "although the SSH connection does" in message


def test_a_frozen_connection_is_unreachable_and_comes_back(fleet: Fleet, host: FleetHost) -> None:
    async def main(engines: HostEngines) -> None:
        at = inventory_host(fleet)
        assert await looks(engines, at) == "running"
        host.freeze()
        with pytest.raises(EngineUnreachable, match="the way to it does not answer either"):
            await looks(engines, at, 2.0)
        host.thaw()
        assert await looks(engines, at, 5.0) == "running"

    with_engines(main)


def test_a_stopped_sshd_is_unreachable_at_once_costs_others_nothing_and_is_retried(
    fleet: Fleet, host: FleetHost
) -> None:
    async def main(engines: HostEngines) -> None:
        at, other = inventory_host(fleet), inventory_host(fleet, "web2")
        assert await looks(engines, at) == "running"
        await asyncio.to_thread(host.stop_sshd)
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(EngineUnreachable):
                await looks(engines, at)
            assert time.monotonic() - began < 1.0
        assert await looks(engines, other) == "running"
        await asyncio.to_thread(host.start_sshd)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert await looks(engines, at) == "running"
                return
            except EngineUnreachable as error:
                assert "Connection refused" in error.message
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)

    with_engines(main)


def test_a_changed_host_key_is_unreachable_with_the_words_of_ssh(fleet: Fleet, host: FleetHost, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    lines = (fleet.folder / "known_hosts").read_text().splitlines()
    keys = [line.split(" ", 1)[1] for line in lines]
    known.write_text(f"[{host.address}]:{host.ssh_port} {keys[1]}\n")  # web2's key for web1's address
    args = f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    message = refused(inventory_host(fleet, ansible_ssh_common_args=args), EngineUnreachable)
    assert "Host key verification failed" in message
    assert "has changed" in message


def test_a_refused_key_is_unreachable_with_the_words_of_ssh(fleet: Fleet, host: FleetHost) -> None:
    assert "Permission denied (publickey" in refused(inventory_host(fleet, ansible_user="nobody2"), EngineUnreachable)


def test_a_user_who_may_not_open_the_socket_is_unreachable_with_a_hint(fleet: Fleet, host: FleetHost) -> None:
    message = refused(inventory_host(fleet, ansible_user="plain"), EngineUnreachable)
    assert "the SSH user may not open /var/run/docker.sock" in message
    assert "ansible_become" in message


def test_become_without_the_right_to_is_unreachable_with_the_words_of_sudo(fleet: Fleet, host: FleetHost) -> None:
    at = inventory_host(fleet, ansible_user="plain", ansible_become=True)
    assert "password is required" in refused(at, EngineUnreachable, within_s=4.0, timeout_s=4.0)


def test_a_forwarding_that_sshd_refuses_is_unreachable_with_a_hint(fleet: Fleet, host: FleetHost) -> None:
    keys = "/etc/ssh/fleet_authorized_keys"
    plain = host.exec(["cat", keys])
    host.exec(["sh", "-c", f"cat > {keys}"], given=f"no-port-forwarding {plain}")
    try:
        message = refused(inventory_host(fleet), EngineUnreachable)
    finally:
        host.exec(["sh", "-c", f"cat > {keys}"], given=plain)
    assert "AllowStreamLocalForwarding" in message


def test_a_host_that_takes_connections_and_never_answers_is_unreachable_in_time(fleet: Fleet) -> None:
    async def main(engines: HostEngines) -> None:
        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            at = inventory_host(fleet, ansible_host="127.0.0.1", ansible_port=port)
            began = time.monotonic()
            with pytest.raises(EngineUnreachable, match="could not be reached within 1 s"):
                await looks(engines, at, 1.0)
            assert time.monotonic() - began < 1.5
        finally:
            server.close()

    with_engines(main)


def test_a_connection_that_ends_is_made_again(fleet: Fleet, host: FleetHost) -> None:
    async def main(engines: HostEngines) -> None:
        at = inventory_host(fleet)
        assert await looks(engines, at) == "running"
        [process] = ssh_processes(os.getpid())
        os.kill(process, signal.SIGKILL)
        while ssh_processes(os.getpid()):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # until asyncio has heard of it too
        assert await looks(engines, at) == "running"

    with_engines(main)


_KEEPS_A_CONNECTION = """
import asyncio, json, sys
from guard.engines.hosts import HostEngines
from guard.model import Host

async def main():
    host = Host("web1", json.loads(sys.argv[1]))
    await HostEngines({}).on(host).container("web")
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("become", [False, True])
def test_no_ssh_process_outlives_a_guard_that_was_killed(fleet: Fleet, host: FleetHost, become: bool) -> None:
    import json

    variables = dict(
        inventory_host(fleet, **({"ansible_user": "ops", "ansible_become": True} if become else {})).variables
    )
    argv = [sys.executable, "-c", _KEEPS_A_CONNECTION, json.dumps(variables)]
    guard = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert guard.stdout is not None
    assert guard.stdout.readline() == b"ready\n"
    processes = ssh_processes(guard.pid)
    assert processes
    guard.kill()
    guard.wait()
    guard.stdout.close()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}/stat").exists() and _lives(pid) for pid in processes):
        assert time.monotonic() < deadline, "ssh is left behind"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_sockets_are_in_a_private_folder_that_goes_with_the_engines(fleet: Fleet, host: FleetHost) -> None:
    folders: list[Path] = []

    async def main(engines: HostEngines) -> None:
        await looks(engines, inventory_host(fleet))
        assert engines._folder is not None
        folders.append(engines._folder)
        assert engines._folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o077 == 0 for path in engines._folder.iterdir())

    with_engines(main)
    assert not folders[0].exists()


def observed(fleet: Fleet, name: str, looks: int, between: Callable[[int], None]) -> list[tuple[State, str]]:
    async def main(engines: HostEngines) -> list[tuple[State, str]]:
        probe = DockerProbe(engines, inventory_host(fleet), ContainerUnit(name), 5.0)
        seen = []
        for number in range(looks):
            measured = await probe.measure()
            seen.append((measured.state, measured.reason))
            await asyncio.to_thread(between, number)
        return seen

    return with_engines(main)


def test_the_docker_check_sees_a_container_stop_and_go(fleet: Fleet, host: FleetHost) -> None:
    steps = [("pause", "web"), ("unpause", "web"), ("kill", "web"), ("rm", "-f", "web")]
    seen = observed(fleet, "web", 5, lambda number: host.docker(*steps[number]) and None if number < 4 else None)
    run_web(host)
    assert [state for state, _ in seen] == [
        State.HEALTHY,
        State.UNHEALTHY,
        State.HEALTHY,
        State.UNHEALTHY,
        State.UNHEALTHY,
    ]
    assert [reason for _, reason in seen] == [
        "container web runs",
        "container web is paused",
        "container web runs",
        "container web exited with code 137",
        "there is no container web",
    ]


def test_a_container_that_restarts_in_a_loop_is_never_healthy_once_that_was_seen(fleet: Fleet, host: FleetHost) -> None:
    restarts = ("--restart", "always", "--entrypoint", "/bin/sh")
    host.docker("rm", "-f", "web")
    host.docker("run", "-d", "--name", "web", "--network", "none", *restarts, "web:1.0.0", "-c", "sleep 0.4; exit 3")
    try:
        seen = observed(fleet, "web", 12, lambda _: time.sleep(0.3))
    finally:
        run_web(host)
    first = next(i for i, (state, _) in enumerate(seen) if state is State.UNHEALTHY)
    assert first <= 4
    assert State.HEALTHY not in {state for state, _ in seen[first:]}
    assert sum(state is State.UNHEALTHY for state, _ in seen) >= 3
