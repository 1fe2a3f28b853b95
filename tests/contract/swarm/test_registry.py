"""Services that are deployed by digest from a registry, as ``docker service update`` does it by default."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator

import pytest

from guard.engines.hosts import HostEngines
from guard.model import ContainerFacts, SwarmUnit

from .conftest import Json, Manager, Swarm, until


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local docker-registry; its host:port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("registry")
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{delete: {{enabled: true}}, filesystem: {{rootdirectory: {folder}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)), "the registry answers")
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture
def pushed(manager: Manager, swarm: Swarm, registry: str) -> dict[str, str]:
    """web:1.0.0 and web:1.1.0 in the registry and nowhere else: digest by version."""
    digests = {}
    for version in ("1.0.0", "1.1.0"):
        manager.docker("tag", f"web:{version}", f"{registry}/web:{version}")
        said = manager.docker("push", f"{registry}/web:{version}")
        digests[version] = next(word for word in said.split() if word.startswith("sha256:"))
        manager.docker("rmi", "--no-prune", f"{registry}/web:{version}")
    return digests


def looked_at(swarm: Swarm) -> ContainerFacts | None:
    async def main() -> ContainerFacts | None:
        engines = HostEngines({"DOCKER_HOST": f"unix://{swarm.engine.socket}"})
        try:
            return await engines.on(None).running(SwarmUnit("web"))
        finally:
            await engines.close()

    return asyncio.run(main())


def by_digest(registry: str, version: str, digests: dict[str, str]) -> Json:
    digest = digests[version]
    return {"image": f"{registry}/web:{version}", "image_id": digest, "digest": f"{registry}/web@{digest}"}


def test_an_image_of_a_registry_is_known_by_its_digest_and_restored_by_it(
    swarm: Swarm, registry: str, pushed: dict[str, str]
) -> None:
    name = f"{registry}/web"
    swarm.deploy("--env=A=1", image=f"{name}:1.0.0@{pushed['1.0.0']}", replicas=1)
    snapshot = swarm("snapshot", swarm.plan(target=None))
    assert snapshot["to"] == {"image": f"{name}:1.0.0", "image_id": pushed["1.0.0"]}
    assert snapshot["digest"] == f"{name}@{pushed['1.0.0']}"
    swarm.update(f"--image={name}:1.1.0@{pushed['1.1.0']}", "--env-add=B=2")
    facts = looked_at(swarm)
    assert facts is not None
    assert (facts.image.image, facts.image.image_id) == (f"{name}:1.1.0", pushed["1.1.0"])
    assert facts.image.digest == f"{name}@{pushed['1.1.0']}"
    swarm.engine.docker("rmi", "-f", snapshot["pin"], f"{name}@{pushed['1.0.0']}")
    target = by_digest(registry, "1.0.0", pushed)
    result = swarm("swap", swarm.plan(target=target, expect_image_id=pushed["1.1.0"]))
    assert result["state"] == "restored", result
    assert result["to"] == {"image": f"{name}:1.0.0", "image_id": pushed["1.0.0"]}
    wanted = swarm.engine.service()["Spec"]["TaskTemplate"]["ContainerSpec"]
    assert (wanted["Image"], sorted(wanted["Env"])) == (f"{name}:1.0.0@{pushed['1.0.0']}", ["A=1", "B=2"])
    assert swarm.engine.images_run() == {swarm.ids["web:1.0.0"]}


def test_a_digest_that_the_registry_has_lost_is_told_before_anything_is_touched(
    swarm: Swarm, registry: str, pushed: dict[str, str]
) -> None:
    swarm.deploy(image=f"{registry}/web:1.1.0@{pushed['1.1.0']}", replicas=1)
    before = swarm.engine.service()
    lost = f"sha256:{'ab' * 32}"
    target = {"image": f"{registry}/web:0.1", "image_id": lost, "digest": f"{registry}/web@{lost}"}
    for mode in ("prepare", "swap"):
        result = swarm(mode, swarm.plan(target=target, expect_image_id=pushed["1.1.0"]))
        assert (result["state"], result["kind"]) == ("failed", "image_gone"), result
    assert swarm.engine.service() == before


def test_guard_and_the_module_know_an_image_by_the_same_name(
    swarm: Swarm, registry: str, pushed: dict[str, str]
) -> None:
    """By tag alone: the digest where the node has pulled it from a registry, the ID where it was only built here."""
    for image in (f"{registry}/web:1.0.0", "web:1.0.0"):
        swarm.engine.reset()
        swarm.deploy(image=image, replicas=1)
        facts, told = looked_at(swarm), swarm("snapshot", swarm.plan(target=None))
        assert facts is not None and facts.tasks is not None
        assert told["to"] == {"image": facts.image.image, "image_id": facts.image.image_id}
        assert facts.image.image_id == (pushed["1.0.0"] if registry in image else swarm.ids["web:1.0.0"])
        assert (facts.status, facts.tasks.running, facts.tasks.wanted) == ("running", 1, 1)


def test_a_service_that_is_not_there_is_none_and_an_image_that_nobody_has_no_id(swarm: Swarm) -> None:
    assert looked_at(swarm) is None
    swarm.engine.docker("service", "create", "--detach", "--no-resolve-image", "--name=web", "web:typo")
    until(lambda: (facts := looked_at(swarm)) and facts.error, "a task is rejected")
    facts = looked_at(swarm)
    assert facts is not None
    assert (facts.image.image, facts.image.image_id, facts.status) == ("web:typo", "", "incomplete")
    assert "No such image: web:typo" in facts.error
