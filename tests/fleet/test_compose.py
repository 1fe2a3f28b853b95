"""A Compose project on three hosts: deployed by Compose, judged and rolled back by guard, and Compose agrees."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from guard_command import CONFIG, Guard

from guard.demo.fleet import Fleet
from guard.demo.host import Host
from guard.demo.image import Behaviour
from tests.compose_plugin import PLUGIN

FOLDER = "/srv/shop"
OVERRIDE = f"{FOLDER}/compose.override.yml"
FILE = """\
name: shop
services:
  web:
    image: {image}
    ports: ["{address}:8080:8080"] # an engine's own address is for its first bridge only
    volumes: [data:/data]
    networks: {{default: {{}}, front: {{aliases: [www]}}}}
    restart: unless-stopped
networks: {{front: {{}}}}
volumes: {{data: {{}}}}
"""


def compose(host: Host, *arguments: str) -> str:
    """``docker compose`` in the project's folder, on the host itself."""
    line = " ".join(["cd", FOLDER, "&&", "docker", "compose", *arguments])
    return host.exec(["sh", "-c", line])


def deploy(fleet: Fleet, image: str) -> None:
    """What a deploy does: the new file, and up."""

    def one(host: Host) -> None:
        text = FILE.format(image=image, address=host.address)
        host.exec(["sh", "-c", f"mkdir -p {FOLDER} && cat > {FOLDER}/compose.yml"], given=text)
        compose(host, "up", "-d", "-t", "2")

    fleet.each(one)


def seen(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """Host → image reference and container ID of the service's one container, as Compose itself sees them."""
    found = {}
    for host in fleet.hosts:
        (told,) = [json.loads(line) for line in compose(host, "ps", "--format", "json", "web").splitlines()]
        found[host.name] = (host.docker("inspect", "-f", "{{.Image}}", told["Name"]), told["ID"])
    return found


def images(fleet: Fleet) -> set[str]:
    return {image for image, _ in seen(fleet).values()}


def image_id(fleet: Fleet, reference: str) -> str:
    return fleet.hosts[0].docker("image", "inspect", "-f", "{{.Id}}", reference)


@pytest.fixture
def shop(fleet: Fleet) -> Iterator[Fleet]:
    """shop/web 1.0.0 runs on each host, made by the host's own ``docker compose up``."""

    def prepare(host: Host) -> None:
        host.docker("rm", "-f", "web")
        plugins = "/usr/local/lib/docker/cli-plugins"
        host.exec(["sh", "-c", f"mkdir -p {plugins} && ln -sf {PLUGIN} {plugins}/docker-compose"])

    fleet.each(prepare)
    deploy(fleet, "web:1.0.0")
    fleet.wait_healthy()
    yield fleet
    fleet.each(lambda host: host.exec(["sh", "-c", f"cd {FOLDER} && docker compose down -v -t 0; rm -rf {FOLDER}"]))


def config(**rollback: Any) -> dict[str, Any]:
    changed = copy.deepcopy(CONFIG)
    changed["defaults"]["timeout"] = "5s"
    service = changed["services"][0]
    del service["container"], service["rollback"]["playbook"]
    service["compose"] = {"project": "{{ project }}", "service": "web"}
    service["rollback"].update(rollback)
    return changed


@pytest.fixture
def guard_of_shop(guard: Guard) -> Guard:
    inventory = guard.folder / "inventory"
    inventory.mkdir()
    (inventory / "hosts.yml").write_text(guard.inventory.read_text())
    (inventory / "project.yml").write_text("all: {vars: {project: shop}}\n")
    guard.inventory = inventory
    guard.configure(config())
    return guard


def test_a_bad_deploy_of_a_compose_project_is_rolled_back_and_stays_so_until_the_next_good_one(
    guard_of_shop: Guard, shop: Fleet
) -> None:
    guard = guard_of_shop
    good = image_id(shop, "web:1.0.0")
    assert "compose@1" in guard("validate").stdout
    check = guard("check", "web")
    assert check.code == 0, check
    snapshot = guard("snapshot", "web")
    assert snapshot.code == 0, snapshot
    shop.each(lambda host: host.docker("exec", "shop-web-1", "touch", "/data/mine"))

    deploy(shop, shop.provide("1.1.0", Behaviour.ERROR))
    assert images(shop) == {image_id(shop, "web:1.1.0")}
    gate = guard("gate", "web", "--for", "8s")
    assert gate.code == 3, gate
    assert f"{OVERRIDE} pins web to" in gate.stdout
    restored = seen(shop)
    assert {image for image, _ in restored.values()} == {good}
    rollback = guard.json("history", guard.json("history").json["rollbacks"][0]["id"]).json
    assert {host["state"] for host in rollback["hosts"].values()} == {"restored"}
    assert all(OVERRIDE in host["notice"] for host in rollback["hosts"].values())
    for host in shop.hosts:
        host.docker("exec", "shop-web-1", "test", "-e", "/data/mine")
        aliases = json.loads(
            host.docker("inspect", "-f", "{{json .NetworkSettings.Networks.shop_front.Aliases}}", "shop-web-1")
        )
        assert {"web", "www"} <= set(aliases)
        assert rollback["id"] in host.exec(["cat", OVERRIDE])

    # The project's own file still names the bad release, and an up of it changes nothing.
    shop.each(lambda host: compose(host, "up", "-d"))
    assert seen(shop) == restored

    # A gate over a deploy that the pin kept away says so; ready too.
    gate = guard("gate", "web", "--for", "1s")
    assert gate.code == 0
    assert "no deploy has changed web on web1, web2, web3" in gate.stdout
    assert "guard snapshot" in guard("ready", "web").stdout

    # The next good deploy: snapshot, deploy, gate, as ever.
    snapshot = guard("snapshot", "web")
    assert snapshot.code == 0, snapshot
    assert f"{OVERRIDE} no longer pins web" in snapshot.stdout
    assert seen(shop) == restored
    deploy(shop, shop.provide("1.2.0", Behaviour.GOOD))
    shop.wait_healthy()
    gate = guard("gate", "web", "--for", "1s")
    assert gate.code == 0, gate
    assert "no deploy has changed" not in gate.stdout
    assert images(shop) == {image_id(shop, "web:1.2.0")}
    assert [r["state"] for r in guard.json("releases", "web").json["releases"][:2]] == ["good", "good"]


def test_a_rollback_by_hand_tells_of_the_pin(guard_of_shop: Guard, shop: Fleet) -> None:
    guard = guard_of_shop
    good = image_id(shop, "web:1.0.0")
    guard("snapshot", "web")
    deploy(shop, shop.provide("1.1.0", Behaviour.GOOD))
    ran = guard("rollback", "web", "--limit", "web1:web2")
    assert ran.code == 0, ran
    assert f"NOTE       web1: {OVERRIDE} pins web to web:guard_{good[7:19]}" in ran.stdout
    assert {host: image == good for host, (image, _) in seen(shop).items()} == {
        "web1": True,
        "web2": True,
        "web3": False,
    }


def test_a_service_scaled_to_several_containers_is_refused_in_the_plan(guard_of_shop: Guard, shop: Fleet) -> None:
    guard = guard_of_shop
    guard("snapshot", "web")
    host = shop.hosts[0]
    host.exec(["sh", "-c", f"sed -i /ports:/d {FOLDER}/compose.yml"])
    compose(host, "up", "-d", "-t", "0", "--scale", "web=3")
    ran = guard.json("rollback", "web", "--dry-run")
    told = ran.json["hosts"]["web1"]
    assert "shop/web has 3 containers on web1" in told["error"]
    assert ran.json["hosts"]["web2"]["state"] in ("planned", "unchanged", "skipped")
    ready = guard("ready", "web")
    assert ready.code == 4
    assert "one container per host" in ready.stdout
