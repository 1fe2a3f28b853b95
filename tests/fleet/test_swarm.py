"""A Swarm service from its deploy to the rollback, by the real command on a real swarm of one manager and one worker."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from guard_command import CONFIG, Guard

from guard.demo.fleet import Fleet
from guard.demo.ground import wait_until
from guard.demo.host import Host
from guard.demo.image import Behaviour, image_id, web_image

QUICK = ("--update-monitor=500ms", "--rollback-monitor=500ms", "--restart-delay=200ms", "--stop-grace-period=1s")


def configuration() -> dict[str, Any]:
    changed = copy.deepcopy(CONFIG)
    changed["defaults"]["timeout"] = "5s"
    service = changed["services"][0]
    del service["container"], service["rollback"]["playbook"]
    service.update(swarm={"service": "shop_web"}, hosts="web2,web1")  # the worker comes first, and is passed over
    service["checks"] = [
        {"type": "http", "url": "http://{{ ansible_host }}:8080/healthz", "expect": {"json": {"status": "ok"}}},
        {"type": "docker"},
    ]
    return changed


def deploy(swarm: Fleet, version: str, behaviour: Behaviour, *options: str) -> None:
    """As a pipeline does it, on the manager; the image is on every node already."""
    reference = swarm.provide(version, behaviour)
    manager = swarm.host("web1")
    manager.docker("service", "update", "--detach", "--no-resolve-image", *options, "--image", reference, "shop_web")
    wait_until(lambda: update_state(swarm) not in ("", "updating", "rollback_started"), 30, "the update to end")


def update_state(swarm: Fleet) -> str:
    service = json.loads(swarm.host("web1").docker("service", "inspect", "shop_web"))[0]
    return str((service.get("UpdateStatus") or {}).get("State", ""))


def running(swarm: Fleet) -> dict[str, set[str]]:
    """IDs of the images that run on each node."""
    return {
        host.name: {host.docker("inspect", "--format", "{{.Image}}", one) for one in host.docker("ps", "-q").split()}
        for host in swarm.hosts[:2]
    }


@pytest.fixture
def swarm(fleet: Fleet) -> Iterator[Fleet]:
    """web1 manages a swarm, web2 works in it, and shop_web runs web:1.0.0 on both, healthy on port 8080."""
    manager, worker = fleet.hosts[:2]
    fleet.each(lambda host: host.docker("rm", "--force", host.container()))

    def own(host: Host) -> list[str]:
        # Every swarm makes this network, with a bridge of the same name, unless it is there already.
        bridge = json.loads(host.exec(["cat", "/etc/docker/daemon.json"]))["bridge"] + "w"
        named = f"com.docker.network.bridge.name={bridge}"
        host.docker("network", "create", "--driver=bridge", "--opt", named, "docker_gwbridge")
        at = f"{host.address}:2377"
        return ["--advertise-addr", host.address, "--listen-addr", at, "--data-path-addr", host.address]

    try:
        manager.docker("swarm", "init", *own(manager))
        token = manager.docker("swarm", "join-token", "--quiet", "worker")
        worker.docker("swarm", "join", "--token", token, *own(worker), f"{manager.address}:2377")
        manager.docker(
            *("service", "create", "--detach", "--no-resolve-image", "--name=shop_web", "--mode=global"),
            *("--publish=mode=host,published=8080,target=8080", *QUICK, "web:1.0.0"),
        )
        fleet.wait_healthy(hosts=[manager, worker], timeout=60)
        yield fleet
    finally:
        for host in (worker, manager):
            host.docker("swarm", "leave", "--force", check=False)
            host.docker("network", "rm", "docker_gwbridge", check=False)


def test_a_bad_update_of_a_swarm_service_is_rolled_back_on_all_its_nodes(guard: Guard, swarm: Fleet) -> None:
    guard.configure(configuration())
    good = image_id(web_image("web:1.0.0"))
    checked = guard.json("check")
    assert checked.code == 0, checked
    assert {(t["check"], t["host"]) for t in checked.json["services"][0]["targets"]} == {
        ("http", "web1"),
        ("http", "web2"),
        ("docker", None),
    }
    assert guard("snapshot", "web").code == 0
    ready = guard.json("ready", "web")
    assert ready.json == {
        "ready": True,
        "hosts": {
            "web1": {
                "ready": True,
                "to": {"image": "web:1.0.0", "image_id": good, "digest": None},
                "problems": [],
                "notes": [],
            }
        },
    }
    deploy(swarm, "1.1.0", Behaviour.ERROR)
    ran = guard.json("gate", "web", "--for", "8s")
    assert ran.code == 3, ran
    rollback = ran.json["rollbacks"][0]
    assert (rollback["outcome"], rollback["verified"], rollback["playbook"]["name"]) == ("restored", True, "swarm")
    assert set(rollback["hosts"]) == {"web1"}
    assert rollback["hosts"]["web1"]["from"]["image"] == "web:1.1.0"
    assert rollback["hosts"]["web1"]["to"]["image_id"] == good
    assert running(swarm) == {"web1": {good}, "web2": {good}}
    assert update_state(swarm) == "rollback_completed"
    newest = guard.json("releases", "web").json["releases"]
    assert [release["state"] for release in newest[:2]] == ["good", "rejected"]


def test_a_deploy_that_the_swarm_takes_back_by_itself_is_not_green(guard: Guard, swarm: Fleet) -> None:
    guard.configure(configuration())
    assert guard("snapshot", "web").code == 0
    deploy(swarm, "1.1.0", Behaviour.EXIT, "--update-failure-action=rollback")
    swarm.wait_healthy(hosts=swarm.hosts[:2])
    ran = guard.json("gate", "web", "--for", "1s")
    assert (ran.code, ran.json["outcome"]) == (5, "not_rolled_back"), ran
    assert "the swarm has taken the deploy back by itself" in ran.json["reason"]


def test_a_worker_alone_cannot_be_asked_and_is_named(guard: Guard, swarm: Fleet) -> None:
    config = configuration()
    config["services"][0]["hosts"] = "web2"
    guard.configure(config)
    ready = guard.json("ready", "web")
    assert ready.code == 4, ready
    assert "web2 is a worker of its swarm" in ready.json["hosts"]["web2"]["problems"][0]
    targets = guard.json("check", "web").json["services"][0]["targets"]
    docker = next(target for target in targets if target["check"] == "docker")
    assert docker["state"] == "unknown"
    assert "web2 is a worker of its swarm" in docker["last"]["reason"]
