"""What every Engine promises, held against the fake one, a real one over its socket, and a real one over SSH."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from guard.demo.fleet import Fleet
from guard.demo.host import Host as FleetHost
from guard.engines.hosts import HostEngines
from guard.errors import EngineError
from guard.model import ComposeUnit, ContainerFacts, ContainerUnit, Image, LocalImage
from guard.ports import Engine
from tests.contract.engines.conftest import inventory_host
from tests.fakes import FakeEngine, container_facts

T = TypeVar("T")
LABEL = "com.docker.compose"
Ask = Callable[[Callable[[Engine], Awaitable[T]]], T]


def fake(host: FleetHost) -> FakeEngine:
    """Says what the real host would say."""
    engine = FakeEngine()
    identity, _, started = host.docker("inspect", "-f", "{{.Id}} {{.Name}} {{.State.StartedAt}}", "web").split()
    image_ids = {tag: host.docker("inspect", "-f", "{{.Id}}", tag) for tag in ("web:1.0.0", "web:1.1.0")}
    engine.containers["web"] = container_facts(
        container_id=identity, image=Image("web:1.0.0", image_ids["web:1.0.0"]), started_at=started
    )
    engine.output["web"] = host.docker("logs", "web").splitlines()
    for number, tag in enumerate(image_ids):
        engine.stock.append(LocalImage(image_ids[tag], (tag,), (), datetime(2026, 1, 1 + number, tzinfo=UTC), 1000))
    for name in host.docker("ps", "-a", "--filter", f"label={LABEL}.service", "--format", "{{.Names}}").split():
        project, service, _ = name.split("-")
        engine.containers[name] = container_facts(name=name)
        unit = ComposeUnit(project, service)
        engine.units[unit] = (*engine.units.get(unit, ()), name)
    return engine


@pytest.fixture(params=["fake", "socket", "ssh", "sudo over ssh"])
def ask(request: pytest.FixtureRequest, fleet: Fleet, host: FleetHost) -> Ask[object]:
    def run(question: Callable[[Engine], Awaitable[T]]) -> T:
        async def main() -> T:
            if request.param == "fake":
                return await question(fake(host))
            engines = HostEngines({"DOCKER_HOST": f"unix://{host.docker_socket}"})
            at = {
                "socket": None,
                "ssh": inventory_host(fleet),
                "sudo over ssh": inventory_host(fleet, ansible_user="ops", ansible_become=True),
            }[request.param]
            try:
                return await question(engines.on(at))
            finally:
                await engines.close()

        return asyncio.run(main())

    return run


def test_a_container_is_told_as_it_is(ask: Ask[object], host: FleetHost) -> None:
    facts = ask(lambda engine: engine.container("web"))
    assert facts is not None
    assert (facts.name, facts.status, facts.health, facts.restart_count) == ("web", "running", "", 0)
    assert facts.container_id == host.docker("inspect", "-f", "{{.Id}}", "web")
    assert facts.image == Image("web:1.0.0", host.docker("inspect", "-f", "{{.Id}}", "web:1.0.0"))
    assert facts.started_at == host.docker("inspect", "-f", "{{.State.StartedAt}}", "web")


@pytest.mark.parametrize("name", ["nothing", "we", "../version", "web/json?x=", "web%2fjson", ""])
def test_only_the_exact_name_is_a_container(ask: Ask[object], name: str) -> None:
    if name:
        assert ask(lambda engine: engine.container(name)) is None


def test_a_prefix_of_its_id_is_not_a_containers_name(ask: Ask[object], host: FleetHost) -> None:
    prefix = host.docker("inspect", "-f", "{{.Id}}", "web")[:12]
    assert ask(lambda engine: engine.container(prefix)) is None


def test_images_of_a_repository_come_newest_first(ask: Ask[object]) -> None:
    images = ask(lambda engine: engine.images("web"))
    assert [image.tags for image in images] == [("web:1.1.0",), ("web:1.0.0",)]
    assert all(image.size_bytes > 0 for image in images)
    assert images[0].created > images[1].created


def test_an_unknown_repository_has_no_images(ask: Ask[object]) -> None:
    assert ask(lambda engine: engine.images("elsewhere/web")) == ()


def test_an_image_is_found_by_tag_and_by_id(ask: Ask[object], host: FleetHost) -> None:
    by_tag = ask(lambda engine: engine.image("web:1.0.0"))
    assert by_tag is not None
    assert by_tag.image_id == host.docker("inspect", "-f", "{{.Id}}", "web:1.0.0")
    assert by_tag.tags == ("web:1.0.0",)
    assert ask(lambda engine: engine.image(by_tag.image_id)) == by_tag


@pytest.mark.parametrize("reference", ["web:9", "sha256:" + "0" * 64, "../version", "web@sha256:" + "0" * 64])
def test_what_is_not_there_is_no_image(ask: Ask[object], reference: str) -> None:
    assert ask(lambda engine: engine.image(reference)) is None


def test_the_last_lines_of_a_container_are_told(ask: Ask[object]) -> None:
    assert ask(lambda engine: engine.logs("web", 5)) == "web 1.0.0 (good) starts on port 8080\n"


@pytest.fixture
def composed(host: FleetHost) -> Iterator[FleetHost]:
    """A host with Compose's containers, as their labels say: shop/web once, shop/api twice, one of them stopped."""
    made = [labelled(host, *one) for one in (("shop", "web", 1), ("shop", "api", 1), ("shop", "api", 2))]
    host.docker("stop", "-t", "0", made[2])
    yield host
    for name in host.docker("ps", "-a", "--filter", f"label={LABEL}.service", "--format", "{{.Names}}").split():
        host.docker("rm", "-f", name)


def labelled(host: FleetHost, project: str, service: str, number: int, name: str = "", **labels: str) -> str:
    name = name or f"{project}-{service}-{number}"
    every = {"project": project, "service": service, "container-number": str(number), "oneoff": "False", **labels}
    options = [text for key, value in every.items() for text in ("--label", f"{LABEL}.{key}={value}")]
    host.docker("run", "-d", "--name", name, "--network", "none", *options, "web:1.0.0")
    return name


def test_a_plain_container_is_what_runs_under_its_name(ask: Ask[object]) -> None:
    facts = ask(lambda engine: engine.running(ContainerUnit("web")))
    assert facts is not None
    assert facts == ask(lambda engine: engine.container("web"))
    assert ask(lambda engine: engine.running(ContainerUnit("nothing"))) is None


def test_a_compose_service_is_found_by_its_labels(ask: Ask[object], composed: FleetHost) -> None:
    facts = ask(lambda engine: engine.running(ComposeUnit("shop", "web")))
    assert facts is not None
    assert (facts.name, facts.status) == ("shop-web-1", "running")


@pytest.mark.parametrize("unit", [ComposeUnit("shop", "db"), ComposeUnit("other", "web"), ComposeUnit("shop", "w")])
def test_another_project_or_service_is_not_there(ask: Ask[object], composed: FleetHost, unit: ComposeUnit) -> None:
    assert ask(lambda engine: engine.running(unit)) is None


def test_several_containers_of_a_compose_service_are_no_guess(ask: Ask[object], composed: FleetHost) -> None:
    with pytest.raises(EngineError, match="shop/api has 2 containers on "):
        ask(lambda engine: engine.running(ComposeUnit("shop", "api")))


def test_a_swap_and_a_one_off_run_are_not_further_containers(fleet: Fleet, composed: FleetHost) -> None:
    labelled(composed, "shop", "web", 1, "shop-web-1.guard-prev")
    labelled(composed, "shop", "web", 1, "0123456789ab_shop-web-1")
    labelled(composed, "shop", "web", 1, "shop-web-run-7", oneoff="True")

    async def main() -> ContainerFacts | None:
        engines = HostEngines({})
        try:
            return await engines.on(inventory_host(fleet)).running(ComposeUnit("shop", "web"))
        finally:
            await engines.close()

    facts = asyncio.run(main())
    assert facts is not None
    assert facts.name == "shop-web-1"


def test_a_digest_that_cannot_be_pulled_is_told_with_the_reason(ask: Ask[object]) -> None:
    problem = ask(lambda engine: engine.pull_problem("127.0.0.1:1/web@sha256:" + "0" * 64))
    assert problem and "127.0.0.1:1" in problem


def test_room_for_images_and_the_python_are_seen_as_far_as_the_way_lets_them(
    ask: Ask[object], request: pytest.FixtureRequest
) -> None:
    means = ask(lambda engine: engine.means())
    if "socket" in request.node.name:  # the engine's folder is the host's, and this machine may have none of that name
        assert means.python is None
    else:
        assert means.free_bytes is not None and means.free_bytes > 0
        assert means.python is not None and means.python >= (3, 8)
