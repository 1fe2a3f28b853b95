"""One service of its own on two hosts: containers, configuration, state folder, and what really runs afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from guard_command import Guard

from guard.demo.host import Host
from guard.demo.image import Behaviour, web_image

OLD, NOW, EXITS, SICK = "1.0.0", "1.1.0", "1.2.0", "1.3.0"  # 1.1.0 runs, 1.0.0 is wanted back
IMAGES = {OLD: Behaviour.GOOD, NOW: Behaviour.GOOD, EXITS: Behaviour.EXIT, SICK: Behaviour.ERROR}


def load_images(host: Host) -> None:
    for version, behaviour in IMAGES.items():
        host.load(web_image(f"web:{version}", behaviour, healthcheck=version == SICK))


class Scene:
    """``name`` is service, container and image repository at once; the engine of ``hosts[0]`` is reached at ``engine``."""

    def __init__(
        self,
        name: str,
        hosts: Sequence[Host],
        inventory: Path,
        folder: Path,
        *,
        engine: str | None = None,
        repository: str | None = None,
        **rollback: Any,
    ) -> None:
        self.fleet_folder = inventory.parent
        self.name, self.hosts, self.repository = name, tuple(hosts), repository or name
        known = yaml.safe_load(inventory.read_text())["web"]
        mine = {host.name: dict(known["hosts"][host.name]) for host in hosts}
        if engine:
            mine[hosts[0].name]["guard_docker_host"] = f"unix://{engine}"
        self.inventory = {"web": {"hosts": mine, "vars": dict(known["vars"])}}
        folder.mkdir(parents=True, exist_ok=True)
        self.inventory_file = folder / "inventory.yml"
        self.write_inventory()
        self.guard = Guard(folder, self.inventory_file)
        self.settings: dict[str, Any] = {
            "defaults": {"interval": "200ms", "timeout": "2s", "failure_threshold": 3, "warning_threshold": 2},
            "services": [
                {
                    "name": name,
                    "hosts": "web",
                    "container": name,
                    "rollback": {"verify_for": "0s", "min_gap": "0s", "health_timeout": "10s", **rollback},
                    "checks": [{"type": "docker"}],
                }
            ],
        }
        self.guard.configure(self.settings)

    def write_inventory(self) -> None:
        self.inventory_file.write_text(yaml.safe_dump(self.inventory, sort_keys=False))

    def set(self, host: Host, **variables: object) -> None:
        """Change inventory variables of one host."""
        self.inventory["web"]["hosts"][host.name].update(variables)
        self.write_inventory()

    # -- what is there

    def tag(self, *versions: str) -> None:
        for host in self.hosts:
            for version in versions:
                host.docker("tag", f"web:{version}", f"{self.repository}:{version}")

    def run(self, version: str, *args: str, rm: bool = False) -> None:
        """Deploy on all hosts, as a deploy tool would."""
        for host in self.hosts:
            host.docker("rm", "--force", self.name, check=False)
            keep = ["--rm"] if rm else ["--restart=unless-stopped"]
            host.docker("run", "--detach", f"--name={self.name}", *keep, *args, f"{self.repository}:{version}")

    def clear(self) -> None:
        """What would slow the next ones down: containers."""
        self.guard.close()
        for host in self.hosts:
            host.thaw()
            mine = host.docker("ps", "--all", "--quiet", f"--filter=name=^/{self.name}(\\.guard-.*)?$").split()
            if mine:
                host.docker("rm", "--force", "--volumes", *mine)

    # -- what is seen, asked of the engines themselves

    def containers(self, host: Host) -> dict[str, tuple[bool, str]]:
        """This service's containers on a host: name → (running, image ID)."""
        form = "--format={{.Name}} {{.State.Running}} {{.Image}}"
        names = [self.name + more for more in ("", ".guard-next", ".guard-prev", ".guard-spare")]
        lines = host.docker("container", "inspect", form, *names, check=False).splitlines()
        told = [line.split() for line in lines if line.startswith("/")]
        return {name.removeprefix("/"): (alive == "true", image) for name, alive, image in told}

    def running(self, host: Host) -> list[str]:
        """Image IDs of what runs; one when all is well."""
        return [image for alive, image in self.containers(host).values() if alive]

    def image(self, host: Host, version: str) -> str:
        return host.docker("image", "inspect", "--format={{.Id}}", f"{self.repository}:{version}")

    # -- guard's record

    def rollbacks(self) -> list[dict[str, Any]]:
        ran = self.guard.json("history")
        assert ran.code == 0, ran
        return list(ran.json["rollbacks"])

    def runs(self) -> list[Path]:
        return sorted(self.guard.state.glob("runs/rb-*/run-*"))

    def journal(self, host: Host) -> list[dict[str, Any]]:
        """The module's journal on a host, as far as it is whole."""
        lines: list[dict[str, Any]] = []
        for file in (host.folder / "upper/var/lib/guard").glob(f"{self.name}@{self.name}*.journal"):
            for line in file.read_bytes().splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    break
        return lines

    def step(self, host: Host) -> str | None:
        """The last step that the module has written down."""
        return next((line["step"] for line in reversed(self.journal(host)) if "step" in line), None)
