"""A Swarm service's image is put back by a real swarm, and nothing else of the service changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Json, Swarm, until


def spec(swarm: Swarm) -> Json:
    found: Json = swarm.engine.service()["Spec"]
    return found


def runs(swarm: Swarm, tag: str, tasks: int = 2) -> bool:
    return swarm.engine.images_run() == {swarm.ids[tag]} and len(swarm.engine.tasks()) == tasks


def test_the_engines_own_rollback_is_used_where_only_the_image_differs(swarm: Swarm) -> None:
    swarm.deploy()
    before = spec(swarm)
    swarm.update("--image=web:1.1.0")
    result = swarm("swap")
    assert (result["state"], result["changed"]) == ("restored", True), result
    assert result["from"] == {"image": "web:1.1.0", "image_id": swarm.ids["web:1.1.0"]}
    assert result["to"] == {"image": "web:1.0.0", "image_id": swarm.ids["web:1.0.0"]}
    assert runs(swarm, "web:1.0.0")
    assert spec(swarm) == before
    assert swarm.engine.service()["UpdateStatus"]["State"] == "rollback_completed"
    assert f"web:backup_20261124_101112 {swarm.ids['web:1.1.0']}" in swarm.engine.tags()
    assert result["downtime_s"] == 0.0, "two tasks, one after the other: one of them ran all the time"
    again = swarm("swap", swarm.plan(expect_image_id=None))
    assert (again["state"], again["changed"]) == ("unchanged", False)


def test_what_the_user_changed_with_the_deploy_stays(swarm: Swarm) -> None:
    swarm.deploy("--env=A=1", replicas=1)
    swarm.update("--image=web:1.1.0", "--env-add=B=2", "--limit-memory=64m", "--label-add=team=shop")
    before = spec(swarm)
    result = swarm("swap")
    assert result["state"] == "restored", result
    after = spec(swarm)
    assert after["TaskTemplate"]["ContainerSpec"].pop("Image") == "web:1.0.0"
    assert before["TaskTemplate"]["ContainerSpec"].pop("Image") == "web:1.1.0"
    assert after == before
    assert swarm.engine.service()["UpdateStatus"]["State"] == "completed"
    assert 0 < result["downtime_s"] < 5, "a single task is stopped before the next one starts"


@pytest.mark.parametrize(
    ("options", "tag", "told"),
    [
        ((), "web:exits", "non-zero exit (3)"),
        (("--update-failure-action=rollback", "--env=X=1"), "web:exits", "non-zero exit (3)"),
        (("--update-failure-action=continue", "--rollback-failure-action=continue"), "web:exits", "restart in a loop"),
        ((), "web:unhealthy", "it was unhealthy"),
    ],
)
def test_a_target_that_does_not_get_well_is_taken_back(swarm: Swarm, options: Any, tag: str, told: str) -> None:
    swarm.deploy(*options, image="web:1.1.0", replicas=1)
    before = spec(swarm)
    result = swarm("swap", swarm.plan(target=swarm.target(tag)))
    assert (result["state"], result["failed"]) == ("reverted", True), result
    assert told in result["error"]
    assert tag != "web:exits" or "no database" in result["log_tail"]
    assert result["from"]["image_id"] == swarm.ids["web:1.1.0"]
    assert spec(swarm) == before
    until(lambda: runs(swarm, "web:1.1.0", 1), "what ran before runs")


def test_a_target_that_is_gone_is_told_before_anything_is_touched(swarm: Swarm) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    before = swarm.engine.service()
    gone = {"image": "web:0.1", "image_id": f"sha256:{'ab' * 32}", "digest": None}
    for mode in ("prepare", "swap"):
        result = swarm(mode, swarm.plan(target=gone))
        assert (result["state"], result["kind"]) == ("failed", "image_gone"), result
    assert swarm.engine.service() == before


def test_what_was_not_well_before_either_can_be_put_back(swarm: Swarm) -> None:
    """As guard does when another service of the same gate could not be restored."""
    swarm.deploy(replicas=1)
    plan = swarm.plan(target=swarm.target("web:exits"), expect_image_id=None, wait_healthy=False)
    result = swarm("swap", plan)
    assert result["state"] == "restored", result
    assert result["to"]["image_id"] == swarm.ids["web:exits"]
    assert spec(swarm)["TaskTemplate"]["ContainerSpec"]["Image"] == "web:exits"


def test_a_deploy_of_an_image_that_does_not_exist_is_rolled_back(swarm: Swarm) -> None:
    swarm.deploy(replicas=1)
    swarm.update("--image=web:typo")
    result = swarm("swap", swarm.plan(expect_image_id=""))
    assert result["state"] == "restored", result
    assert result["from"] == {"image": "web:typo", "image_id": ""}
    assert result["backup_tag"] is None, "there is no image to keep"
    assert runs(swarm, "web:1.0.0", 1)


def test_a_tag_that_was_moved_does_not_change_what_is_restored(swarm: Swarm) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    pin = f"web:guard_{swarm.ids['web:1.0.0'][7:19]}"
    try:
        swarm.engine.docker("tag", "web:exits", "web:1.0.0")
        # The image still has a name: a snapshot before the deploy has pinned it.
        swarm.engine.docker("tag", swarm.ids["web:1.0.0"], pin)
        result = swarm("swap")
        assert result["state"] == "restored", result
        assert result["to"] == {"image": pin, "image_id": swarm.ids["web:1.0.0"]}
        assert runs(swarm, "web:1.0.0", 1)
    finally:
        swarm.engine.docker("tag", swarm.ids["web:1.0.0"], "web:1.0.0")


def test_a_tag_that_was_moved_and_deployed_again_is_told_apart_by_what_runs(swarm: Swarm) -> None:
    """The spec names web:1.0.0 before and after; only the tasks' containers know which image it was."""
    swarm.deploy(replicas=1)
    try:
        swarm.engine.docker("tag", "web:1.1.0", "web:1.0.0")
        assert swarm("snapshot")["from"] == {"image": "web:1.0.0", "image_id": swarm.ids["web:1.0.0"]}
        swarm.update("--force", "--image=web:1.0.0")
        assert swarm.engine.images_run() == {swarm.ids["web:1.1.0"]}
        swarm.engine.docker("tag", swarm.ids["web:1.0.0"], "web:1.0.0")
        assert swarm("swap")["state"] == "restored"
        assert runs(swarm, "web:1.0.0", 1)
    finally:
        swarm.engine.docker("tag", swarm.ids["web:1.0.0"], "web:1.0.0")


def test_snapshot_pins_and_changes_nothing_else(swarm: Swarm) -> None:
    swarm.deploy(replicas=1)
    before = swarm.engine.service()
    result = swarm("snapshot", swarm.plan(target=None))
    assert (result["state"], result["changed"]) == ("unchanged", True)
    assert result["from"] == result["to"] == {"image": "web:1.0.0", "image_id": swarm.ids["web:1.0.0"]}
    assert result["tasks"] == {"running": 1, "wanted": 1}
    assert f"{result['pin']} {swarm.ids['web:1.0.0']}" in swarm.engine.tags()
    assert swarm("snapshot", swarm.plan(target=None))["changed"] is False
    assert swarm.engine.service() == before


def test_prepare_discard_and_check_mode_change_nothing(swarm: Swarm) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    before, tags = swarm.engine.service(), swarm.engine.tags()
    looked: Json = {"_ansible_check_mode": True, "_ansible_diff": True}
    for mode, ansible in (("prepare", {}), ("discard", {}), ("prepare", looked), ("swap", looked), ("discard", looked)):
        result = swarm(mode, **ansible)
        assert result["state"] == ("unchanged" if mode == "discard" else "planned"), result
    assert swarm.engine.service() == before
    assert swarm.engine.tags() == tags


def test_a_service_that_became_another_meanwhile_is_left_alone(swarm: Swarm) -> None:
    swarm.deploy(replicas=1)
    before = swarm.engine.service()
    result = swarm("swap", swarm.plan(target=swarm.target("web:exits")))
    assert (result["state"], result["kind"]) == ("failed", "mismatch")
    assert swarm.engine.service() == before


def test_somebody_elses_update_under_way_is_refused_and_the_deploy_itself_is_not(swarm: Swarm) -> None:
    swarm.deploy("--update-delay=30s", image="web:1.1.0")
    swarm.update("--env-add=A=1", wait=False)
    result = swarm("swap")
    assert (result["state"], result["kind"], result["changed"]) == ("failed", "busy", False), result
    assert spec(swarm)["TaskTemplate"]["ContainerSpec"]["Image"] == "web:1.1.0"
    swarm.engine.reset()
    swarm.deploy("--update-delay=30s")
    swarm.update("--image=web:1.1.0", wait=False)
    assert swarm("swap")["state"] == "restored"
    assert runs(swarm, "web:1.0.0")


def test_a_deploy_that_comes_between_is_not_undone(swarm: Swarm) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    process = swarm.start("swap", swarm.plan(stable_s=30))
    until(lambda: swarm.engine.images_run() == {swarm.ids["web:1.0.0"]}, "the target runs")
    swarm.update("--image=web:1.1.0", "--env-add=NEW=1", wait=False)
    result = swarm.finish(process)
    assert (result["state"], result["kind"]) == ("failed", "overtaken"), result
    until(lambda: runs(swarm, "web:1.1.0", 1), "what was deployed runs")


def test_a_global_service_is_restored_too_and_a_job_is_refused(swarm: Swarm) -> None:
    swarm.deploy("--mode=global", image="web:1.1.0")
    assert swarm("swap")["state"] == "restored"
    assert runs(swarm, "web:1.0.0", 1)
    swarm.engine.reset()
    swarm.engine.docker(
        "service", "create", "--detach", "--no-resolve-image", "--name=web", "--mode=replicated-job", "web:1.1.0"
    )
    assert swarm("swap")["kind"] == "unsupported"


def test_a_service_that_is_not_there_is_named(swarm: Swarm) -> None:
    result = swarm("swap")
    assert (result["state"], result["kind"]) == ("failed", "not_found")
    assert "there is no service web in this swarm" in result["error"]


def test_a_lower_fence_is_refused(swarm: Swarm) -> None:
    swarm.deploy(image="web:1.1.0", replicas=1)
    assert swarm("prepare", swarm.plan(fence=7))["state"] == "planned"
    assert swarm("swap", swarm.plan(fence=6))["kind"] == "fenced"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"swarm": "web"}, "plan.swarm must be a mapping of service"),
        ({"swarm": {"service": "../web"}}, "plan.swarm must be a name"),
        ({"container": "--all", "swarm": None}, "plan.container must be a name"),
        ({"expect_image_id": "web"}, "plan.expect_image_id must be sha256"),
        ({"surprise": 1}, "plan.surprise is not known"),
    ],
)
def test_a_bad_plan_is_refused_by_name(swarm: Swarm, changes: Json, message: str) -> None:
    result = swarm("swap", swarm.plan(**changes))
    assert (result["state"], result["kind"]) == ("failed", "plan")
    assert message in result["error"]
    assert json.dumps(result)
