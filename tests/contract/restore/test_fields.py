"""Every field of a container, before and after: kept, from the image, or of a kind that changes by nature."""

from __future__ import annotations

import json

import pytest

from .conftest import Json, Restore
from .fields import compare, swap

ON_EVERY_ENGINE = True


def endpoints(container: Json) -> dict[str, tuple[object, list[str], object]]:
    """What the user set on each network: static addresses, aliases (without the short ID), links."""
    return {
        name: (seen["IPAMConfig"] or {}, [a for a in seen["Aliases"] or [] if a != container["Id"][:12]], seen["Links"])
        for name, seen in container["NetworkSettings"]["Networks"].items()
    }


def test_a_rich_container_keeps_all_that_the_user_set(restore: Restore, images: dict[str, str]) -> None:
    engine = restore.engine
    for number, name in enumerate(("front", "back", "side")):
        engine.docker("network", "create", "--subnet", f"10.211.{number}.0/24", name)
    engine.docker("volume", "create", "named")
    engine.docker("run", "-d", "--name", "db", "--network", "front", "rich:old")
    # fmt: off
    engine.docker(
        "create", "--name", "web", "--network", "front", "--ip", "10.211.0.77", "--network-alias", "www", "--link", "db:store",
        "--hostname", "shop", "--domainname", "example.org",
        "-p", "127.0.0.1::80", "-p", "127.0.0.1:18099:9999/udp", "--expose", "7777",
        "-e", "MINE=1", "-e", "OVERRIDDEN=user", "-e", "TEMPLATE={{ 7*7 }} ${HOME} $(id) ''' \"\"\"",
        "--label", "mine=yes", "--label", "both=user", "--label", "com.docker.compose.project=shop",
        "-v", "named:/named:ro", "-v", "/user-anonymous", "-v", f"{engine.folder}:/bound:ro",
        "--mount", "type=volume,destination=/mounted-anonymous", "--mount", "type=tmpfs,destination=/t2,tmpfs-size=1m",
        "--tmpfs", "/t1:size=64k", "--restart", "on-failure:4", "--memory", "64m", "--memory-swap", "80m",
        "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares", "300", "--cpuset-cpus", "0", "--pids-limit", "99",
        "--cap-add", "NET_ADMIN", "--cap-drop", "MKNOD", "--security-opt", "no-new-privileges",
        "--ulimit", "nofile=512:1024", "--sysctl", "net.ipv4.ip_unprivileged_port_start=0", "--shm-size", "3m",
        "--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=2", "--dns", "10.1.2.3",
        "--dns-search", "example.org", "--dns-option", "ndots:2", "--add-host", "upstream:10.9.9.9", "--init",
        "--group-add", "12", "--device", "/dev/null:/dev/mynull:r", "--oom-score-adj", "100", "--stop-timeout", "3",
        "--ipc", "private", "--pid", "host", "--read-only", "--health-retries", "9", "--health-interval", "1s", "rich:old",
    )
    # fmt: on
    engine.docker("network", "connect", "--alias", "behind", "--ip", "10.211.1.88", "back", "web")
    engine.docker("network", "connect", "side", "web")
    engine.docker("start", "web")
    for volume in ("user-anonymous", "image-volume", "mounted-anonymous"):
        engine.docker("exec", "web", "touch", f"/{volume}/mine")
    before, after = swap(restore, images)
    compare(before, after)
    config = after["Config"]
    assert {entry for entry in config["Env"] if not entry.startswith("PATH=")} == {
        "MINE=1", "OVERRIDDEN=user", "TEMPLATE={{ 7*7 }} ${HOME} $(id) ''' \"\"\"",
        "FROM_IMAGE=new", "SHARED=new", "ONLY_NEW=yes",
    }  # fmt: skip
    user_labels = {"mine": "yes", "both": "user", "com.docker.compose.project": "shop"}
    assert config["Labels"] == {**user_labels, "from.image": "new"}
    assert (config["Hostname"], config["Domainname"]) == ("shop", "example.org")
    assert (config["WorkingDir"], config["User"], config["StopSignal"]) == ("/data", "root", "SIGTERM")
    assert (config["Entrypoint"], config["Cmd"]) == (["/bin/busybox", "sh"], ["/run.sh"])
    assert set(config["ExposedPorts"]) == {"80/tcp", "8082/tcp", "7777/tcp", "9999/udp"}
    assert config["Healthcheck"] == {
        "Test": ["CMD-SHELL", "/bin/busybox true"], "Interval": 10**9, "Timeout": 4 * 10**9, "Retries": 9,
    }  # fmt: skip
    assert endpoints(after) == endpoints(before)
    addresses = {name: seen["IPAddress"] for name, seen in after["NetworkSettings"]["Networks"].items()}
    assert (addresses["front"], addresses["back"]) == ("10.211.0.77", "10.211.1.88")
    volumes = {mount["Destination"]: (mount["Type"], mount.get("Name"), mount["RW"]) for mount in before["Mounts"]}
    now = {mount["Destination"]: (mount["Type"], mount.get("Name"), mount["RW"]) for mount in after["Mounts"]}
    assert {where: now[where] for where in volumes} == volumes
    assert set(now) - set(volumes) == {"/new-volume"}
    for volume in ("user-anonymous", "image-volume", "mounted-anonymous"):
        engine.docker("exec", "web", "test", "-e", f"/{volume}/mine")
    binds = {bind.split(":")[1] for bind in after["HostConfig"]["Binds"]}
    assert binds == {"/named", "/bound", "/user-anonymous", "/image-volume"}
    assert before["HostConfig"]["PortBindings"] == after["HostConfig"]["PortBindings"]


def test_a_plain_container_gets_nothing_but_the_new_images_defaults(restore: Restore, images: dict[str, str]) -> None:
    restore.engine.docker("run", "-d", "--name", "web", "rich:old")
    before, after = swap(restore, images)
    compare(before, after)
    restore.engine.docker("run", "-d", "--name", "fresh", "rich:new")
    fresh = restore.engine.inspect("fresh")
    assert after["Config"]["Hostname"] == after["Id"][:12]
    for config in (after["Config"], fresh["Config"]):
        del config["Hostname"]
    assert after["Config"]["Volumes"] == fresh["Config"]["Volumes"]
    assert after["Config"] == fresh["Config"]
    assert after["HostConfig"] == {**fresh["HostConfig"], "Binds": after["HostConfig"]["Binds"]}


@pytest.mark.parametrize(
    ("options", "command", "expected"),
    [
        ((), (), (["/bin/busybox", "sh"], ["/run.sh"])),
        ((), ("-x", "/run.sh"), (["/bin/busybox", "sh"], ["-x", "/run.sh"])),
        (("--entrypoint", "/run.sh"), (), (["/run.sh"], None)),
        (("--entrypoint", "/bin/sh"), (), (["/bin/sh"], None)),
        (("--entrypoint", "/bin/sleep"), ("99",), (["/bin/sleep"], ["99"])),
        (("--entrypoint", ""), ("/bin/sleep", "99"), (None, ["/bin/sleep", "99"])),
    ],
)
def test_entrypoint_and_command_stay_only_where_the_user_set_them(
    restore: Restore,
    images: dict[str, str],
    options: tuple[str, ...],
    command: tuple[str, ...],
    expected: tuple[list[str] | None, list[str] | None],
) -> None:
    restore.engine.docker("create", "--name", "web", "-ti", "--no-healthcheck", *options, "rich:old", *command)
    restore.engine.docker("start", "web")
    _, after = swap(restore, images)
    assert (after["Config"]["Entrypoint"], after["Config"]["Cmd"] or None) == expected
    assert after["Config"]["Healthcheck"]["Test"] == ["NONE"]


@pytest.mark.parametrize("mode", ["host", "none", "container:db", "bridge", "front"])
def test_every_network_mode_is_kept(restore: Restore, images: dict[str, str], mode: str) -> None:
    restore.engine.docker("network", "create", "front")
    restore.engine.docker("run", "-d", "--name", "db", "rich:old")
    restore.engine.docker(
        "run", "-d", "--name", "web", "--network", mode, "--entrypoint", "/bin/sleep", "rich:old", "99"
    )
    before, after = swap(restore, images)
    compare(before, after)
    assert set(after["NetworkSettings"]["Networks"]) == set(before["NetworkSettings"]["Networks"])
    assert (after["Config"]["Hostname"] == after["Id"][:12]) == (before["Config"]["Hostname"] == before["Id"][:12])


def test_a_container_taken_out_of_its_first_network_stays_out(restore: Restore, images: dict[str, str]) -> None:
    restore.engine.docker("network", "create", "front")
    restore.engine.docker("run", "-d", "--name", "web", "rich:old")
    restore.engine.docker("network", "connect", "front", "web")
    restore.engine.docker("network", "disconnect", "bridge", "web")
    before, after = swap(restore, images)
    compare(before, after)
    assert set(after["NetworkSettings"]["Networks"]) == {"front"}


def test_links_on_the_default_bridge_and_volumes_from_are_kept(restore: Restore, images: dict[str, str]) -> None:
    restore.engine.docker("run", "-d", "--name", "db", "-v", "/shared", "rich:old")
    restore.engine.docker("run", "-d", "--name", "web", "--link", "db:store", "--volumes-from", "db", "-P", "rich:old")
    before, after = swap(restore, images)
    compare(before, after)
    assert after["HostConfig"]["Links"] == ["/db:/web/store"]
    shared = [{mount["Destination"]: mount["Name"] for mount in seen["Mounts"]}["/shared"] for seen in (before, after)]
    assert shared[0] == shared[1]
    assert set(after["NetworkSettings"]["Ports"]) == {"80/tcp", "8082/tcp"}


def test_a_mac_address_set_by_the_user_is_kept(restore: Restore, images: dict[str, str]) -> None:
    body = {"Image": "rich:old", "MacAddress": "02:42:aa:bb:cc:dd"}
    restore.engine.api("POST", "/v1.41/containers/create?name=web", body)
    restore.engine.docker("start", "web")
    before, after = swap(restore, images)
    compare(before, after)
    assert after["NetworkSettings"]["Networks"]["bridge"]["MacAddress"] == "02:42:aa:bb:cc:dd"


def test_namespaces_and_cgroups_are_kept(restore: Restore, images: dict[str, str]) -> None:
    options = ["--uts", "host", "--cgroup-parent", "/guardtest", "--userns", "host", "--oom-kill-disable=false"]
    restore.engine.docker("run", "-d", "--name", "web", *options, "rich:old")
    before, after = swap(restore, images)
    compare(before, after)


def test_a_rolled_back_container_can_be_rolled_back_again(restore: Restore, images: dict[str, str]) -> None:
    """What the first restore made explicit (named anonymous volumes) must not pile up or turn into an error."""
    restore.engine.docker("run", "-d", "--name", "web", "-v", "/user-anonymous", "rich:old")
    first, second = swap(restore, images)
    target = {"image": "rich:old", "image_id": images["old"]}
    result = restore("swap", restore.plan(target=target, expect_image_id=None))
    assert result["state"] == "restored", result
    third = restore.engine.inspect("web")
    compare(first, third)
    assert first["Config"] == {**third["Config"], "Hostname": first["Config"]["Hostname"]}
    names = [{mount["Destination"]: mount["Name"] for mount in seen["Mounts"]} for seen in (first, third)]
    assert names[0].items() <= names[1].items()
    assert json.dumps(second["HostConfig"]["Binds"])
