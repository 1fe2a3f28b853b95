"""What a swap would break for good: found out before anything is touched."""

from __future__ import annotations

import os

from .engine import path
from .problems import Problem


def refuse_hazards(engine, old):
    """Problem("hazard") when ``old`` could not be started again if it had to be put back, or others depend on it.

    (Whoever replaces the container by hand has the same trouble, but afterwards.)
    """
    found = list(cut_off(engine, old))
    if old["State"]["Running"]:
        found += list(no_way_back(engine, old))
    if found:
        why = "; ".join(found)
        raise Problem("hazard", f"nothing was touched: {why}. --force goes on all the same")


def no_way_back(engine, old):
    """Why the engine would refuse to start ``old`` once it was stopped, although it runs now."""
    host = old["HostConfig"]
    for setting in ("NetworkMode", "PidMode", "IpcMode"):
        kind, _, other = (host.get(setting) or "").partition(":")
        if kind == "container":
            seen = engine.get("containers", other, "json")
            if not seen or not seen["State"]["Running"]:
                yield f"it shares the {setting[:-4].lower()} namespace of container {other[:12]}, which does not run"
    for mount in old.get("Mounts") or ():
        # Engines make a missing folder anew when they start a container, in the place of a missing file, too. What was
        # mounted is still seen from inside; where that cannot be looked at, the source is not on this host either.
        source, inside = mount.get("Source") or "", "/proc/{}/root{}".format(old["State"]["Pid"], mount["Destination"])
        missing = mount.get("Type") == "bind" and not os.path.lexists(source)
        if missing and os.path.exists(inside) and not os.path.isdir(inside):
            yield f"{source}, which is mounted at {mount['Destination']}, is gone from this host: put it back first"
    mode, attached = host.get("NetworkMode") or "default", old["NetworkSettings"].get("Networks") or {}
    known = mode in ("default", "bridge", "host", "none") or mode.startswith("container:") or mode in attached
    if engine.version >= (1, 44) and not known and engine.get("networks", mode) is None:
        yield f"the network {mode}, which it was made with, is gone, and this engine starts no container without it"


def cut_off(engine, old):
    """Who lives in the network namespace of ``old``, and would be left without a network."""
    shared = "container:" + old["Id"]
    for other in engine.call("GET", path("containers", "json", all=True)):
        if (other.get("HostConfig") or {}).get("NetworkMode") in (shared, "container:" + old["Name"][1:]):
            name = other["Names"][0].lstrip("/")
            yield f"container {name} lives in its network ({shared[:22]}) and would be left without: recreate it, too"
