"""``guard rollback`` and ``guard resume`` by hand, in the worst minutes."""

from __future__ import annotations

import signal
import time

from guard_command import Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour


def test_without_a_snapshot_the_newest_other_local_image_comes_back_and_again_changes_nothing(
    guard: Guard, fleet: Fleet
) -> None:
    fleet.provide("0.9.0")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    first = guard.json("rollback", "web")
    assert first.code == 0, first
    assert running(fleet) == everywhere("1.0.0")
    containers = {h.name: h.docker("inspect", "--format", "{{.Id}}", "web") for h in fleet.hosts}
    again = guard.json("rollback", "web")
    assert again.code == 0, again
    assert {host["state"] for host in again.json["hosts"].values()} == {"unchanged"}
    assert {h.name: h.docker("inspect", "--format", "{{.Id}}", "web") for h in fleet.hosts} == containers


def test_an_operator_names_the_target_and_the_hosts(guard: Guard, fleet: Fleet) -> None:
    fleet.provide("0.9.0")
    ran = guard.json("rollback", "web", "--to", "web:0.9.0", "--limit", "web2")
    assert ran.code == 0, ran
    assert running(fleet) == everywhere("1.0.0") | {"web2": "0.9.0"}
    assert list(ran.json["hosts"]) == ["web2"]


def test_a_dry_run_says_what_would_be_done_and_does_not(guard: Guard, fleet: Fleet) -> None:
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    ran = guard.json("rollback", "web", "--dry-run")
    assert ran.code == 0, ran
    assert ran.json["outcome"] == "dry_run"
    assert ran.json["hosts"]["web1"]["state"] == "planned"
    assert ran.json["hosts"]["web1"]["to"]["image"] == "web:1.0.0"
    assert running(fleet) == everywhere("1.1.0")


def test_a_target_that_does_not_start_is_undone(guard: Guard, fleet: Fleet) -> None:
    fleet.provide("1.1.0", Behaviour.EXIT)
    ran = guard.json("rollback", "web", "--to", "web:1.1.0")
    assert ran.code == 4, ran
    assert "reverted" in {host["state"] for host in ran.json["hosts"].values()}
    fleet.wait_healthy()
    assert running(fleet) == everywhere("1.0.0")


def test_a_host_out_of_reach_holds_nobody_up_and_converges_on_resume(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    fleet.host("web2").stop_sshd()
    ran = guard.json("rollback", "web")
    assert ran.code == 4, ran
    assert ran.json["outcome"] == "partial"
    assert {name: host["state"] for name, host in ran.json["hosts"].items()} == {
        "web1": "restored",
        "web2": "unreachable",
        "web3": "restored",
    }
    assert guard("resume").code == 5
    assert running(fleet) == everywhere("1.0.0") | {"web2": "1.1.0"}
    fleet.host("web2").start_sshd()
    resumed = guard.json("resume")
    assert resumed.code == 0, resumed
    assert running(fleet) == everywhere("1.0.0")
    assert [r["outcome"] for r in guard.json("history").json["rollbacks"]] == ["restored"]


def test_guard_killed_in_the_middle_is_finished_by_resume_as_one_record(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    process = guard.start("rollback", "web")
    deadline = time.monotonic() + 20
    while not list(guard.state.glob("runs/rb-*/run-1/pid")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert guard.json("history").json["rollbacks"][0]["outcome"] == "unfinished"
    resumed = guard("resume")
    assert resumed.code == 0, resumed
    assert running(fleet) == everywhere("1.0.0")
    assert [r["outcome"] for r in guard.json("history").json["rollbacks"]] == ["restored"]
    for host in fleet.hosts:
        assert host.docker("ps", "--all", "--format", "{{.Names}}").split() == ["web"]


def test_two_guards_do_not_work_on_one_service(guard: Guard, fleet: Fleet) -> None:
    fleet.deploy(fleet.provide("1.1.0"))
    fleet.wait_healthy()
    gate = guard.start("gate", "web", "--for", "20s")
    assert gate.stdout is not None
    gate.stdout.readline()
    ran = guard("rollback", "web")
    assert ran.code == 75, ran
    assert "held" in ran.stderr
    assert running(fleet) == everywhere("1.1.0")
    gate.send_signal(signal.SIGINT)
    gate.communicate(timeout=20)
    assert gate.returncode == 130
    assert guard("rollback", "web").code == 0
