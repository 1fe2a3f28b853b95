"""The fleet tests drive the real ``guard`` command against real hosts; nothing in this folder is faked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_command import Guard

from guard.demo.fleet import Fleet
from guard.demo.host import Host
from guard.demo.image import image_id, web_image

GOOD = "web:1.0.0"


@pytest.fixture(scope="session")
def hosts() -> Iterator[Fleet]:
    """The one fleet of the session, in whatever state the last test left it: ask for ``fleet`` instead."""
    with Fleet(3) as fleet:
        yield fleet


@pytest.fixture
def fleet(hosts: Fleet) -> Fleet:
    """Three hosts, each with web:1.0.0 up and healthy on port 8080, no other image, and no trace of other tests."""
    hosts.each(_reset)
    hosts.deploy(GOOD)
    hosts.wait_healthy()
    return hosts


@pytest.fixture
def guard(tmp_path: Path, fleet: Fleet) -> Iterator[Guard]:
    runner = Guard(tmp_path, fleet.inventory)
    yield runner
    runner.close()


def _reset(host: Host) -> None:
    host.revive()
    if containers := host.docker("ps", "--all", "--quiet").split():
        host.docker("rm", "--force", "--volumes", *containers)
    good = image_id(web_image(GOOD))
    listing = host.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
    strangers = [line.split() for line in listing if line != f"{GOOD} {good}"]
    if strangers:
        references = [reference if "<none>" not in reference else ident for reference, ident in strangers]
        host.docker("rmi", "--force", *references)
    if f"{GOOD} {good}" not in listing:
        host.load(web_image(GOOD))
    host.docker("network", "prune", "--force")
    # The restore module keeps the last fence number on the host; a test's new store counts from 1 again.
    host.exec(["sh", "-c", "rm -rf /var/lib/guard /run/guard /root/.ansible"])
