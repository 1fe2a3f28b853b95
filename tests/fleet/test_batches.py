"""What happens after a batch in which a host failed, on real hosts: ``on_batch_failure`` stop, continue and revert."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guard_command import CONFIG, Guard, Ran
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour, image_id, web_image

OLDER = "web:0.9.0"


def configured(guard: Guard, policy: str, batches: list[int | str] | None = None) -> None:
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    config["services"][0]["rollback"] |= {"on_batch_failure": policy, "batches": batches or [1, "50%", "100%"]}
    guard.configure(config)


def one_host_cannot(fleet: Fleet, name: str = "web2", tag: str = OLDER) -> None:
    """All hosts hold an older release; on that one it exits at once."""
    for host in fleet.hosts:
        host.load(web_image(tag, Behaviour.EXIT if host.name == name else Behaviour.GOOD))


def states(ran: Ran) -> dict[str, str]:
    return {name: host["state"] for name, host in ran.json["hosts"].items()}


def nothing_is_left_over(fleet: Fleet) -> None:
    for host in fleet.hosts:
        assert host.docker("ps", "--all", "--format", "{{.Names}}").split() == ["web"], host.name


@pytest.mark.parametrize(
    ("policy", "outcome", "expected", "runs"),
    [
        (
            "stop",
            "partial",
            {"web1": "restored", "web2": "reverted", "web3": "skipped"},
            {"web1": "0.9.0", "web2": "1.0.0", "web3": "1.0.0"},
        ),
        (
            "continue",
            "partial",
            {"web1": "restored", "web2": "reverted", "web3": "restored"},
            {"web1": "0.9.0", "web2": "1.0.0", "web3": "0.9.0"},
        ),
        (
            "revert",
            "failed",
            {"web1": "reverted", "web2": "reverted", "web3": "skipped"},
            {"web1": "1.0.0", "web2": "1.0.0", "web3": "1.0.0"},
        ),
    ],
)
def test_each_policy_does_what_it_says(
    guard: Guard, fleet: Fleet, policy: str, outcome: str, expected: dict[str, str], runs: dict[str, str]
) -> None:
    configured(guard, policy)
    one_host_cannot(fleet)
    ran = guard.json("rollback", "web", "--to", OLDER)
    assert ran.code == 4, ran
    assert ran.json["outcome"] == outcome, ran
    assert states(ran) == expected, ran
    assert running(fleet) == runs
    assert "exit code 1" in ran.json["hosts"]["web2"]["error"]
    nothing_is_left_over(fleet)


def test_reverting_says_why_keeps_both_backup_tags_true_and_judges_no_release(guard: Guard, fleet: Fleet) -> None:
    configured(guard, "revert")
    one_host_cannot(fleet)
    assert guard("snapshot", "web").code == 0
    ledger = guard.json("releases", "web").json
    ran = guard.json("rollback", "web", "--to", OLDER)
    web1 = ran.json["hosts"]["web1"]
    assert web1["error"] == "put back: web2 failed, and on_batch_failure is revert"
    assert (web1["from"]["image"], web1["to"]["image"]) == ("web:1.0.0", OLDER)
    assert ran.json["verified"] is False
    assert ran.json["phase"] == "reverted"
    assert "taken back" in ran.json["reason"]
    host = fleet.host("web1")
    tags = host.docker("images", "--no-trunc", "--format", "{{.Tag}} {{.ID}}", "web").splitlines()
    backups = dict(line.split() for line in tags if line.startswith("backup_"))
    assert backups[web1["backup_tag"]] == image_id(web_image("web:1.0.0"))
    assert sorted(backups.values()) == sorted([image_id(web_image("web:1.0.0")), image_id(web_image(OLDER))])
    assert guard.json("releases", "web").json == ledger
    assert guard.json("history").json["rollbacks"][0]["outcome"] == "failed"


def test_after_a_gate_the_bad_release_stays_rejected_although_it_runs_again(guard: Guard, fleet: Fleet) -> None:
    configured(guard, "revert")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    fleet.host("web2").load(web_image("web:1.0.5", Behaviour.EXIT))  # the newest other image there
    ran = guard.json("gate", "web", "--for", "8s")
    assert ran.code == 4, ran
    assert states_of(ran) == {"web1": "reverted", "web2": "reverted", "web3": "skipped"}, ran
    assert running(fleet) == everywhere("1.1.0")
    releases = guard.json("releases", "web").json["releases"]
    assert [(r["state"], r["hosts"]["web1"]["image"]) for r in releases] == [("rejected", "web:1.1.0")]


def states_of(gate: Ran) -> dict[str, str]:
    return {name: host["state"] for name, host in gate.json["rollbacks"][0]["hosts"].items()}


def test_a_host_out_of_reach_is_not_a_failed_one(guard: Guard, fleet: Fleet) -> None:
    configured(guard, "revert")
    one_host_cannot(fleet, name="none of them")
    fleet.host("web2").stop_sshd()
    ran = guard.json("rollback", "web", "--to", OLDER)
    assert ran.json["outcome"] == "partial", ran
    assert states(ran) == {"web1": "restored", "web2": "unreachable", "web3": "restored"}


def test_when_a_host_cannot_be_prepared_no_other_is_touched(guard: Guard, fleet: Fleet) -> None:
    configured(guard, "revert")
    one_host_cannot(fleet, name="none of them")
    fleet.host("web3").exec(["sh", "-c", "echo taken >/var/lib/guard"])  # no journal can be kept there
    began = {h.name: h.docker("inspect", "--format", "{{.Id}}", "web") for h in fleet.hosts}
    ran = guard.json("rollback", "web", "--to", OLDER)
    assert states(ran) == {"web1": "skipped", "web2": "skipped", "web3": "failed"}, ran
    assert {h.name: h.docker("inspect", "--format", "{{.Id}}", "web") for h in fleet.hosts} == began
    nothing_is_left_over(fleet)


def _web2_has_failed(state: Path) -> bool:
    return any('"reverted"' in events.read_text() for events in state.glob("runs/rb-*/run-1/events.jsonl"))


def _putting_back(state: Path) -> bool:
    return bool(list(state.glob("runs/rb-*/run-2/pid")))


def _put_back(state: Path) -> bool:
    return any('"restored"' in events.read_text() for events in state.glob("runs/rb-*/run-2/events.jsonl"))


@pytest.mark.parametrize("point", [_web2_has_failed, _putting_back, _put_back])
def test_a_guard_killed_while_going_back_is_resumed_going_back(
    guard: Guard, fleet: Fleet, point: Callable[[Path], bool]
) -> None:
    configured(guard, "revert")
    one_host_cannot(fleet)
    process = guard.start("rollback", "web", "--to", OLDER)
    deadline = time.monotonic() + 40
    while not point(guard.state):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    resumed = guard.json("resume")
    assert running(fleet) == everywhere("1.0.0"), resumed
    record = guard.json("history").json["rollbacks"]
    assert [(r["outcome"], r["phase"]) for r in record] == [("failed", "reverted")]
    assert {name: host["state"] for name, host in record[0]["hosts"].items()} == {
        "web1": "reverted",
        "web2": "reverted",
        "web3": "skipped",
    }, resumed
    assert "resume" not in guard("resume").stdout.replace("nothing to resume", "")
    nothing_is_left_over(fleet)
