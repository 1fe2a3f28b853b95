"""The fleet is the ground on which every other test here stands, so it is proven first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.demo import ground
from guard.demo.fleet import Fleet
from guard.demo.ground import FleetError, wait_until
from guard.demo.host import Host
from guard.demo.image import Behaviour, image_id, web_image


def ssh(fleet: Fleet, host: Host, *options: str, key: str | None = "user") -> subprocess.CompletedProcess[str]:
    identity = ["-i", str(fleet.folder / "keys" / key)] if key else []
    pinned = f"UserKnownHostsFile={fleet.folder}/known_hosts"
    options = ("-F/dev/null", "-oBatchMode=yes", "-oConnectTimeout=2", f"-o{pinned}", "-oIdentitiesOnly=yes", *options)
    return subprocess.run(
        [
            "ssh",
            *identity,
            *options,
            "-p",
            str(host.ssh_port),
            f"root@{host.address}",
            "hostname; docker ps -q | wc -l",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def traces(ident: str) -> list[str]:
    """Everything on this machine that carries the fleet's name: processes, mounts, bridges, folders, cgroups."""
    found = [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if ident in line]
    found += [f"link {path.name}" for path in Path("/sys/class/net").iterdir() if ident in path.name]
    found += [f"folder {path}" for path in ground.BASE.glob(f"*{ident}*")]
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/*{ident}*")]
    ours = Path("/proc/self/ns/mnt").readlink()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            # A process of a host sees the fleet's folder as a mount, in a mount namespace that is not the machine's.
            if (path / "ns/mnt").readlink() != ours and ident in (path / "mountinfo").read_text():
                found.append(f"process {path.name} {(path / 'comm').read_text().strip()}")
        except OSError:
            continue  # it ended while we looked
    return found


def addresses() -> set[str]:
    return set(ground.run("ip", "-o", "-4", "addr").splitlines())


@pytest.fixture
def small_fleet() -> Iterator[Fleet]:
    with Fleet(1) as fleet:
        yield fleet


def test_each_host_has_an_engine_and_a_name_of_its_own(fleet: Fleet) -> None:
    engines = {host.docker("info", "--format", "{{.ID}} {{.Name}}") for host in fleet.hosts}
    assert len(engines) == 3
    assert {engine.split()[1] for engine in engines} == {"web1", "web2", "web3"}
    assert [host.exec(["hostname"]).strip() for host in fleet.hosts] == ["web1", "web2", "web3"]

    fleet.host("web2").docker("rm", "--force", "web")
    assert [len(host.docker("ps", "--quiet").split()) for host in fleet.hosts] == [1, 0, 1]


def test_a_published_port_answers_on_the_hosts_own_address_only(fleet: Fleet) -> None:
    first = fleet.host("web1")
    fleet.load(web_image("web:2.0.0"))
    fleet.deploy("web:2.0.0", hosts=[first])
    fleet.wait_healthy()
    assert first.get() == (200, '{"status":"ok","version":"2.0.0"}')
    assert fleet.host("web2").get() == (200, '{"status":"ok","version":"1.0.0"}')
    listening = ground.run("ss", "-ltnH")
    assert f"{first.address}:8080" in listening
    assert "0.0.0.0:8080" not in listening


def test_ssh_leads_into_the_host_with_the_key_and_the_pinned_host_key(fleet: Fleet) -> None:
    for host in fleet.hosts:
        assert ssh(fleet, host).stdout.split() == [host.name, "1"]


def test_ssh_without_the_key_is_refused(fleet: Fleet) -> None:
    refused = ssh(fleet, fleet.hosts[0], key=None)
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_another_hosts_key_is_not_accepted_for_a_host(fleet: Fleet) -> None:
    wrong = ssh(fleet, fleet.hosts[0], f"-oHostKeyAlias=[{fleet.hosts[1].address}]:2222", "-oStrictHostKeyChecking=yes")
    assert wrong.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in wrong.stderr


def test_ansible_reaches_every_host_through_the_inventory(fleet: Fleet) -> None:
    ansible = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [str(ansible), "-i", str(fleet.inventory), "web", "-m", "command", "-a", "hostname"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "ANSIBLE_HOST_KEY_CHECKING": "True"},
    )
    assert {line for line in done.stdout.splitlines() if line.startswith("web") and " | " not in line} == {
        "web1",
        "web2",
        "web3",
    }


ANSWERS = [
    (Behaviour.GOOD, '200 {"status":"ok","version":"3.0.0"}'),
    (Behaviour.SLOW, '200 {"status":"ok","version":"3.0.0"}'),
    (Behaviour.ERROR, '500 {"status":"error","version":"3.0.0"}'),
    (Behaviour.HANG, "nothing in time"),
    (Behaviour.EXIT, "no connection"),
]


@pytest.mark.parametrize(("behaviour", "answer"), ANSWERS, ids=[behaviour.value for behaviour, _ in ANSWERS])
def test_an_image_behaves_as_it_is_named(fleet: Fleet, behaviour: Behaviour, answer: str) -> None:
    host = fleet.hosts[0]
    fleet.deploy(fleet.provide("3.0.0", behaviour), hosts=[host], args=["--restart=no"])

    def heard() -> str:
        try:
            return "{} {}".format(*host.get(timeout=3))
        except TimeoutError:
            return "nothing in time"
        except ConnectionError:
            return "no connection"

    # The published port opens a moment before the service listens behind it.
    wait_until(lambda: heard() == answer, 10, f"the answer {answer}")
    state = "exited 1" if behaviour is Behaviour.EXIT else "running 0"
    shown = "{{.State.Status}} {{.State.ExitCode}}"
    wait_until(lambda: host.docker("inspect", "--format", shown, "web") == state, 10, f"the state {state}")


def test_a_service_turns_bad_on_a_sign_and_stays_so(fleet: Fleet) -> None:
    host = fleet.hosts[0]
    host.load(web_image("web:3.0.0", "turns_bad"))
    fleet.deploy("web:3.0.0", hosts=[host], env={"TURNS_BAD_AFTER": "3600"})
    fleet.wait_healthy(hosts=[host])
    host.docker("exec", "web", "touch", "/tmp/bad")
    assert host.get()[0] == 500
    fleet.deploy("web:3.0.0", hosts=[host], env={"TURNS_BAD_AFTER": "3"})
    fleet.wait_healthy(hosts=[host])
    wait_until(lambda: host.get()[0] == 500, 10, "the service to turn bad by itself")


def test_an_image_id_depends_on_the_content_and_on_nothing_else(fleet: Fleet) -> None:
    images = [web_image(f"web:{version}", behaviour) for version in ("1.1.0", "1.2.0") for behaviour in Behaviour]
    assert len({image_id(image) for image in images}) == len(images)
    assert web_image("web:1.1.0", "error") == web_image("web:1.1.0", "error")
    newer, older = web_image("web:1.10.0"), web_image("web:1.9.7")
    for image in (newer, older):
        fleet.hosts[0].load(image)
    created = fleet.hosts[0].docker("inspect", "--format", "{{.Created}}", image_id(older), image_id(newer)).split()
    assert created == sorted(created)
    assert created[0] != created[1]


def test_an_image_with_a_health_check_becomes_healthy_and_unhealthy(fleet: Fleet) -> None:
    host = fleet.hosts[0]
    host.load(web_image("web:3.0.0", "turns_bad", healthcheck=True))
    fleet.deploy("web:3.0.0", hosts=[host], env={"TURNS_BAD_AFTER": "3600"})

    def health() -> str:
        return host.docker("inspect", "--format", "{{.State.Health.Status}}", "web")

    wait_until(lambda: health() == "healthy", 10, "the engine to call it healthy")
    host.docker("exec", "web", "touch", "/tmp/bad")
    wait_until(lambda: health() == "unhealthy", 10, "the engine to call it unhealthy")


def test_every_fault_of_a_host_can_be_made_and_undone(fleet: Fleet) -> None:
    host = fleet.hosts[0]

    host.stop_sshd()
    assert "Connection refused" in ssh(fleet, host).stderr
    host.start_sshd()
    assert ssh(fleet, host).returncode == 0

    host.freeze()
    assert "timed out" in ssh(fleet, host).stderr
    host.thaw()
    assert ssh(fleet, host).returncode == 0

    host.kill_engine()
    with pytest.raises(ConnectionError):
        host.get()
    host.start_engine()
    assert host.docker("ps", "--all", "--quiet")

    host.power_cut()
    assert "Connection refused" in ssh(fleet, host).stderr
    host.revive()
    assert host.docker("images", "--quiet", "web:1.0.0"), "a host's disk survives a power cut"
    assert fleet.host("web2").get()[0] == 200


def test_a_fleet_that_stops_leaves_nothing_behind() -> None:
    before = addresses()
    with Fleet(2) as fleet:
        ident = fleet.folder.name
        fleet.load(web_image())
        fleet.deploy("web:1.0.0")
        fleet.hosts[0].docker("network", "create", "--subnet", "198.19.255.0/28", "of-a-user")
        assert {trace.split()[0] for trace in traces(ident)} == {"mount", "link", "folder", "cgroup", "process"}
        assert addresses() - before
    fleet.stop()
    assert traces(ident) == []
    wait_until(lambda: addresses() == before, 5, "the kernel to drop the last network devices")


def test_two_fleets_run_side_by_side(fleet: Fleet, small_fleet: Fleet) -> None:
    small_fleet.load(web_image("web:9.0.0"))
    small_fleet.deploy("web:9.0.0")
    small_fleet.wait_healthy()
    assert small_fleet.hosts[0].get()[1] == '{"status":"ok","version":"9.0.0"}'
    assert fleet.hosts[0].get()[1] == '{"status":"ok","version":"1.0.0"}'
    assert {host.address for host in fleet.hosts}.isdisjoint({host.address for host in small_fleet.hosts})


def test_hosts_on_a_shared_engine_have_containers_and_addresses_of_their_own() -> None:
    with Fleet(2, shared_engine=True) as fleet:
        fleet.load(web_image("web:1.0.0"))
        fleet.load(web_image("web:1.1.0"))
        fleet.deploy("web:1.0.0")
        fleet.deploy("web:1.1.0", hosts=[fleet.hosts[1]])
        fleet.wait_healthy()
        assert [host.get()[1][-9:-2] for host in fleet.hosts] == [':"1.0.0', ':"1.1.0']
        assert ssh(fleet, fleet.hosts[1]).stdout.split() == ["web2", "2"]
        assert "container_name: web-2" in fleet.inventory.read_text()


OWNER = """
import sys, time
from guard.demo.fleet import Fleet
from guard.demo.image import web_image
with Fleet(2) as fleet:
    fleet.load(web_image())
    fleet.deploy("web:1.0.0")
    print(fleet.folder.name, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_fleet_whose_owner_is_ended_leaves_nothing_behind(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        ident = owner.stdout.readline().strip()
        owner.send_signal(number)
        owner.wait(timeout=20)
    if number == signal.SIGKILL:
        wait_until(lambda: not any(trace.startswith("process") for trace in traces(ident)), 10, "the hosts to end")
        assert any(trace.startswith("mount") for trace in traces(ident)), "nobody was there to remove it"
        ground.sweep()
    assert traces(ident) == []


def test_a_sweep_does_not_touch_a_fleet_whose_owner_lives(fleet: Fleet) -> None:
    ground.sweep()
    assert fleet.hosts[0].get()[0] == 200


def test_a_folder_that_no_fleet_made_is_not_swept(small_fleet: Fleet) -> None:
    stranger = ground.BASE / "stranger"
    stranger.mkdir()
    try:
        (stranger / "file").write_text("not the fleet's")
        ground.sweep()
        assert (stranger / "file").exists()
    finally:
        (stranger / "file").unlink()
        stranger.rmdir()


def test_a_fleet_that_cannot_start_says_why_and_leaves_nothing_behind() -> None:
    before = set(ground.BASE.iterdir())
    with pytest.raises(FleetError, match="unknown-key"):
        Fleet(1, engine={"unknown-key": True}).start()
    assert set(ground.BASE.iterdir()) == before
