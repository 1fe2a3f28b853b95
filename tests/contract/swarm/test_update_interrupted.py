"""Killed at any instant, the next run with the same plan brings the service to one end, told from the swarm itself."""

from __future__ import annotations

import pytest

from tests.contract.restore.cutting_proxy import CuttingProxy

from .conftest import Json, Swarm, until

TAG, UPDATE, LOOK = r"POST images \S+ tag|POST images tag", r"POST services \w+ update", "GET tasks"


def kill_at(swarm: Swarm, plan: Json, cut: str, when: str, nth: int) -> None:
    """Run the module and SIGKILL it at the ``nth`` request that matches ``cut``."""
    own = swarm.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(swarm.engine.socket, own, cut, when, nth) as proxy:
        process = swarm.start("swap", {**plan, "engine": f"unix://{own}"})
        assert proxy.reached.wait(30), f"never came to {cut}: {proxy.changes}, {process.communicate()}"
        process.kill()
        process.communicate()


def rerun(swarm: Swarm, plan: Json) -> Json:
    """The next run. It names the engine as the killed one did: the way there is part of what it remembers."""
    own = swarm.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(swarm.engine.socket, own):
        return swarm("swap", {**plan, "engine": f"unix://{own}"})


def specs(swarm: Swarm) -> Json:
    found: Json = swarm.engine.service()["Spec"]
    return found


@pytest.mark.parametrize(
    ("cut", "nth", "when"),
    [(TAG, 1, "before"), (TAG, 1, "after"), (UPDATE, 1, "before"), (UPDATE, 1, "after"), (LOOK, 4, "before")],
)
def test_an_update_killed_at_any_request_is_finished_by_the_next_run(
    swarm: Swarm, cut: str, nth: int, when: str
) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    before = specs(swarm)
    kill_at(swarm, swarm.plan(), cut, when, nth)
    result = rerun(swarm, swarm.plan())
    assert (result["state"], result["changed"]) == ("restored", True), result
    assert result["from"] == {"image": "web:1.1.0", "image_id": swarm.ids["web:1.1.0"]}
    assert result["backup_tag"] == "backup_20261124_101112"
    assert swarm.engine.images_run() == {swarm.ids["web:1.0.0"]}
    after = specs(swarm)
    after["TaskTemplate"]["ContainerSpec"]["Image"] = "web:1.1.0"
    assert after == before
    assert rerun(swarm, swarm.plan(expect_image_id=None))["changed"] is False


@pytest.mark.parametrize(("cut", "nth", "when"), [(UPDATE, 2, "before"), (UPDATE, 2, "after"), (LOOK, 12, "after")])
def test_an_undo_killed_at_any_request_is_finished_by_the_next_run(swarm: Swarm, cut: str, nth: int, when: str) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    before = specs(swarm)
    plan = swarm.plan(target=swarm.target("web:exits"))
    kill_at(swarm, plan, cut, when, nth)
    result = rerun(swarm, plan)
    assert (result["state"], result["failed"]) == ("reverted", True), result
    assert specs(swarm) == before
    until(lambda: swarm.engine.images_run() == {swarm.ids["web:1.1.0"]}, "what ran before runs")


def test_what_the_engine_took_back_while_nobody_looked_is_told_as_that(swarm: Swarm) -> None:
    swarm.deploy("--update-failure-action=rollback", image="web:1.1.0", replicas=1)
    plan = swarm.plan(target=swarm.target("web:exits"))
    kill_at(swarm, plan, UPDATE, "after", 1)
    until(lambda: swarm.engine.service()["UpdateStatus"]["State"] == "rollback_completed", "the engine went back")
    result = rerun(swarm, plan)
    assert result["state"] == "reverted", result
    assert "update-service" not in [step["name"] for step in result["steps"]]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_later_plan_that_wants_the_old_image_back_gets_it(swarm: Swarm, when: str) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    kill_at(swarm, swarm.plan(), UPDATE, when, 1)
    plan = swarm.plan(target=swarm.target("web:1.1.0"), run_id="run-2", fence=2, expect_image_id=None)
    result = rerun(swarm, plan)
    assert result["state"] in ("unchanged", "restored"), result
    assert swarm.engine.images_run() == {swarm.ids["web:1.1.0"]}


def test_an_engine_that_restarts_under_an_update_is_waited_for(swarm: Swarm) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    own = swarm.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(swarm.engine.socket, own, LOOK, "before", 4) as proxy:
        process = swarm.start("swap", swarm.plan(engine=f"unix://{own}"))
        assert proxy.reached.wait(30)
        swarm.engine.stop()
        swarm.engine.start()
        proxy.over.set()
        result = swarm.finish(process)
    assert result["state"] == "restored", result
    assert swarm.engine.images_run() == {swarm.ids["web:1.0.0"]}


def test_an_update_that_the_swarm_refuses_changes_nothing_and_can_be_tried_again(swarm: Swarm) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    before = swarm.engine.service()
    own = swarm.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(swarm.engine.socket, own, UPDATE, "refuse"):
        result = swarm("swap", swarm.plan(engine=f"unix://{own}"))
    assert (result["state"], result["kind"]) == ("failed", "engine"), result
    assert swarm.engine.service() == before
    assert rerun(swarm, swarm.plan())["state"] == "restored"


def test_a_way_back_that_the_swarm_refuses_for_a_moment_is_insisted_on(swarm: Swarm) -> None:
    """As it does while it chooses another leader."""
    swarm.deploy(image="web:1.1.0", replicas=1)
    before = specs(swarm)
    own = swarm.engine.folder / "cut.sock"
    own.unlink(missing_ok=True)
    with CuttingProxy(swarm.engine.socket, own, UPDATE, "refuse", 2):
        result = swarm("swap", swarm.plan(target=swarm.target("web:exits"), engine=f"unix://{own}"))
    assert result["state"] == "reverted", result
    assert specs(swarm) == before
