"""The fleet tests drive the real ``guard`` command against real hosts; nothing in this folder is faked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_command import Guard

from guard.demo.fleet import Fleet
from guard.demo.image import web_image

GOOD = "web:1.0.0"


@pytest.fixture(scope="session")
def hosts() -> Iterator[Fleet]:
    """The one fleet of the session, in whatever state the last test left it: ask for ``fleet`` instead."""
    with Fleet(3) as fleet:
        yield fleet


@pytest.fixture
def fleet(hosts: Fleet) -> Fleet:
    """Three hosts, each with web:1.0.0 up and healthy on port 8080, no other image, and no trace of other tests."""
    hosts.each(lambda host: host.clear({GOOD: web_image(GOOD)}))
    hosts.deploy(GOOD)
    hosts.wait_healthy()
    return hosts


@pytest.fixture
def guard(tmp_path: Path, fleet: Fleet) -> Iterator[Guard]:
    runner = Guard(tmp_path, fleet.inventory)
    yield runner
    runner.close()
