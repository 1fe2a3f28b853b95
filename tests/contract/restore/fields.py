"""What becomes of every field of a container: kept, from the image, or of a kind that changes by nature.

A field that no rule below names fails ``compare``: with a new engine version somebody has to decide about it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from .conftest import Json, Restore

KEPT = [
    "Name",
    "Platform",
    "Driver",
    "AppArmorProfile",
    "MountLabel",
    "ProcessLabel",
    "RestartCount",
    "Config.AttachStdin",
    "Config.AttachStdout",
    "Config.AttachStderr",
    "Config.Domainname",
    "Config.OpenStdin",
    "Config.StdinOnce",
    "Config.Tty",
    "Config.StopTimeout",
    "Config.NetworkDisabled",
    "Config.MacAddress",
    "Config.OnBuild",
    "Config.Labels",
    "Config.Env",
    "HostConfig.*",
    "NetworkSettings.Networks.*.IPAMConfig",
    "NetworkSettings.Networks.*.Links",
    "NetworkSettings.Networks.*.DriverOpts",
    "NetworkSettings.Networks.*.GwPriority",
    "NetworkSettings.Networks.*.NetworkID",
    "State.Status",
    "State.Running",
    "State.Paused",
    "State.Restarting",
    "State.OOMKilled",
    "State.Dead",
    "State.ExitCode",
    "State.Error",
]
FROM_IMAGE = [
    "Image",
    "ImageManifestDescriptor",
    "Config.WorkingDir",
    "Config.User",
    "Config.StopSignal",
    "Config.Shell",
    "Config.Entrypoint",
    "Config.Cmd",
    "Config.Healthcheck",
    "Config.Image",
    "Config.Volumes",
    "Config.ExposedPorts",
    "Path",
    "Args",
]
CHANGES = [
    "Id",
    "Created",
    "ExecIDs",
    "GraphDriver",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "State.Pid",
    "State.StartedAt",
    "State.FinishedAt",
    "State.Health",
    "NetworkSettings.SandboxID",
    "NetworkSettings.SandboxKey",
    "NetworkSettings.Bridge",
    "NetworkSettings.HairpinMode",
    "NetworkSettings.LinkLocal*",
    "NetworkSettings.Secondary*",
    "NetworkSettings.Ports",
    "NetworkSettings.EndpointID",
    "NetworkSettings.Gateway",
    "NetworkSettings.GlobalIPv6*",
    "NetworkSettings.IPAddress",
    "NetworkSettings.IPPrefixLen",
    "NetworkSettings.IPv6Gateway",
    "NetworkSettings.MacAddress",
    "NetworkSettings.Networks.*.EndpointID",
    "NetworkSettings.Networks.*.IPAddress",
    "NetworkSettings.Networks.*.MacAddress",
    "NetworkSettings.Networks.*.Gateway",
    "NetworkSettings.Networks.*.IPPrefixLen",
    "NetworkSettings.Networks.*.IPv6Gateway",
    "NetworkSettings.Networks.*.GlobalIPv6*",
    "NetworkSettings.Networks.*.DNSNames",
]
# Compared below by hand, because "kept" has a special meaning there.
SPECIAL = ["Config.Hostname", "NetworkSettings.Networks.*.Aliases", "Mounts", "HostConfig.Binds", "HostConfig.Mounts"]


def leaves(seen: Json, prefix: str = "", depth: int = 1) -> Iterator[tuple[str, object]]:
    """Fields down to the level that has a meaning of its own: Config.X, HostConfig.X, NetworkSettings.Networks.N.X."""
    for key, value in seen.items():
        path = prefix + key
        if path in ("Config", "HostConfig", "State", "NetworkSettings", "NetworkSettings.Networks") or (
            prefix == "NetworkSettings.Networks."
        ):
            yield from leaves(value, path + ".", depth + 1)
        else:
            yield path, value


def kind(path: str) -> str:
    for name, patterns in (("special", SPECIAL), ("changes", CHANGES), ("image", FROM_IMAGE), ("kept", KEPT)):
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
            return name
    return "unclassified"


# Nothing (the engine's default) and an empty list (hide nothing) are two settings here.
STRICT = ("HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths")


def compare(before: Json, after: Json) -> None:
    """Every field is classified, and every kept one is equal (else nothing, {} and [] are the same to the engine)."""
    old, new = dict(leaves(before)), dict(leaves(after))
    assert old.keys() == new.keys()
    assert {path for path in old if kind(path) == "unclassified"} == set()
    differ = {
        path: (old[path], new[path])
        for path in old
        if kind(path) == "kept"
        and (old[path] != new[path] if path in STRICT else (old[path] or None) != (new[path] or None))
    }
    assert {path: pair for path, pair in differ.items() if path not in ("Config.Env", "Config.Labels")} == {}
    assert aliases(after) == aliases(before)
    assert mounts(after).items() >= mounts(before).items()
    assert set(after["HostConfig"]["Binds"] or ()) >= set(before["HostConfig"]["Binds"] or ())
    assert requested(after) == requested(before)


def aliases(container: Json) -> dict[str, list[str]]:
    """By network, without the short ID that older engines add."""
    attached = container["NetworkSettings"]["Networks"].items()
    return {name: [a for a in seen["Aliases"] or [] if a != container["Id"][:12]] for name, seen in attached}


def mounts(container: Json) -> dict[str, tuple[object, ...]]:
    """What is mounted where. (``Mode`` is how it was asked for: an anonymous volume becomes a named one. A mounted image is unpacked anew.)"""
    kept = ("Type", "Name", "Source", "Driver", "RW", "Propagation")
    return {
        mount["Destination"]: tuple(mount.get(key) for key in kept if (mount["Type"], key) != ("image", "Source"))
        for mount in container["Mounts"]
    }


def requested(container: Json) -> list[Json]:
    """HostConfig.Mounts, without the names that anonymous volumes got."""
    asked = container["HostConfig"].get("Mounts") or []
    return [
        {key: value for key, value in mount.items() if (mount["Type"], key) != ("volume", "Source")} for mount in asked
    ]


def swap(restore: Restore, images: dict[str, str]) -> tuple[Json, Json]:
    """The container before and after."""
    before = restore.engine.inspect("web")
    target = {"image": "rich:new", "image_id": images["new"]}
    result = restore("swap", restore.plan(target=target, expect_image_id=images["old"], stop_timeout_s=0))
    assert result["state"] == "restored", result
    return before, restore.engine.inspect("web")
