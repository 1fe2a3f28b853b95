"""What a preparation that was never swapped leaves on a host: nothing, whoever came in between."""

from __future__ import annotations

from .conftest import Restore


def backup_tags(restore: Restore) -> set[str]:
    return {line.split()[0] for line in restore.engine.tags() if ":backup_" in line}


def test_a_run_takes_back_its_own_although_a_newer_fence_was_seen_meanwhile(restore: Restore) -> None:
    restore.deploy()
    before = restore.engine.tags()
    restore("prepare", restore.plan(run_id="armed", fence=3))
    fence = next(restore.state.glob("*.fence"))
    fence.write_text("9\n")  # a newer run looked in, and had nothing to do
    assert restore("discard", restore.plan(run_id="armed", fence=3))["changed"] is True
    assert restore.leftovers() == set()
    assert restore.engine.tags() == before


def test_a_run_does_not_take_back_what_another_has_prepared_since(restore: Restore) -> None:
    restore.deploy()
    restore("prepare", restore.plan(run_id="armed", fence=3, backup_tag="backup_20261123_101112"))
    restore("prepare", restore.plan(run_id="by-hand", fence=3, backup_tag="backup_20261123_111111"))
    assert backup_tags(restore) == {"web:backup_20261123_111111"}
    assert restore("discard", restore.plan(run_id="armed", fence=3))["changed"] is False
    assert restore.leftovers() == {"web.guard-next"}
    assert restore("swap", restore.plan(run_id="by-hand", fence=3, backup_tag="backup_20261123_111111"))["changed"]
    assert restore("discard", restore.plan(run_id="armed", fence=3))["changed"] is False
    assert restore.runs_image("web:1.0.0")
    assert backup_tags(restore) == {"web:backup_20261123_111111"}


def test_a_swap_with_a_newer_fence_uses_what_was_prepared_with_an_older_one(restore: Restore) -> None:
    restore.deploy()
    restore("prepare", restore.plan(run_id="armed", fence=3))
    waiting = restore.engine.inspect("web.guard-next")["Id"]
    result = restore("swap", restore.plan(run_id="armed", fence=8))
    assert (result["state"], result["container_id"]) == ("restored", waiting)
    assert "create-new" not in {step["name"] for step in result["steps"]}


def test_a_swap_that_finds_another_container_takes_back_what_was_prepared(restore: Restore) -> None:
    restore.deploy()
    before = restore.engine.tags()
    restore("prepare")
    restore.engine.docker("rm", "-f", "web")
    deployed = restore.deploy(image="web:moves")
    assert restore("swap")["kind"] == "mismatch"
    assert restore.engine.names() == {"web"}
    assert restore.engine.inspect("web")["Id"] == deployed["Id"]
    assert restore.engine.tags() == before
