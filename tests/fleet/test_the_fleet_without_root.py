"""The local fleet uses an engine that belongs to somebody else: it must take nothing away from it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.demo.fleet import Fleet
from guard.demo.ground import FleetError, wait_until
from guard.demo.host import Host
from guard.demo.local import LocalFleet

NOBODY = 65534


@pytest.fixture
def somebodys_engine(fleet: Fleet) -> Host:
    """An engine with a container and an image of its owner, who also happens to have a web:1.0.0."""
    return fleet.hosts[0]


@pytest.fixture
def local(somebodys_engine: Host) -> Iterator[LocalFleet]:
    with LocalFleet(3, somebodys_engine.docker_socket) as local:
        yield local


def state(host: Host) -> list[str]:
    """Everything on an engine that a fleet could have made or taken away."""
    images = host.docker("images", "--all", "--no-trunc", "--format", "image {{.Repository}}:{{.Tag}} {{.ID}}")
    containers = host.docker("ps", "--all", "--no-trunc", "--format", "container {{.Names}} {{.ID}}")
    volumes = host.docker("volume", "ls", "--format", "volume {{.Name}}")
    return sorted(f"{images}\n{containers}\n{volumes}".splitlines())


def test_three_containers_answer_on_ports_of_their_own(local: LocalFleet) -> None:
    local.deploy(local.provide("1.0.0"))
    local.wait_healthy()
    local.deploy(local.provide("1.1.0", "error"), hosts=[local.host("web2")])
    assert [host.get()[0] for host in (local.host("web1"), local.host("web3"))] == [200, 200]

    def second() -> tuple[int, str]:
        with contextlib.suppress(ConnectionError):  # the port opens a moment before the service listens behind it
            return local.host("web2").get(timeout=5)
        return 0, ""

    wait_until(lambda: second() == (500, '{"status":"error","version":"1.1.0"}'), 10, "the bad version's answer")


def test_ansible_knows_each_hosts_container_and_port(local: LocalFleet) -> None:
    ansible = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [ansible, "-i", local.inventory, "web", "-m", "command", "-a", "echo {{ container_name }} {{ web_port }}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for host in local.hosts:
        assert f"{host.container()} {host.outside_port(8080)}" in done.stdout


def test_everything_it_made_is_removed_and_nothing_else(somebodys_engine: Host) -> None:
    before = state(somebodys_engine)
    with LocalFleet(2, somebodys_engine.docker_socket) as local:
        first, second = local.provide("1.0.0"), local.provide("1.1.0")
        local.deploy(first)
        # As guard does: a backup tag in the repository, a pin in another one, and a container under a new name.
        somebodys_engine.docker("tag", second, f"{local.repository}:backup_20260101_000000")
        somebodys_engine.docker("tag", first, "guard-pin/web:1")
        somebodys_engine.docker("rename", local.hosts[0].container(), "set-aside")
        folder = local.folder
        assert state(somebodys_engine) != before
    assert state(somebodys_engine) == before
    assert not folder.exists()
    assert somebodys_engine.get()[0] == 200


OWNER = """
import sys, time
from guard.demo.local import LocalFleet
with LocalFleet(1, sys.argv[1]) as fleet:
    fleet.deploy(fleet.provide("1.0.0"))
    print("deployed", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_run_left_is_swept_and_what_a_living_one_has_is_not(
    somebodys_engine: Host, local: LocalFleet
) -> None:
    local.deploy(local.provide("1.0.0"))
    local.wait_healthy()
    before = state(somebodys_engine)
    argv = [sys.executable, "-c", OWNER, somebodys_engine.docker_socket]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "deployed\n"
        owner.send_signal(signal.SIGKILL)
    assert state(somebodys_engine) != before
    LocalFleet(1, somebodys_engine.docker_socket).start().stop()
    assert state(somebodys_engine) == before
    local.wait_healthy()


def test_a_user_who_may_use_the_socket_needs_no_root(somebodys_engine: Host) -> None:
    path = Path(somebodys_engine.docker_socket)
    os.chown(path, -1, NOBODY)
    # Python itself may live in a folder that only root can enter, so the privileges go once all is imported.
    drop = f"import encodings.idna, os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\nwith LocalFleet"
    script = OWNER.replace("with LocalFleet", drop)
    script = script.replace("time.sleep(600)", "fleet.wait_healthy(); print(os.getuid(), fleet.hosts[0].get())")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert f"{NOBODY} (200, " in done.stdout


def test_an_engine_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"nobody\.sock"):
        LocalFleet(1, str(tmp_path / "nobody.sock")).start()


def test_an_engine_on_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(FleetError, match="another machine"):
        LocalFleet(1).start()


def test_a_fleet_of_real_hosts_asks_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FleetError, match="root"):
        Fleet(1).start()
