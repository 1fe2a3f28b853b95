"""The restore module and guard's own view, against a real Podman through its Docker-compatible socket."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_command import Guard

from guard.engines.docker_api import DockerEngine
from guard.engines.local import UnixWay

from .conftest import Json, Restore, sweep
from .podman import Podman

CHECK = ("--health-cmd", "test -e /srv/index.html", "--health-interval", "1h")


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    sweep()
    engine = Podman()
    engine.start()
    try:
        yield engine
    finally:
        engine.end()


@pytest.fixture(scope="module")
def ids(podman: Podman) -> dict[str, str]:
    """By tag: what runs, what is restored, and what does not come up."""
    old = ("ENV FROM_IMAGE=old SHARED=old", "LABEL from=old", "STOPSIGNAL SIGINT", "VOLUME /image-volume")
    return {
        "web:1.1.0": podman.image("web:1.1.0", *old),
        "web:1.0.0": podman.image("web:1.0.0", "ENV FROM_IMAGE=new", "LABEL from=new", "WORKDIR /data"),
        "web:exits": podman.image("web:exits", 'CMD ["/bin/sh", "-c", "echo no database; exit 3"]'),
        "web:wont-start": podman.image("web:wont-start", 'CMD ["/there/is/no/such/program"]'),
    }


@pytest.fixture
def restore(podman: Podman, ids: dict[str, str], tmp_path: Path) -> Restore:
    podman.reset()
    for tag in podman.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if ":guard_" in tag or ":backup_" in tag:
            podman.docker("untag", tag, tag)
    return Restore(podman, tmp_path / "state", ids)


def libpod(restore: Restore) -> Json:
    """Podman's own description of the container, which says more than the compatible one."""
    connection = http.client.HTTPConnection("podman")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(restore.engine.socket))
    connection.request("GET", "/v4.0.0/libpod/containers/web/json")
    found: Json = json.loads(connection.getresponse().read())
    connection.close()
    return found


def plan(restore: Restore, tag: str = "web:1.0.0", **changes: object) -> Json:
    return restore.plan(target={"image": f"localhost/{tag}", "image_id": restore.ids[tag]}, **changes)


def test_the_target_runs_under_the_same_name_and_a_second_run_changes_nothing(restore: Restore) -> None:
    before = restore.deploy("-p", "127.0.0.1::80", *CHECK)
    restore.engine.docker("tag", before["Image"], "localhost/web:1.1.0")
    result = restore("swap", plan(restore))
    assert (result["state"], result["changed"], result["error"]) == ("restored", True, None)
    assert result["from"]["image"] == "localhost/web:1.1.0"
    assert result["to"] == {"image": "localhost/web:1.0.0", "image_id": restore.ids["web:1.0.0"]}
    assert 0 < result["downtime_s"] < 20
    assert restore.engine.names() == {"web"}
    assert "sha256:" + restore.engine.inspect("web")["Image"] == restore.ids["web:1.0.0"]
    tags = json.loads(restore.engine.docker("image", "inspect", restore.ids["web:1.1.0"]))[0]["RepoTags"]
    assert "localhost/web:backup_20261123_101112" in tags
    again = restore("swap", plan(restore))
    assert (again["state"], again["changed"]) == ("unchanged", False)


def test_all_that_podman_gives_back_is_kept(restore: Restore, tmp_path: Path) -> None:
    engine = restore.engine
    engine.docker("network", "create", "front")
    engine.docker("network", "create", "back")
    # fmt: off
    restore.deploy(
        "-e", "MINE=1", "-e", "TEMPLATE={{ 7*7 }} $(id)", "--label", "mine=yes", "-p", "127.0.0.1::80", "-p", "127.0.0.1:18398:53/udp",
        "-v", "named:/named:ro", "-v", "/anonymous", "-v", f"{tmp_path}:/bound:ro", "--tmpfs", "/scratch:size=64k", "--mount", f"type=bind,src={tmp_path},dst=/mounted,ro",
        "--mount", "type=tmpfs,dst=/small,tmpfs-size=4096",
        "--memory", "64m", "--memory-swap", "80m", "--cpus", "0.5", "--cpuset-cpus", "0", "--pids-limit", "99", "--cap-add", "NET_ADMIN",
        "--cap-drop", "MKNOD", "--security-opt", "no-new-privileges", "--ulimit", "nofile=300:600", "--ulimit", "nproc=90:90",
        "--hostname", "shop", "--dns", "10.1.2.3", "--dns-search", "example.org", "--add-host", "upstream:10.9.9.9",
        "--device", "/dev/null:/dev/mynull", "--sysctl", "net.ipv4.ip_unprivileged_port_start=0", "--read-only", "--shm-size", "3m",
        "--user", "0", "--group-add", "12", "--stop-timeout", "3", "--log-opt", "max-size=1mb", "--init", "--oom-score-adj", "100",
        "--network", "front,back", "--network-alias", "www", *CHECK,
    )
    # fmt: on
    engine.docker("exec", "web", "touch", "/anonymous/mine", "/image-volume/mine")
    before = libpod(restore)
    result = restore("swap", plan(restore))
    assert result["state"] == "restored", result["error"]
    after = libpod(restore)
    same_by_hand = ("Binds", "LogConfig", "PortBindings")
    for key, value in before["HostConfig"].items():
        assert key in same_by_hand or after["HostConfig"][key] == value, key
    assert sorted(after["HostConfig"]["Binds"]) == sorted(before["HostConfig"]["Binds"])
    for key in ("Type", "Size", "Tag"):
        assert after["HostConfig"]["LogConfig"][key] == before["HostConfig"]["LogConfig"][key]
    assert after["HostConfig"]["PortBindings"].keys() == before["HostConfig"]["PortBindings"].keys()
    for key in ("Hostname", "User", "Tty", "OpenStdin", "StopTimeout", "Healthcheck"):
        assert after["Config"].get(key) == before["Config"].get(key), key
    assert {"MINE=1", "TEMPLATE={{ 7*7 }} $(id)", "FROM_IMAGE=new"} <= set(after["Config"]["Env"])
    assert not {"SHARED=old", "FROM_IMAGE=old"} & set(after["Config"]["Env"])
    assert after["Config"]["Labels"] == {"mine": "yes", "from": "new"}
    assert (after["Config"]["StopSignal"], after["Config"]["WorkingDir"]) == (15, "/data")
    networks = after["NetworkSettings"]["Networks"]
    assert {name: "www" in seen["Aliases"] for name, seen in networks.items()} == {"front": True, "back": True}
    mine = Path(f"/proc/{after['State']['Pid']}")
    assert "Umask:\t0022" in (mine / "status").read_text()
    assert restore.engine.docker("exec", "web", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "0"
    compare_mounts = [
        {m["Destination"]: (m["Type"], m["Source"], m["RW"]) for m in seen["Mounts"]} for seen in (before, after)
    ]
    assert compare_mounts[0] == compare_mounts[1]
    engine.docker("exec", "web", "test", "-e", "/anonymous/mine")
    engine.docker("exec", "web", "test", "-e", "/image-volume/mine")


@pytest.mark.parametrize(("tag", "reason"), [("web:exits", "exited"), ("web:wont-start", "no such file")])
def test_what_ran_before_is_put_back_when_the_target_does_not_come_up(restore: Restore, tag: str, reason: str) -> None:
    restore.engine.docker("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "web:1.1.0")
    before = libpod(restore)
    result = restore("swap", plan(restore, tag))
    assert result["state"] == "reverted", result
    assert reason in result["error"]
    after = libpod(restore)
    assert (after["Id"], after["State"]["Running"]) == (before["Id"], True)
    assert restore.engine.names() == {"web"}


def test_prepare_stops_nothing_and_discard_takes_it_back(restore: Restore) -> None:
    restore.deploy()
    before = libpod(restore)
    assert restore("prepare", plan(restore))["state"] == "planned"
    assert restore.engine.names() == {"web", "web.guard-next"}
    assert restore("discard", restore.plan(target=None))["changed"] is True
    assert restore.engine.names() == {"web"}
    assert libpod(restore)["State"]["StartedAt"] == before["State"]["StartedAt"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--userns", "host", "--umask", "0077"), "--umask"),
        (("--mount", "type=bind,src=/srv,dst=/srv,U=true"), "--mount"),
        (("--ip", "172.30.9.9"), "--ip"),
        (("--security-opt", "seccomp=unconfined"), "seccomp=unconfined"),
        (("--label", "PODMAN_SYSTEMD_UNIT=web.service"), "web.service"),
        (("--pod", "shop"), "pod"),
    ],
)
def test_what_podman_does_not_give_back_is_refused_before_anything_is_touched(
    restore: Restore, options: tuple[str, ...], why: str
) -> None:
    restore.engine.docker("pod", "create", "--infra=false", "--name", "shop")
    restore.engine.docker("create", "--name", "web", *options, "web:1.1.0")
    tags = restore.engine.tags()
    try:
        for mode in ("snapshot", "prepare", "swap"):
            refused = restore(mode, plan(restore))
            assert (refused["state"], refused["kind"], refused["changed"]) == ("failed", "podman", False)
            assert why in refused["error"]
        assert ".guard" not in "".join(restore.engine.names())
        assert restore.engine.tags() == tags
    finally:
        restore.engine.docker("pod", "rm", "--all", "--force")


def test_snapshot_pins_what_runs(restore: Restore) -> None:
    restore.deploy()
    result = restore("snapshot", restore.plan(target=None))
    assert (result["state"], result["changed"]) == ("unchanged", True)
    assert result["pin"] == f"localhost/web:guard_{restore.ids['web:1.1.0'][7:19]}"
    assert restore("snapshot", restore.plan(target=None))["changed"] is False


def test_guard_sees_containers_and_images_of_podman(restore: Restore) -> None:
    restore.deploy()
    engine = DockerEngine(UnixWay(str(restore.engine.socket)))
    seen = asyncio.run(engine.container("web"))
    assert seen is not None
    assert (seen.image.image, seen.image.image_id) == ("localhost/web:1.1.0", restore.ids["web:1.1.0"])
    assert (seen.status, seen.health) == ("running", "")
    images = asyncio.run(engine.images("localhost/web"))
    assert restore.ids["web:1.0.0"] in {image.image_id for image in images}
    assert {image.digests for image in images} == {()}, "localhost/ is no registry that anything could be pulled from"
    found = asyncio.run(engine.image(restore.ids["web:1.0.0"]))
    assert found is not None and found.image_id == restore.ids["web:1.0.0"]


def test_the_guard_command_snapshots_and_restores_a_container_of_podman(restore: Restore, tmp_path: Path) -> None:
    """Through the inventory, Ansible and the published playbook: ``guard_docker_host`` is all that is different."""
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    host["guard_docker_host"] = f"unix://{restore.engine.socket}"
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {"pod1": host}}}))
    guard = Guard(tmp_path, inventory)
    checks = [{"type": "docker", "interval": "1s"}]
    rollback = {"verify_for": "1s", "min_gap": "0s"}
    guard.configure(
        {"services": [{"name": "web", "hosts": "all", "container": "web", "rollback": rollback, "checks": checks}]}
    )
    restore.deploy(image="web:1.0.0")
    taken = guard("snapshot", "web")
    assert taken.code == 0, taken
    restore.engine.docker("rm", "--force", "--time=0", "web")
    restore.deploy(image="web:1.1.0")
    ready = guard.json("ready", "web")
    assert (ready.code, ready.json["hosts"]["pod1"]["to"]["image"]) == (0, "localhost/web:1.0.0"), ready
    ran = guard.json("rollback", "web")
    assert (ran.code, ran.json["outcome"], ran.json["verified"]) == (0, "restored", True), ran
    assert ran.json["hosts"]["pod1"]["to"]["image_id"] == restore.ids["web:1.0.0"]
    assert "sha256:" + restore.engine.inspect("web")["Image"] == restore.ids["web:1.0.0"]
    assert guard.json("rollback", "web").json["hosts"]["pod1"]["state"] == "unchanged"
