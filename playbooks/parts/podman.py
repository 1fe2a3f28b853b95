"""Podman behind its Docker-compatible socket: what its answers lack is taken from elsewhere, or refused."""

from __future__ import annotations

import json
import signal

from .container import replacement
from .engine import path
from .problems import Problem

# Options of `podman run` that its answers (or the container's own OCI file) give back: those with a value, those without.
GIVEN_BACK = (
    "--add-host", "--cap-add", "--cap-drop", "--cidfile", "--cpu-period", "--cpu-quota", "--cpu-shares",
    "--cpus", "--cpuset-cpus", "--cpuset-mems", "--detach-keys", "--device", "--dns", "--dns-opt",
    "--dns-option", "--dns-search", "--entrypoint", "--env", "--env-file", "--expose", "--group-add",
    "--health-cmd", "--health-interval", "--health-retries", "--health-start-period", "--health-timeout",
    "--hostname", "--ipc", "--label", "--label-file", "--log-driver", "--log-opt", "--memory",
    "--memory-reservation", "--memory-swap", "--name", "--net", "--network", "--network-alias",
    "--oom-score-adj", "--pid", "--pids-limit", "--platform", "--publish", "--pull", "--restart", "--shm-size",
    "--stop-signal", "--stop-timeout", "--sysctl", "--tmpfs", "--ulimit", "--user", "--uts", "--volume",
    "--volumes-from", "--workdir", "-c", "-e", "-h", "-l", "-m", "-p", "-u", "-v", "-w",
)  # fmt: skip
GIVEN_BACK_FLAGS = (
    "--detach", "--init", "--interactive", "--no-healthcheck", "--privileged", "--publish-all", "--quiet",
    "--read-only", "--replace", "--rm", "--tls-verify", "--tty", "-P", "-d", "-i", "-q", "-t",
)  # fmt: skip


def recreated(engine, old, old_image, reference):
    """``replacement`` for the engine at hand. Problem("podman") for what Podman does not give back."""
    if not engine.podman:
        return replacement(old, old_image, reference, engine.version)
    seen = json.loads(engine.exchange("GET", "/v4.0.0/libpod" + path("containers", old["Id"], "json"))[2])
    given = options(seen["Config"].get("CreateCommand") or [])
    refuse(old, seen, given)
    shaped, networks = docker_shape(old, seen, old_image, given)
    body, _, _ = replacement(shaped, old_image, reference, engine.version)
    if networks:
        body["NetworkingConfig"] = {"EndpointsConfig": networks}
    return body, {}, []


def options(command):
    """{option: [values]} of a `podman run` or `podman create` command line, up to the image."""
    found, begun = {}, False
    words = iter(command)
    for word in words:
        if not begun:
            begun = word in ("run", "create")
        elif not word.startswith("-"):
            break
        else:
            if word[1] != "-" and len(word) > 2:  # -it, -p80:80
                flags = [letter for letter in word[1:] if "-" + letter in GIVEN_BACK_FLAGS]
                if len(flags) == len(word) - 1:
                    found.update({"-" + letter: [] for letter in flags})
                    continue
                word = word[:2] + "=" + word[2:]
            name, joined, value = word.partition("=")
            takes = name not in GIVEN_BACK_FLAGS and not joined
            found.setdefault(name, []).append(next(words, "") if takes else value)
    return found


def refuse(old, seen, given):
    unit = (old["Config"].get("Labels") or {}).get("PODMAN_SYSTEMD_UNIT")
    lost = sorted(set(given) - set(GIVEN_BACK + GIVEN_BACK_FLAGS) - {"--security-opt", "--mount"})
    lost += [f"--security-opt {value}" for value in given.get("--security-opt", ()) if value != "no-new-privileges"]
    lost += [f"--network {value}" for key in ("--network", "--net") for value in given.get(key, ()) if ":" in value[1:]]
    lost += [f"--mount {value}" for value in given.get("--mount", ()) if not plain_mount(value)]
    lost += [f"--health-interval {value}" for value in given.get("--health-interval", ()) if value == "disable"]
    why = None
    if unit:
        why = f"it belongs to the systemd unit {unit}: systemd would not know the replacement; change the image there"
    elif seen.get("Pod"):
        why = f"it is part of pod {seen['Pod'][:12]}; containers of pods are not replaced"
    elif lost:
        why = f"it was made with {', '.join(lost)}, and Podman does not say so in a way that it could be made again"
    if why:
        raise Problem(
            "podman", f"nothing was touched: container {old['Name'][1:]} cannot be replaced through Podman: {why}"
        )


def plain_mount(value):
    """A bind, volume or tmpfs mount without options that Podman would not tell again."""
    keys = dict(part.partition("=")[::2] for part in value.split(","))
    known = {"type", "src", "source", "dst", "destination", "target", "ro", "readonly", "rw", "tmpfs-size"}
    return keys.get("type", "volume") in ("bind", "volume", "tmpfs") and not set(keys) - known


def docker_shape(old, seen, image, given):
    """(``old`` as Docker would describe it, its endpoints). ``seen`` is Podman's own description of it."""
    shaped = json.loads(json.dumps(old))
    config, host, of_image = shaped["Config"], shaped["HostConfig"], image.get("Config") or {}
    from_image = of_image.get("Env") or []  # in no order that would tell whose they are
    config["Env"] = [e for e in config["Env"] if e not in from_image and not made_by_podman(e, config, of_image)]
    config["StopSignal"] = own_signal(config.get("StopSignal"), of_image.get("StopSignal"))
    if config.get("WorkingDir") == "/":
        config["WorkingDir"] = None
    log = seen["HostConfig"].get("LogConfig") or {}
    limits = {"max-size": log.get("Size"), "tag": log.get("Tag")}
    host["LogConfig"] = {
        "Type": log.get("Type") or "",
        "Config": {key: value for key, value in limits.items() if value and value != "0B"},
    }
    host["Sysctls"] = sysctls(seen["OCIConfigPath"])
    for limit in host.get("Ulimits") or ():
        limit["Name"] = limit["Name"].replace("RLIMIT_", "").lower()
    for device in host.get("Devices") or ():
        device["CgroupPermissions"] = device["CgroupPermissions"] or "rwm"
    if host.get("NanoCpus"):
        host["CpuPeriod"] = host["CpuQuota"] = 0
    if host.get("MemorySwappiness") == -1:
        host["MemorySwappiness"] = None
    host["Runtime"] = None
    if "--init" in given or (seen["Config"].get("Annotations") or {}).get("io.podman.annotations.init") == "TRUE":
        host["Init"] = True
    networks = {}
    attached = shaped["NetworkSettings"].get("Networks") or {}
    for name, endpoint in attached.items():
        networks[name] = {"Aliases": [alias for alias in endpoint.get("Aliases") or () if alias != old["Id"][:12]]}
    if host["NetworkMode"] != "bridge":
        networks = {}
    shaped["NetworkSettings"]["Networks"] = {"bridge": {}}
    return shaped, networks


def made_by_podman(entry, config, image):
    """Variables that Podman adds to what the user and the image say."""
    name = entry.partition("=")[0]
    own = {"TERM=xterm", "container=podman", "HOME=/", "HOME=/root", "HOSTNAME=" + (config.get("Hostname") or "")}
    return entry in own or (name == "PATH" and not any(mine.startswith("PATH=") for mine in image.get("Env") or ()))


def own_signal(number, image):
    """The name of a stop signal (Podman gives its number), None when it is the image's or the default."""
    if not str(number or "").isdigit():
        return number
    name = signal.Signals(int(number)).name
    usual = str(image or "SIGTERM")
    return None if usual in (name, name[3:], str(number)) else name


def sysctls(oci_file):
    """Kernel settings: Podman's answers lack them, the container's own file on this host has them."""
    try:
        with open(oci_file) as found:
            return json.load(found)["linux"].get("sysctl") or {}
    except OSError as error:
        raise Problem("podman", f"nothing was touched: the container's own file cannot be read: {error}")
