"""What really runs on the hosts, asked of each engine itself."""

from __future__ import annotations

from guard.demo.fleet import Fleet


def running(fleet: Fleet) -> dict[str, str]:
    """Host → version of the image that its container ``web`` runs now, by image ID; "" when nothing runs."""
    found = {}
    for host in fleet.hosts:
        told = host.docker("inspect", "--format", "{{.State.Running}} {{.Image}}", "web", check=False).split()
        versions = (
            host.docker("image", "inspect", "--format", "{{index .Config.Env 0}} {{.Config.Env}}", told[-1])
            if told
            else ""
        )
        version = next(
            (
                part.split("=")[1].rstrip("]")
                for part in versions.replace("[", " ").split()
                if part.startswith("VERSION=")
            ),
            "",
        )
        found[host.name] = version if told and told[0] == "true" else ""
    return found


def everywhere(version: str) -> dict[str, str]:
    return {f"web{n}": version for n in (1, 2, 3)}
