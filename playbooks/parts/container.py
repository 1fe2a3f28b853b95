"""What a container is: its configuration on another image, its repository, its health."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket

from .accept import REFERENCE

IMAGE_SUPPLIED = ("WorkingDir", "User", "StopSignal", "Shell")
USER_SET = (
    "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce",
    "NetworkDisabled", "StopTimeout",
)  # fmt: skip


def replacement(old, old_image, reference, api):
    """The create body for ``old``'s configuration on another image: (body, networks to connect, networks to leave).

    What the user set stays. What ``old`` has from its image (compared with that image's own configuration) is left
    out, so that the new image's defaults apply. What the engine chose (short-ID host name and alias, addresses, host
    ports) is left out too; anonymous volumes become named, so that the data stays.
    """
    config, image, host = old["Config"], old_image.get("Config") or {}, json.loads(json.dumps(old["HostConfig"]))
    body = {key: config[key] for key in USER_SET if config.get(key) is not None}
    body["Image"] = reference
    for key in IMAGE_SUPPLIED:
        if config.get(key) and config[key] != image.get(key):
            body[key] = config[key]
    body["Env"] = own_variables(config.get("Env") or [], image.get("Env") or [])
    image_labels = image.get("Labels") or {}
    body["Labels"] = {
        key: value for key, value in (config.get("Labels") or {}).items() if image_labels.get(key) != value
    }
    body.update(command(config, image))
    health = health_check(config.get("Healthcheck"), image.get("Healthcheck"))
    if health:
        body["Healthcheck"] = health
    bound = host.get("PortBindings") or {}
    image_ports, image_volumes = image.get("ExposedPorts") or {}, image.get("Volumes") or {}
    exposed = {port: {} for port in config.get("ExposedPorts") or {} if port in bound or port not in image_ports}
    body["Volumes"] = {where: {} for where in config.get("Volumes") or {} if where not in image_volumes}
    keep_volumes(old, host)
    host["Links"] = [link_argument(link) for link in host.get("Links") or ()] or None
    mode = host.get("NetworkMode") or "default"
    if not mode.startswith("container:"):
        body["ExposedPorts"] = exposed
        chosen_by_engine = {None, "", old["Id"][:12], os.uname().nodename if mode == "host" else None}
        if host.get("UTSMode") != "host" and config.get("Hostname") not in chosen_by_engine:
            body["Hostname"] = config["Hostname"]
    else:
        body.pop("Domainname", None)
    body["HostConfig"] = host
    first, others, leave = (None, {}, []) if config.get("NetworkDisabled") else networks(old, mode, api)
    if config.get("MacAddress"):
        if api < (1, 44) or mode in ("host", "none"):
            body["MacAddress"] = config["MacAddress"]
        else:
            first = first or {"bridge" if mode == "default" else mode: {}}
            next(iter(first.values()))["MacAddress"] = config["MacAddress"]
    if api >= (1, 44) and others and not leave:  # all at once: a MAC address is taken over at creation only
        first, others = dict(first or {"bridge": {}}, **others), {}
    if first:
        body["NetworkingConfig"] = {"EndpointsConfig": first}
    return body, others, leave


def own_variables(seen, image):
    """The variables of ``seen`` that the user set, in their order.

    The engine puts the user's first and then adds, in their order, those of the image that the user did not set. So
    the shortest beginning that leaves exactly these is the user's, values equal to the image's included.
    """
    for end in range(len(seen) + 1):
        mine = {entry.partition("=")[0] for entry in seen[:end]}
        if seen[end:] == [entry for entry in image if entry.partition("=")[0] not in mine]:
            return seen[:end]
    return [entry for entry in seen if entry not in image]


def command(config, image):
    """Entrypoint and Cmd to send. The engine takes the image's Cmd only when the user set no entrypoint."""
    entrypoint, cmd = config.get("Entrypoint"), config.get("Cmd")
    user_entrypoint = (entrypoint or None) != (image.get("Entrypoint") or None) or (image.get("Cmd") and not cmd)
    if user_entrypoint:
        return {"Entrypoint": entrypoint or [""], "Cmd": cmd or []}
    return {"Cmd": cmd} if (cmd or None) != (image.get("Cmd") or None) else {}


def health_check(mine, image):
    """Only the fields of a health check that differ from the image's: the engine fills in the rest field by field."""
    image = image or {}
    return {key: value for key, value in (mine or {}).items() if value and value != image.get(key)}


def keep_volumes(old, host):
    """Name the anonymous volumes of ``old`` in ``host`` (a HostConfig): the replacement mounts the same data."""
    tidy = os.path.normpath
    by_target = {
        tidy(mount["Destination"]): mount for mount in old.get("Mounts") or () if mount.get("Type") == "volume"
    }
    taken = set()
    for mount in host.get("Mounts") or ():
        taken.add(tidy(mount["Target"]))
        if mount.get("Type") == "volume" and not mount.get("Source") and tidy(mount["Target"]) in by_target:
            mount["Source"] = by_target[tidy(mount["Target"])]["Name"]
    for bind in host.get("Binds") or ():
        taken.update(tidy(part) for part in bind.split(":")[1:2])
    for where in sorted(tidy(where) for where in old["Config"].get("Volumes") or {}):
        mount = by_target.get(where)
        if mount and where not in taken:
            # nocopy: creating the replacement must not write into a volume that is in use.
            bind = "{}:{}:{}".format(mount["Name"], where, "nocopy" if mount.get("RW", True) else "ro,nocopy")
            host["Binds"] = (host.get("Binds") or []) + [bind]


def link_argument(link):
    """``/db:/web/alias`` (as inspected) → ``db:alias`` (as created)."""
    child, _, alias = link.partition(":")
    return "{}:{}".format(child.lstrip("/"), alias.rsplit("/", 1)[-1])


def networks(old, mode, api):
    """(the network to create with, {the others}, [networks to leave]) with what the user set on each endpoint.

    Engines do not say who chose the MAC address in a further network. From API 1.44 on, where one can be set there, it
    is kept, unless it is made from the IPv4 address as the engine itself does.
    """
    if mode in ("host", "none") or mode.startswith("container:"):
        return None, {}, []
    attached = (old.get("NetworkSettings") or {}).get("Networks") or {}
    wanted = {}
    first = None
    for name, seen in attached.items():
        aliases = [alias for alias in seen.get("Aliases") or () if alias != old["Id"][:12]]
        kept = {"IPAMConfig": seen.get("IPAMConfig"), "Links": seen.get("Links"), "Aliases": aliases}
        kept.update(DriverOpts=seen.get("DriverOpts"), GwPriority=seen.get("GwPriority"))
        wanted[name] = {key: value for key, value in kept.items() if value}
        if name == mode or (mode == "default" and name == "bridge") or (seen.get("NetworkID") or "-").startswith(mode):
            first = name
    if first is None:
        return None, wanted, ["bridge" if mode == "default" else mode]
    others = {name: kept for name, kept in wanted.items() if name != first}
    for name, kept in others.items():
        mac = attached[name].get("MacAddress")
        made = "02:42:" + ":".join("%02x" % int(part) for part in (attached[name].get("IPAddress") or "0").split("."))
        if api >= (1, 44) and mac and mac != made:
            kept["MacAddress"] = mac
    plain_bridge = mode in ("default", "bridge") and not wanted[first]
    return (None if plain_bridge else {first: wanted[first]}), others, []


def without_gone_network(body, others):
    """The same as ``replacement`` gives, for a container whose first network is gone: another one is the first."""
    first = next(iter(others), None)
    body = dict(body, HostConfig=dict(body["HostConfig"], NetworkMode=first or "none"))
    if first:
        body["NetworkingConfig"] = {"EndpointsConfig": {first: others[first]}}
    return body, {name: kept for name, kept in others.items() if name != first}, []


def is_id(reference):
    """An image ID, whole or shortened: it would also pass for a name with a tag."""
    return bool(re.match(r"(sha256:)?[0-9a-f]{12,64}\Z", reference))


def repository(container, image):
    """The repository a container's image belongs to (its own reference's, else a tag's or digest's of the image)."""
    for reference in (
        [container["Config"].get("Image") or ""] + (image.get("RepoTags") or []) + (image.get("RepoDigests") or [])
    ):
        found = REFERENCE.match(reference)
        if found and not is_id(reference) and "<none>" not in reference:
            return found.group(1)
    return "guard/" + (re.sub(r"[^a-z0-9]+", "-", container["Name"].lower()).strip("-") or "container")


def described(container, image):
    """{image, image_id}: the reference a container was created from, readable where possible, and the truth."""
    reference = container["Config"].get("Image") or ""
    if is_id(reference) and (image or {}).get("RepoTags"):
        reference = image["RepoTags"][0]
    return {"image": reference, "image_id": container["Image"]}


def alive(container):
    state = container["State"]
    return bool(state["Running"]) and not state.get("Restarting") and not state.get("Paused")


def never_started(container):
    return container["State"]["Status"] == "created" and container["State"]["StartedAt"].startswith("0001-")


def answers(container):
    """Does a program in the container accept connections on every published TCP port? False when none can be asked."""
    networks_ = (container["NetworkSettings"].get("Networks") or {}).values()
    address = next((seen["IPAddress"] for seen in networks_ if seen.get("IPAddress")), None)
    ports = [port for port, bound in (container["NetworkSettings"].get("Ports") or {}).items() if bound]
    if not address or not ports or not all(port.endswith("/tcp") for port in ports):
        return False
    for port in ports:
        try:
            socket.create_connection((address, int(port[:-4])), timeout=0.05).close()
        except OSError:
            return False
    return True


def health_command(config):
    """The argv of a container's health check, or None when it has none that can be run."""
    test = (config.get("Healthcheck") or {}).get("Test") or []
    if test[:1] == ["CMD"] and len(test) > 1:
        return test[1:]
    if test[:1] == ["CMD-SHELL"] and len(test) == 2:
        return (config.get("Shell") or ["/bin/sh", "-c"]) + [test[1]]
    return None


def fingerprint(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
