"""``guard ready``: what can be rolled back to, told beforehand, with a real registry that answers, moves tags, and goes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from guard_command import Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour
from tests.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path) as running:
        yield running


def publish(fleet: Fleet, registry: Registry, image: str, tag: str | None = None) -> str:
    """Push an image that the hosts have, and let every host pull it; its name there."""
    reference = f"{registry.address}/web:{tag or image.partition(':')[2]}"
    first = fleet.hosts[0]
    first.docker("tag", image, reference)
    first.docker("push", "--quiet", reference)
    fleet.each(lambda host: host.docker("pull", "--quiet", reference))
    return reference


def image_ids(fleet: Fleet) -> set[str]:
    return {host.docker("inspect", "--format", "{{.Image}}", "web") for host in fleet.hosts}


def deployed_good_then_bad(guard: Guard, fleet: Fleet, registry: Registry) -> set[str]:
    """1.0.0 from the registry with a snapshot of it, then a bad 1.1.0, and everything unused pruned; 1.0.0's ID."""
    fleet.deploy(publish(fleet, registry, "web:1.0.0"))
    fleet.wait_healthy()
    good = image_ids(fleet)
    taken = guard("snapshot", "web")
    assert taken.code == 0, taken
    fleet.deploy(publish(fleet, registry, fleet.provide("1.1.0", Behaviour.ERROR)))
    fleet.each(lambda host: host.docker("image", "prune", "--all", "--force"))
    for host in fleet.hosts:  # a pin is only a tag: it keeps an image from being dangling, not from being unused
        assert "1.0.0" not in host.docker("images") and "guard_" not in host.docker("images")
    return good


def test_a_pruned_image_is_pulled_by_digest_though_its_tag_was_moved(
    guard: Guard, fleet: Fleet, registry: Registry
) -> None:
    good = deployed_good_then_bad(guard, fleet, registry)
    publish(fleet, registry, fleet.provide("6.6.6", Behaviour.ERROR), tag="1.0.0")
    ready = guard.json("ready", "web")
    assert ready.code == 0, ready
    assert {host["to"]["image_id"] for host in ready.json["hosts"].values()} == good
    assert {tuple(host["problems"]) for host in ready.json["hosts"].values()} == {()}
    ran = guard.json("rollback", "web")
    assert ran.code == 0, ran
    assert image_ids(fleet) == good


def test_a_registry_that_is_down_is_told_before_anything_is_touched(
    guard: Guard, fleet: Fleet, registry: Registry
) -> None:
    deployed_good_then_bad(guard, fleet, registry)
    containers = {host.name: host.docker("inspect", "web") for host in fleet.hosts}
    registry.stop()
    ready = guard.json("ready", "web")
    assert ready.code == 4, ready
    problem = ready.json["hosts"]["web1"]["problems"][0]
    assert "not on the host any more" in problem and "connection refused" in problem
    assert "NOT READY" in guard("ready", "web").stdout
    ran = guard.json("rollback", "web")
    assert (ran.code, ran.json["outcome"]) == (5, "refused"), ran
    assert "connection refused" in str(ran.json)
    assert {host.name: host.docker("inspect", "web") for host in fleet.hosts} == containers


def test_an_image_in_no_registry_is_lost_by_a_prune_and_guard_says_so_before_and_after(
    guard: Guard, fleet: Fleet
) -> None:
    guard("snapshot", "web")
    before = guard.json("ready", "web")
    assert before.code == 0, before
    assert "prune -a" in before.json["hosts"]["web1"]["notes"][0]
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    fleet.each(lambda host: host.docker("image", "prune", "--force"))  # without --all nothing is lost
    assert guard("ready", "web").code == 0
    fleet.host("web2").docker("image", "prune", "--all", "--force")
    after = guard.json("ready", "web")
    assert after.code == 4, after
    assert {name: host["ready"] for name, host in after.json["hosts"].items()} == {
        "web1": True, "web2": False, "web3": True,
    }  # fmt: skip
    assert "never in a registry" in after.json["hosts"]["web2"]["problems"][0]


def test_a_host_that_cannot_be_reached_or_asked_is_not_ready(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    fleet.host("web1").kill_engine()
    fleet.host("web2").stop_sshd()
    ran = guard.json("ready", "web")
    assert ran.code == 4, ran
    assert {name: host["ready"] for name, host in ran.json["hosts"].items()} == {
        "web1": False, "web2": False, "web3": True,
    }  # fmt: skip
    assert "down" in ran.json["hosts"]["web1"]["problems"][0]


def test_a_rejected_release_that_comes_back_is_called_out_and_never_a_target(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    bad = fleet.provide("1.1.0", Behaviour.ERROR)
    fleet.deploy(bad)
    first = guard.json("gate", "web", "--for", "2s")
    assert (first.code, first.json["services"][0]["rejected_before"]) == (3, []), first
    fleet.deploy(bad)
    again = guard.json("gate", "web", "--for", "2s", "--dry-run")
    assert again.json["services"][0]["rejected_before"] == ["web:1.1.0"], again
    told = guard("gate", "web", "--for", "2s", "--dry-run")
    assert "web:1.1.0 runs again, and was rejected before" in told.stdout, told
    watching = guard.start("watch", "--dry-run", "--output", "json")
    assert watching.stdout is not None
    line = next(line for line in islice(watching.stdout, 100) if "rejected before" in line)
    assert (json.loads(line)["event"], json.loads(line)["service"]) == ("release", "web")
    watching.send_signal(signal.SIGTERM)
    watching.communicate()
    taken = guard.json("snapshot", "web")
    assert taken.json["services"][0]["rejected_before"] == ["web:1.1.0"], taken
    assert "rejected before" in guard("snapshot", "web").stdout
    assert "rejected before" in guard.json("ready", "web").json["hosts"]["web1"]["notes"][-1]
    fleet.deploy(fleet.provide("1.2.0", Behaviour.ERROR))
    assert guard.json("rollback", "web").code == 0
    assert running(fleet) == everywhere("1.0.0")
    refused = guard.json("rollback", "web", "--to", "web:1.1.0")
    assert (refused.code, refused.json["outcome"]) == (5, "refused"), refused
