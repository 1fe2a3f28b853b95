"""Two real hosts: sshd, engine, and a user there who may not open the engine's socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from guard.demo.fleet import Fleet
from guard.demo.host import Host as FleetHost
from guard.demo.image import web_image
from guard.model import Host

_USERS = """
set -e
useradd --create-home --shell /bin/bash ops
useradd --create-home --shell /bin/bash plain
usermod -p '*' ops; usermod -p '*' plain
mkdir -p /etc/sudoers.d
echo 'ops ALL=(root) NOPASSWD: ALL' > /etc/sudoers.d/ops
chmod 0440 /etc/sudoers.d/ops
chmod 0644 /etc/ssh/fleet_authorized_keys
chmod 0755 /run
"""


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    with Fleet(2) as fleet:
        fleet.load(web_image("web:1.0.0"))
        fleet.load(web_image("web:1.1.0", "exit"))
        fleet.load(web_image("shop.example/team/web:1.0.0", labels={"other": "image"}))
        for host in fleet.hosts:
            host.exec(["sh", "-c", _USERS])
            run_web(host)
        yield fleet


def run_web(host: FleetHost, image: str = "web:1.0.0", *options: str) -> None:
    """A container web on this host, and no other."""
    for container in host.docker("ps", "-aq").split():
        host.docker("rm", "-f", container)
    host.docker("run", "-d", "--name", "web", "--network", "none", *options, image)


@pytest.fixture
def host(fleet: Fleet) -> Iterator[FleetHost]:
    """A host on which the container web runs. Faults of the test end with it; its containers do not."""
    host = fleet.host("web1")
    yield host
    host.revive()


def inventory_host(fleet: Fleet, name: str = "web1", **changes: Any) -> Host:
    """The host as guard's inventory would give it."""
    group: Mapping[str, Any] = yaml.safe_load(fleet.inventory.read_text())["web"]
    return Host(name, {**group["vars"], **group["hosts"][name], **changes})
