"""Settings that few containers have, and configurations that changed after the container was made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Json, Restore
from .fields import compare, swap

ON_EVERY_ENGINE = True
ON_NEWER_ENGINES = (
    "test_settings_that_only_newer_engines_know_are_kept",
    "test_a_privileged_container_stays_privileged",  # 20.10 asks for capabilities that not every machine gives
)


def deployed(restore: Restore, *options: str, command: tuple[str, ...] = ()) -> None:
    restore.engine.docker("run", "-d", "--name", "web", *options, "rich:old", *command)


@pytest.fixture
def host_folder(tmp_path: Path) -> Iterator[Path]:
    """A mount point on the host whose mounts are shared, as binds with ``rshared`` and ``rslave`` ask for."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "settings.conf").write_text("mine\n")
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "--make-rshared", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_limits_devices_and_security_options_are_kept(restore: Restore, images: dict[str, str]) -> None:
    # fmt: off
    deployed(
        restore, "--cpu-period", "50000", "--cpu-quota", "25000", "--cpuset-mems", "0", "--device-cgroup-rule", "c 42:* rmw",
        "--device-read-bps", "/dev/vda:1mb", "--device-write-iops", "/dev/vda:100", "--oom-score-adj", "50", "--runtime", "runc",
        "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined", "--cgroupns", "host",
        "--ulimit", "nofile=512:1024", "--group-add", "12", "--user", "0:0", "--workdir", "/srv",
        "--log-driver", "none", "--ipc", "shareable", "--pids-limit", "-1", "--stop-signal", "SIGQUIT", "--blkio-weight", "300",
        "--memory", "64m", "--memory-swappiness", "10", "--oom-kill-disable", "--restart", "always",
    )
    # fmt: on
    before, after = swap(restore, images)
    compare(before, after)
    assert after["HostConfig"]["LogConfig"]["Type"] == "none"
    assert after["Config"]["StopSignal"] == "SIGQUIT"
    assert after["HostConfig"]["MaskedPaths"] == []


def test_a_privileged_container_stays_privileged(restore: Restore, images: dict[str, str]) -> None:
    deployed(restore, "--privileged", "--security-opt", "label=disable", "-i", "-t")
    before, after = swap(restore, images)
    compare(before, after)
    assert after["HostConfig"]["Privileged"] is True


def test_namespaces_shared_with_another_container_are_kept(restore: Restore, images: dict[str, str]) -> None:
    restore.engine.docker("run", "-d", "--name", "db", "--ipc", "shareable", "rich:old")
    shared = ["--pid", "container:db", "--ipc", "container:db", "--network", "container:db"]
    deployed(restore, *shared, "--entrypoint", "/bin/sleep", command=("99",))
    compare(*swap(restore, images))


def test_every_kind_of_mount_is_kept(restore: Restore, images: dict[str, str], host_folder: Path) -> None:
    # fmt: off
    deployed(
        restore, "-v", f"{host_folder}:/slave:ro,rslave", "-v", f"{host_folder}/settings.conf:/etc/settings.conf:ro,z",
        "-v", "named-later:/fresh:nocopy", "-v", f"{host_folder}/not-there-yet:/made",
        "--mount", f"type=bind,src={host_folder},dst=/shared,bind-propagation=rshared",
        "--mount", f"type=bind,src={host_folder},dst=/flat,readonly,bind-recursive=disabled" if newest(restore) else
        f"type=bind,src={host_folder},dst=/flat,readonly,bind-nonrecursive=true",
        "--mount", "type=volume,src=in-memory,dst=/memory,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-label=a=b",
        "--mount", "type=volume,dst=/memory-2,volume-opt=type=tmpfs,volume-opt=device=tmpfs",
        "--mount", "type=volume,src=named,dst=/data,volume-nocopy,readonly",
        "--mount", "type=tmpfs,dst=/scratch,tmpfs-size=64k,tmpfs-mode=1770", "--tmpfs", "/plain:rw,noexec,size=64k",
    )
    # fmt: on
    restore.engine.docker("exec", "web", "touch", "/memory/mine", "/memory-2/mine")
    before, after = swap(restore, images)
    compare(before, after)
    assert (Path(host_folder) / "not-there-yet").is_dir()


def newest(restore: Restore) -> bool:
    return bool(restore.engine.options)


def test_published_ports_of_every_kind_are_kept(restore: Restore, images: dict[str, str]) -> None:
    # fmt: off
    deployed(
        restore, "-p", "127.0.0.1:18100-18105:80", "-p", "127.0.0.1:18110-18112:9000-9002", "-p", "127.0.0.1:18113:80",
        "-p", "127.0.0.2:18113:53/udp", "-p", "127.0.0.3:18113:53/udp", "-p", "[::1]:18114:81", "-P",
    )
    # fmt: on
    restore.engine.docker("network", "create", "back")
    restore.engine.docker("network", "connect", "back", "web")
    before, after = swap(restore, images)
    compare(before, after)
    assert len(after["HostConfig"]["PortBindings"]["53/udp"]) == 2
    assert set(after["NetworkSettings"]["Networks"]) == {"bridge", "back"}


def test_addresses_of_both_families_are_kept(restore: Restore, images: dict[str, str]) -> None:
    subnets = ["--ipv6", "--subnet", "10.212.0.0/24", "--subnet", "fd00:9a:1::/64"]
    restore.engine.docker("network", "create", *subnets, "dual")
    restore.engine.docker("network", "create", "--internal", "--subnet", "10.213.0.0/24", "inside")
    static = ["--ip", "10.212.0.9", "--ip6", "fd00:9a:1::9", "--link-local-ip", "169.254.7.7"]
    deployed(restore, "--network", "dual", *static)
    restore.engine.docker("network", "connect", "--link-local-ip", "169.254.8.8", "inside", "web")
    before, after = swap(restore, images)
    compare(before, after)
    endpoint = after["NetworkSettings"]["Networks"]["dual"]
    assert (endpoint["IPAddress"], endpoint["GlobalIPv6Address"]) == ("10.212.0.9", "fd00:9a:1::9")


def test_what_was_changed_after_the_container_was_made_is_kept(restore: Restore, images: dict[str, str]) -> None:
    """By docker update, rename, network connect and disconnect."""
    engine = restore.engine
    for name in ("front", "back"):
        engine.docker("network", "create", name)
    engine.docker("run", "-d", "--name", "first-name", "--network", "front", "--memory", "64m", "rich:old")
    engine.docker(
        "update", "--memory", "96m", "--memory-swap", "128m", "--cpus", "0.7", "--restart", "on-failure:7", "first-name"
    )
    engine.docker("update", "--pids-limit", "77", "--cpuset-cpus", "0", "--cpu-shares", "99", "first-name")
    engine.docker("rename", "first-name", "web")
    engine.docker("network", "connect", "--alias", "behind", "back", "web")
    engine.docker("network", "disconnect", "front", "web")
    before, after = swap(restore, images)
    compare(before, after)
    assert set(after["NetworkSettings"]["Networks"]) == {"back"}
    assert after["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 7}


def test_a_first_network_that_is_gone_is_left_out(restore: Restore, images: dict[str, str]) -> None:
    """Newer engines start no container without it: what runs could not be put back, so only force goes on."""
    for name in ("front", "back"):
        restore.engine.docker("network", "create", name)
    deployed(restore, "--network", "front")
    restore.engine.docker("network", "connect", "back", "web")
    restore.engine.docker("network", "disconnect", "front", "web")
    restore.engine.docker("network", "rm", "front")
    plan = restore.plan(target={"image": "rich:new", "image_id": images["new"]}, expect_image_id=images["old"])
    if newest(restore):
        refused = restore("swap", plan)
        assert (refused["state"], refused.get("kind")) == ("failed", "hazard"), refused["error"]
        assert "network front" in refused["error"]
    assert restore("swap", {**plan, "force": True})["state"] == "restored"
    assert set(restore.engine.inspect("web")["NetworkSettings"]["Networks"]) == {"back"}


def test_a_container_that_others_share_their_network_with_is_not_taken_from_them(
    restore: Restore, images: dict[str, str]
) -> None:
    deployed(restore)
    restore.engine.docker(
        "run", "-d", "--name", "sidecar", "--network", "container:web", "web:1.1.0", "/bin/sleep", "99"
    )
    before = restore.engine.inspect("web")
    plan = restore.plan(target={"image": "rich:new", "image_id": images["new"]}, expect_image_id=images["old"])
    for mode in ("prepare", "swap"):
        refused = restore(mode, plan)
        assert (refused["state"], refused["kind"], refused["changed"]) == ("failed", "hazard", False)
        assert "sidecar" in refused["error"]
    assert restore.engine.inspect("web") == before
    assert restore.engine.names() == {"web", "sidecar"}


def test_a_mounted_file_that_is_gone_is_told_before_anything_is_stopped(
    restore: Restore, images: dict[str, str], host_folder: Path
) -> None:
    """The engine would put a folder in its place, and neither the target nor what runs now could start."""
    deployed(restore, "-v", f"{host_folder}/settings.conf:/etc/settings.conf", "-v", f"{host_folder}/new:/folder")
    before = restore.engine.inspect("web")
    (host_folder / "settings.conf").unlink()
    (host_folder / "new").rmdir()
    plan = restore.plan(target={"image": "rich:new", "image_id": images["new"]}, expect_image_id=images["old"])
    refused = restore("swap", plan)
    assert (refused["state"], refused.get("kind")) == ("failed", "hazard"), refused["error"]
    assert f"{host_folder}/settings.conf" in refused["error"] and f"{host_folder}/new" not in refused["error"]
    after = restore.engine.inspect("web")
    assert (after["Id"], after["State"]) == (before["Id"], before["State"])
    (host_folder / "settings.conf").write_text("back\n")
    assert restore("swap", plan)["state"] == "restored"


def test_a_namespace_that_is_gone_is_told_before_anything_is_stopped(restore: Restore, images: dict[str, str]) -> None:
    restore.engine.docker("run", "-d", "--name", "db", "rich:old")
    deployed(restore, "--network", "container:db", "--entrypoint", "/bin/sleep", command=("99",))
    restore.engine.docker("rm", "-f", "db")
    plan = restore.plan(target={"image": "rich:new", "image_id": images["new"]}, expect_image_id=images["old"])
    refused = restore("swap", plan)
    assert (refused["state"], refused.get("kind")) == ("failed", "hazard"), refused["error"]
    assert "network namespace" in refused["error"]
    assert restore.engine.inspect("web")["State"]["Running"]


def test_a_container_taken_out_of_all_networks_stays_out(restore: Restore, images: dict[str, str]) -> None:
    deployed(restore)
    restore.engine.docker("network", "disconnect", "bridge", "web")
    before, after = swap(restore, images)
    compare(before, after)
    assert set(after["NetworkSettings"]["Networks"]) == set()


def test_a_container_without_network_stack_stays_without(restore: Restore, images: dict[str, str]) -> None:
    body = {"Image": "rich:old", "NetworkDisabled": True, "HostConfig": {"Init": True, "ReadonlyRootfs": True}}
    restore.engine.api("POST", "/v1.41/containers/create?name=web", body)
    restore.engine.docker("start", "web")
    before, after = swap(restore, images)
    compare(before, after)
    assert after["Config"]["NetworkDisabled"] is True


def test_a_variable_set_to_what_the_image_says_counts_as_set_by_the_user(
    restore: Restore, images: dict[str, str], tmp_path: Path
) -> None:
    """The engine puts the user's variables before the image's: that tells whose they are, although they are equal."""
    (tmp_path / "env").write_text("SHARED=old\nEMPTY=\n")
    deployed(restore, "--env-file", str(tmp_path / "env"), "-e", "PATH")
    before, after = swap(restore, images)
    assert "FROM_IMAGE=old" in before["Config"]["Env"]
    now = dict(entry.partition("=")[::2] for entry in after["Config"]["Env"])
    assert {key: now[key] for key in ("SHARED", "EMPTY", "FROM_IMAGE")} == {
        "SHARED": "old", "EMPTY": "", "FROM_IMAGE": "new",
    }  # fmt: skip


def test_a_container_made_from_an_id_or_an_image_without_a_tag(restore: Restore, images: dict[str, str]) -> None:
    dangling = restore.engine.image("rich:lost", "LABEL lost=yes")
    restore.engine.docker("run", "-d", "--name", "web", dangling)
    restore.engine.docker("rmi", "--force", "--no-prune", "rich:lost")
    target = {"image": images["new"], "image_id": images["new"]}
    result = restore("swap", restore.plan(target=target, expect_image_id=dangling))
    assert result["state"] == "restored", result["error"]
    after = restore.engine.inspect("web")
    assert after["Image"] == images["new"]
    tags = restore.engine.docker("image", "inspect", "--format", "{{.RepoTags}}", dangling)
    assert "backup_20261123_101112" in tags


def test_settings_that_only_newer_engines_know_are_kept(
    restore: Restore, images: dict[str, str], tmp_path: Path
) -> None:
    for number, name in enumerate(("front", "back")):
        restore.engine.docker("network", "create", "--subnet", f"10.211.{number}.0/24", name)
    restore.engine.docker("volume", "create", "vol")
    restore.engine.docker("run", "--rm", "-v", "vol:/v", "--entrypoint", "/bin/busybox", "rich:old", "mkdir", "/v/sub")
    # fmt: off
    deployed(
        restore, "--annotation", "org.example=yes", "--health-start-interval", "2s", "--health-start-period", "3s",
        "--mount", f"type=bind,src={tmp_path},dst=/b,readonly,bind-recursive=enabled",
        "--mount", f"type=bind,src={tmp_path},dst=/c,readonly,bind-propagation=rprivate,bind-recursive=writable",
        "--mount", "type=volume,src=vol,dst=/sub,volume-subpath=sub",
        "--mount", "type=image,src=rich:new,dst=/other",
        "--network", "name=front,ip=10.211.0.7,mac-address=02:42:00:00:00:07,gw-priority=5,alias=www",
        "--network", "name=back,mac-address=02:42:00:00:00:08,driver-opt=com.docker.network.endpoint.sysctls="
        "net.ipv4.conf.IFNAME.log_martians=1",
    )
    # fmt: on
    before, after = swap(restore, images)
    compare(before, after)
    macs = {name: seen["MacAddress"] for name, seen in after["NetworkSettings"]["Networks"].items()}
    assert macs == {"front": "02:42:00:00:00:07", "back": "02:42:00:00:00:08"}
    assert after["Config"]["Healthcheck"]["StartInterval"] == 2 * 10**9
    assert after["HostConfig"]["Annotations"] == {"org.example": "yes"}


def test_settings_no_command_line_has_are_kept(restore: Restore, images: dict[str, str]) -> None:
    host: Json = {"Tmpfs": {"/t": ""}, "ExtraHosts": ["a:10.0.0.1", "b:host-gateway"], "DnsSearch": ["."]}
    host["Mounts"] = [{"Type": "tmpfs", "Target": "/opts", "TmpfsOptions": {"SizeBytes": 4096}}]
    if newest(restore):
        host["Mounts"][0]["TmpfsOptions"]["Options"] = [["noexec"]]
        host["Mounts"].append(
            {
                "Type": "bind",
                "Source": f"{restore.engine.folder}/made",
                "Target": "/made",
                "BindOptions": {"CreateMountpoint": True},
            }
        )
    body = {"Image": "rich:old", "AttachStdout": True, "AttachStderr": True, "OpenStdin": True, "StdinOnce": True}
    restore.engine.api("POST", "/containers/create?name=web", {**body, "HostConfig": host})
    restore.engine.docker("start", "web")
    compare(*swap(restore, images))
