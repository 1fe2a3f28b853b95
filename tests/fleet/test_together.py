"""``guard gate web worker --together``: all services of the gate go back, or none, on real hosts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guard_command import CONFIG, Guard, Ran

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour, image_id, web_image

GOOD = "web:1.0.0"
PORTS = {"web": 8080, "worker": 8081}


@pytest.fixture
def two(guard: Guard, fleet: Fleet) -> Guard:
    """web (which needs worker) and worker, both on every host."""
    fleet.deploy(GOOD, "worker", PORTS["worker"])
    fleet.wait_healthy(PORTS["worker"])
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    web = config["services"][0]
    worker = json.loads(json.dumps(web).replace(":8080", ":8081")) | {"name": "worker", "container": "worker"}
    config["services"] = [web | {"depends_on": ["worker"]}, worker]
    guard.configure(config)
    return guard


def deploy(fleet: Fleet, **behaviours: Behaviour) -> None:
    for name, behaviour in behaviours.items():
        fleet.deploy(fleet.provide(f"1.1.{len(behaviour)}", behaviour), name, PORTS[name])


def images(fleet: Fleet) -> dict[str, set[str]]:
    """Service → the images that run, by ID, over all hosts; with what is left over, if anything is."""
    found: dict[str, set[str]] = {}
    for host in fleet.hosts:
        for name in host.docker("ps", "--all", "--format", "{{.Names}}").split():
            told = host.docker("inspect", "--format", "{{.State.Running}} {{.Image}}", name)
            found.setdefault(name, set()).add(told)
    return found


def all_run(reference: str, behaviour: Behaviour = Behaviour.GOOD) -> set[str]:
    return {f"true {image_id(web_image(reference, behaviour))}"}


def told(gate: Ran) -> dict[str, str]:
    return {rollback["service"]: rollback["outcome"] for rollback in gate.json["rollbacks"]}


def test_a_service_that_did_not_fail_goes_back_with_the_one_that_did(two: Guard, fleet: Fleet) -> None:
    assert two("snapshot", "web", "worker").code == 0
    deploy(fleet, web=Behaviour.GOOD, worker=Behaviour.ERROR)
    fleet.wait_healthy(PORTS["web"])
    ran = two.json("gate", "web", "worker", "--for", "8s", "--together", timeout=120)
    assert ran.code == 3, ran
    assert told(ran) == {"web": "restored", "worker": "restored"}
    assert list(told(ran)) == ["web", "worker"]  # what depends on others goes first
    assert images(fleet) == {"web": all_run(GOOD), "worker": all_run(GOOD)}
    for rollback in ran.json["rollbacks"]:  # both have images of one repository: neither backup tag moved the other
        for name, host in rollback["hosts"].items():
            tagged = fleet.host(name).docker("image", "inspect", "--format", "{{.Id}}", f"web:{host['backup_tag']}")
            assert tagged == host["from"]["image_id"], rollback
    judged = {name: [r["state"] for r in two.json("releases", name).json["releases"]] for name in PORTS}
    assert judged["worker"][:2] == ["good", "rejected"]
    assert "rejected" not in judged["web"]  # its release had done nothing wrong


def test_a_service_nothing_was_deployed_to_stays(two: Guard, fleet: Fleet) -> None:
    fleet.provide("0.9.0")
    assert two("snapshot", "web", "worker").code == 0
    deploy(fleet, worker=Behaviour.ERROR)
    ran = two.json("gate", "web", "worker", "--for", "8s", "--together", timeout=120)
    assert ran.code == 3, ran
    assert images(fleet) == {"web": all_run(GOOD), "worker": all_run(GOOD)}
    states = {r["service"]: {h["state"] for h in r["hosts"].values()} for r in ran.json["rollbacks"]}
    assert states == {"web": {"unchanged"}, "worker": {"restored"}}


def test_one_rule_that_says_no_keeps_all_of_them_where_they_are(two: Guard, fleet: Fleet) -> None:
    assert two("snapshot", "web", "worker").code == 0
    assert two("hold", "web", "--for", "1h", "--reason", "migration").code == 0
    deploy(fleet, web=Behaviour.GOOD, worker=Behaviour.ERROR)
    before = images(fleet)
    ran = two.json("gate", "web", "worker", "--for", "8s", "--together", timeout=120)
    assert ran.code == 5, ran
    assert ran.json["outcome"] == "not_rolled_back"
    assert told(ran) == {"web": "refused", "worker": "refused"}
    assert all("web: hold: held until" in rollback["reason"] for rollback in ran.json["rollbacks"])
    assert images(fleet) == before
    assert not list(two.state.glob("runs/rb-*"))


def test_one_host_that_cannot_be_prepared_and_nothing_is_changed_anywhere(two: Guard, fleet: Fleet) -> None:
    assert two("snapshot", "web", "worker").code == 0
    deploy(fleet, web=Behaviour.GOOD, worker=Behaviour.ERROR)
    fleet.host("web3").exec(["sh", "-c", "rm -rf /var/lib/guard; echo taken >/var/lib/guard"])
    before = images(fleet)
    ran = two.json("gate", "web", "worker", "--for", "8s", "--together", timeout=120)
    assert ran.code == 4, ran
    assert told(ran) == {"web": "failed", "worker": "failed"}
    assert "web on web3 can't be prepared" in ran.json["rollbacks"][1]["reason"], ran
    assert images(fleet) == before  # no replacement was left behind either
    for rollback in ran.json["rollbacks"]:
        assert {h: r["state"] for h, r in rollback["hosts"].items()} == {
            "web1": "skipped",
            "web2": "skipped",
            "web3": "failed",
        }


def worker_cannot_go_back(fleet: Fleet) -> None:
    """The newest other image on web2 exits at once; what is deployed is bad for the worker."""
    deploy(fleet, worker=Behaviour.ERROR, web=Behaviour.ERROR)
    fleet.host("web2").docker("tag", GOOD, "web:good")
    fleet.host("web2").docker("rm", "--force", "worker")
    fleet.host("web2").docker("tag", "web:1.1.5", "other:1.1.5")
    fleet.host("web2").load(web_image("other:1.0.5", Behaviour.EXIT))
    fleet.host("web2").docker("run", "-d", "--name=worker", "--publish=8081:8080", "other:1.1.5")


def test_one_service_that_fails_in_its_swap_and_all_get_back_what_they_had(two: Guard, fleet: Fleet) -> None:
    worker_cannot_go_back(fleet)
    before = images(fleet)
    ran = two.json("gate", "web", "worker", "--for", "8s", "--together", timeout=120)
    assert ran.code == 4, ran
    assert told(ran) == {"web": "failed", "worker": "failed"}
    assert images(fleet) == before
    web, worker = ran.json["rollbacks"]
    assert {host["state"] for host in web["hosts"].values()} == {"reverted"}
    assert "worker failed on web2" in web["hosts"]["web1"]["error"], ran
    assert "loop" in worker["hosts"]["web2"]["error"] or "exited" in worker["hosts"]["web2"]["error"]


def _runs(state: Path, name: str) -> list[Path]:
    return [run for run in state.glob("runs/rb-*/run-*/run.json") if f'"service": "{name}"' in run.read_text()]


def _swapping_worker(state: Path) -> bool:
    return len(_runs(state, "worker")) >= 2  # one prepared, one swaps


def _preparing(state: Path) -> bool:
    return len(_runs(state, "worker")) >= 1 and len(_runs(state, "web")) >= 1


@pytest.mark.parametrize("point", [_preparing, _swapping_worker])
def test_a_group_cut_off_by_a_crash_is_finished_as_a_group(
    two: Guard, fleet: Fleet, point: Callable[[Path], bool]
) -> None:
    assert two("snapshot", "web", "worker").code == 0
    deploy(fleet, web=Behaviour.GOOD, worker=Behaviour.ERROR)
    killed(two, point)
    resumed = two.json("resume", timeout=120)
    assert resumed.code == 0, resumed
    assert images(fleet) == {"web": all_run(GOOD), "worker": all_run(GOOD)}
    records = two.json("history").json["rollbacks"]
    assert [(r["service"], r["outcome"]) for r in records] == [("worker", "restored"), ("web", "restored")]


def _going_back(state: Path) -> bool:
    return bool(list(state.glob("runs/rb-*/plan-back.json")))


def test_a_group_that_was_going_back_is_resumed_going_back(two: Guard, fleet: Fleet) -> None:
    worker_cannot_go_back(fleet)
    before = images(fleet)
    killed(two, _going_back)
    two.json("resume", timeout=120)
    assert images(fleet) == before
    records = two.json("history").json["rollbacks"]
    assert [(r["service"], r["outcome"], r["phase"]) for r in records] == [
        ("worker", "failed", "reverted"),
        ("web", "failed", "reverted"),
    ]


def killed(two: Guard, point: Callable[[Path], bool]) -> None:
    gate = two.start("gate", "web", "worker", "--for", "20s", "--together")
    deadline = time.monotonic() + 60
    while not point(two.state):
        assert time.monotonic() < deadline and gate.poll() is None
        time.sleep(0.005)
    gate.send_signal(signal.SIGKILL)
    gate.communicate()
