"""What one run of the module does to one host, for each way a rollback can go."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry import Registry

from .conftest import Restore

ON_EVERY_ENGINE = True


def test_the_target_runs_under_the_same_name_afterwards(restore: Restore) -> None:
    before = restore.deploy("-p", "127.0.0.1::80")
    result = restore("swap")
    after = restore.engine.inspect("web")
    assert (result["state"], result["changed"], result["error"]) == ("restored", True, None)
    assert result["from"] == {"image": "web:1.1.0", "image_id": before["Image"]}
    assert result["to"] == {"image": "web:1.0.0", "image_id": restore.ids["web:1.0.0"]}
    assert result["container_id"] == after["Id"] != before["Id"]
    assert result["backup_tag"] == "backup_20261123_101112"
    assert 0 < result["downtime_s"] < 10
    assert restore.runs_image("web:1.0.0")
    assert after["Config"]["Image"] == "web:1.0.0"
    assert restore.engine.names() == {"web"}
    tags = restore.engine.docker("image", "inspect", "--format", "{{json .RepoTags}}", "web:1.1.0")
    assert "web:backup_20261123_101112" in json.loads(tags)


def test_a_second_run_changes_nothing(restore: Restore) -> None:
    restore.deploy()
    restore("swap")
    before = restore.engine.inspect("web")
    again = restore("swap")
    assert (again["state"], again["changed"], again["steps"]) == ("unchanged", False, [])
    assert restore.engine.inspect("web") == before


def test_prepare_stops_nothing_and_swap_uses_what_it_made(restore: Restore) -> None:
    before = restore.deploy()
    prepared = restore("prepare")
    assert (prepared["state"], prepared["changed"]) == ("planned", True)
    assert restore.engine.inspect("web") == before
    waiting = restore.engine.inspect("web.guard-next")
    assert waiting["State"]["Status"] == "created"
    assert restore("prepare")["changed"] is False
    assert restore("swap")["container_id"] == waiting["Id"]


def test_discard_takes_back_all_that_prepare_left(restore: Restore) -> None:
    before = restore.deploy()
    images = restore.engine.tags()
    restore("prepare")
    assert restore("discard")["changed"] is True
    assert restore.engine.names() == {"web"}
    assert restore.engine.inspect("web") == before
    assert restore.engine.tags() == images
    assert restore("discard")["changed"] is False


def test_a_container_deployed_between_prepare_and_swap_is_not_overwritten(restore: Restore) -> None:
    restore.deploy()
    restore("prepare")
    restore.engine.docker("rm", "-f", "web")
    restore.deploy(image="web:moves")
    result = restore("swap")
    assert (result["state"], result["kind"]) == ("failed", "mismatch")
    assert restore.runs_image("web:moves")
    assert restore("swap", restore.plan(force=True))["state"] == "restored"


def test_settings_changed_between_prepare_and_swap_are_taken_over(restore: Restore) -> None:
    restore.deploy()
    restore("prepare")
    restore.engine.docker("update", "--cpu-shares", "77", "web")
    assert restore("swap")["state"] == "restored"
    assert restore.engine.inspect("web")["HostConfig"]["CpuShares"] == 77


@pytest.mark.parametrize(
    ("tag", "options", "reason"),
    [
        ("web:wont-start", (), "no such file"),
        ("web:exits", (), "restarts in a loop"),
        ("web:exits", ("--restart", "no"), "exited with code 3"),
        ("web:unhealthy", (), "unhealthy"),
    ],
)
def test_what_ran_before_is_put_back_when_the_target(
    restore: Restore, tag: str, options: tuple[str, ...], reason: str
) -> None:
    before = restore.deploy("-p", "127.0.0.1::80", *options)
    result = restore("swap", restore.plan(target=restore.target(tag)))
    after = restore.engine.inspect("web")
    assert (result["state"], result["failed"]) == ("reverted", True)
    assert reason in result["error"] == result["msg"]
    assert after["Id"] == before["Id"] == result["container_id"]
    assert after["State"]["Running"]
    assert after["HostConfig"] == before["HostConfig"]
    assert restore.engine.names() == {"web"}
    if tag == "web:exits":
        assert "no database" in result["log_tail"]


def test_a_bad_release_that_restarts_in_a_loop_is_replaced(restore: Restore) -> None:
    """Engines refuse to rename a container in its pause between restarts (here the fifth: 1.6 s)."""
    restore.deploy(image="web:exits")
    deadline = time.monotonic() + 20
    while not ((seen := restore.engine.inspect("web"))["State"]["Restarting"] and seen["RestartCount"] >= 5):
        assert time.monotonic() < deadline
    assert restore("swap", restore.plan(expect_image_id=restore.ids["web:exits"]))["state"] == "restored"
    assert restore.runs_image("web:1.0.0")
    assert restore.engine.inspect("web")["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_a_bad_release_that_has_exited_is_replaced_and_has_no_downtime_to_report(restore: Restore) -> None:
    restore.deploy("--restart", "no", image="web:exits")
    restore.engine.docker("wait", "web")
    result = restore("swap", restore.plan(expect_image_id=restore.ids["web:exits"]))
    assert (result["state"], result["downtime_s"]) == ("restored", None)


def test_a_container_that_had_exited_is_put_back_as_it_was(restore: Restore) -> None:
    before = restore.deploy("--restart", "no", image="web:exits")
    restore.engine.docker("wait", "web")
    plan = restore.plan(expect_image_id=restore.ids["web:exits"], target=restore.target("web:wont-start"))
    assert restore("swap", plan)["state"] == "reverted"
    after = restore.engine.inspect("web")
    assert (after["Id"], after["State"]["Status"]) == (before["Id"], "exited")


def test_a_passing_health_check_ends_the_wait_before_the_engines_first_interval(restore: Restore) -> None:
    restore.deploy()
    result = restore("swap", restore.plan(target=restore.target("web:healthy")))
    assert result["state"] == "restored"
    assert next(step["seconds"] for step in result["steps"] if step["name"] == "await-new") < 10


def test_a_moved_tag_does_not_change_what_is_restored(restore: Restore) -> None:
    restore.deploy()
    wanted = restore.target("web:moves")
    restore.engine.docker("tag", wanted["image_id"], "web:keep")
    restore.engine.docker("tag", "web:1.1.0", "web:moves")
    try:
        result = restore("swap", restore.plan(target=wanted))
        after = restore.engine.inspect("web")
    finally:
        restore.engine.docker("tag", wanted["image_id"], "web:moves")
        restore.engine.docker("rmi", "--no-prune", "web:keep")
    assert result["state"] == "restored"
    assert after["Image"] == wanted["image_id"]
    assert after["Config"]["Image"] == f"web:guard_{wanted['image_id'][7:19]}"


def test_an_image_that_is_gone_is_a_clear_failure_before_anything_is_touched(restore: Restore) -> None:
    before = restore.deploy()
    result = restore("swap", restore.plan(target={"image": "web:0.9", "image_id": f"sha256:{'ab' * 32}"}))
    assert (result["state"], result["kind"]) == ("failed", "image_gone")
    assert restore.engine.inspect("web") == before
    assert restore.engine.names() == {"web"}


@pytest.mark.parametrize("mode", ["snapshot", "prepare", "swap"])
def test_a_container_that_is_not_there_is_a_clear_failure(restore: Restore, mode: str) -> None:
    result = restore(mode)
    assert (result["state"], result["kind"]) == ("failed", "not_found")
    assert "no container web" in result["error"]


def test_the_beginning_of_another_containers_id_is_not_taken_for_a_name(restore: Restore) -> None:
    identity = restore.engine.docker("run", "-d", "--name", "other", "web:1.1.0")
    result = restore("swap", restore.plan(container=identity[:12]))
    assert result["kind"] == "not_found"
    assert restore.engine.names() == {"other"}


def test_snapshot_pins_the_image_and_says_what_runs(restore: Restore) -> None:
    before = restore.deploy()
    result = restore("snapshot", restore.plan(target=None))
    pin = f"web:guard_{before['Image'][7:19]}"
    assert (result["state"], result["changed"], result["pin"]) == ("unchanged", True, pin)
    assert result["from"] == {"image": "web:1.1.0", "image_id": before["Image"]}
    assert (result["container_id"], result["status"]) == (before["Id"], "running")
    assert restore.engine.docker("image", "inspect", "--format", "{{.Id}}", pin) == before["Image"]
    again = restore("snapshot", restore.plan(target=None))
    assert (again["changed"], again["fingerprint"]) == (False, result["fingerprint"])


@pytest.mark.parametrize("mode", ["snapshot", "prepare", "swap", "discard"])
def test_check_mode_changes_nothing_at_all(restore: Restore, mode: str) -> None:
    before = restore.deploy()
    images = restore.engine.tags()
    result = restore(mode, _ansible_check_mode=True, _ansible_diff=True)
    assert not result.get("failed")
    assert result["state"] == ("planned" if mode in ("prepare", "swap") else "unchanged")
    assert restore.engine.inspect("web") == before
    assert restore.engine.names() == {"web"}
    assert restore.engine.tags() == images
    assert not restore.state.exists()
    if mode == "swap":
        assert "web:1.1.0" in result["diff"]["before"] and "web:1.0.0" in result["diff"]["after"]


@pytest.mark.parametrize(("tag", "state"), [("web:1.0.0", "restored"), ("web:exits", "reverted")])
def test_a_container_that_removes_itself_when_stopped(restore: Restore, tag: str, state: str) -> None:
    restore.engine.docker("run", "-d", "--name", "web", "--rm", "-v", "/data", "web:1.1.0")
    restore.engine.docker("exec", "web", "touch", "/data/mine")
    result = restore("swap", restore.plan(target=restore.target(tag)))
    assert result["state"] == state, result
    assert restore.runs_image("web:1.0.0" if state == "restored" else "web:1.1.0")
    assert restore.engine.inspect("web")["HostConfig"]["AutoRemove"] is True
    assert restore.engine.names() == {"web"}
    restore.engine.docker("exec", "web", "test", "-e", "/data/mine")


def test_a_backup_tag_that_another_rollback_has_given_in_the_same_second_stays_its_own(restore: Restore) -> None:
    restore.deploy()
    restore.engine.docker("tag", "web:healthy", "web:backup_20261123_101112")
    result = restore("swap")
    assert (result["state"], result["backup_tag"]) == ("restored", "backup_20261123_101113")
    found = json.loads(restore.engine.docker("image", "inspect", "web:backup_20261123_101112"))[0]["Id"]
    assert found == restore.ids["web:healthy"]
    restore.engine.docker("rmi", "web:backup_20261123_101112")


def test_the_last_words_of_the_container_that_is_replaced_are_kept(restore: Restore) -> None:
    restore.deploy(command=("/bin/sh", "-c", "echo I cannot go on; sleep 1000"))
    result = restore("swap")
    assert result["state"] == "restored"
    assert "I cannot go on" in result["log_tail"]


def test_a_paused_container_is_replaced(restore: Restore) -> None:
    restore.deploy()
    restore.engine.docker("pause", "web")
    assert restore("swap")["state"] == "restored"


def test_an_engine_that_is_not_there_is_named(restore: Restore, tmp_path: Path) -> None:
    result = restore("swap", restore.plan(engine=f"unix://{tmp_path}/none.sock"))
    assert (result["state"], result["kind"]) == ("failed", "engine_gone")
    assert f"{tmp_path}/none.sock" in result["error"]


def test_what_the_module_keeps_on_the_host_is_private(restore: Restore) -> None:
    restore.deploy()
    restore("swap")
    kept = list(restore.state.iterdir())
    assert {path.suffix for path in kept} == {".lock", ".fence", ".journal"}
    assert restore.state.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_a_state_folder_that_others_can_write_to_is_refused(restore: Restore) -> None:
    restore.deploy()
    restore.state.mkdir()
    restore.state.chmod(0o777)
    assert restore("swap")["kind"] == "state"
    assert restore.runs_image("web:1.1.0")


def test_an_image_is_pulled_by_digest_when_it_is_missing(restore: Restore, registry: str) -> None:
    restore.engine.image(f"{registry}/web:9.9.9", "LABEL only=here")
    restore.engine.docker("push", f"{registry}/web:9.9.9")
    found = json.loads(restore.engine.docker("image", "inspect", f"{registry}/web:9.9.9"))[0]
    restore.engine.docker("rmi", f"{registry}/web:9.9.9")
    target = {"image": f"{registry}/web:9.9.9", "image_id": found["Id"], "digest": found["RepoDigests"][0]}
    restore.deploy()
    assert restore("swap", restore.plan(target=target))["state"] == "restored"
    assert restore.engine.inspect("web")["Config"]["Image"] == f"{registry}/web:guard_{found['Id'][7:19]}"


def test_an_image_that_was_pulled_to_be_prepared_goes_again(restore: Restore, registry: str) -> None:
    restore.engine.image(f"{registry}/web:8.8.8", "LABEL only=there")
    restore.engine.docker("push", f"{registry}/web:8.8.8")
    found = json.loads(restore.engine.docker("image", "inspect", f"{registry}/web:8.8.8"))[0]
    restore.engine.docker("rmi", f"{registry}/web:8.8.8")
    restore.deploy()
    before = restore.engine.docker("images", "-a", "-q", "--no-trunc").split()
    target = {"image": f"{registry}/web:8.8.8", "image_id": found["Id"], "digest": found["RepoDigests"][0]}
    restore("prepare", restore.plan(target=target))
    assert found["Id"] in restore.engine.docker("images", "-a", "-q", "--no-trunc").split()
    restore("discard", restore.plan(target=target))
    assert set(restore.engine.docker("images", "-a", "-q", "--no-trunc").split()) == set(before)


def test_a_digest_the_registry_does_not_have_is_a_clear_failure(restore: Restore, registry: str) -> None:
    restore.deploy()
    digest = f"{registry}/web@sha256:{'cd' * 32}"
    target = {"image": f"{registry}/web:1", "image_id": f"sha256:{'ab' * 32}", "digest": digest}
    result = restore("swap", restore.plan(target=target))
    assert result["state"] == "failed"
    assert "cdcdcd" in result["error"] or "manifest unknown" in result["error"]
    assert restore.runs_image("web:1.1.0")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local docker-registry; its host:port."""
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.address
