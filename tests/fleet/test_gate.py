"""``guard gate`` after real deploys of real bad releases."""

from __future__ import annotations

import copy
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from guard_command import CONFIG, Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour


def deploy(fleet: Fleet, version: str, behaviour: Behaviour, **env: str) -> None:
    fleet.deploy(fleet.provide(version, behaviour), env=env)


def config(**service: Any) -> dict[str, Any]:
    changed = copy.deepcopy(CONFIG)
    rollback = service.pop("rollback", {})
    changed["services"][0].update(service)
    changed["services"][0]["rollback"].update(rollback)
    return changed


def test_a_good_release_passes_and_is_called_good(guard: Guard, fleet: Fleet) -> None:
    assert guard("snapshot", "web").code == 0
    deploy(fleet, "1.1.0", Behaviour.GOOD)
    fleet.wait_healthy()
    ran = guard.json("gate", "web", "--for", "2s")
    assert ran.code == 0, ran
    assert ran.json["outcome"] == "healthy"
    assert {t["state"] for t in ran.json["services"][0]["targets"]} == {"healthy"}
    newest = guard.json("releases", "web").json["releases"][0]
    assert newest["state"] == "good"
    assert newest["hosts"]["web1"]["image"] == "web:1.1.0"
    assert running(fleet) == everywhere("1.1.0")


@pytest.mark.parametrize(
    ("behaviour", "env"),
    [
        (Behaviour.ERROR, {}),
        (Behaviour.HANG, {}),
        (Behaviour.EXIT, {}),
        (Behaviour.TURNS_BAD, {"TURNS_BAD_AFTER": "4"}),
    ],
)
def test_a_bad_release_is_rolled_back_on_every_host(
    guard: Guard, fleet: Fleet, behaviour: Behaviour, env: dict[str, str]
) -> None:
    assert guard("snapshot", "web").code == 0
    deploy(fleet, "1.1.0", behaviour, **env)
    ran = guard.json("gate", "web", "--for", "8s")
    assert ran.code == 3, ran
    assert ran.json["outcome"] == "rolled_back"
    assert running(fleet) == everywhere("1.0.0")
    rollback = ran.json["rollbacks"][0]
    assert rollback["outcome"] == "restored"
    assert rollback["verified"] is True
    assert {host["state"] for host in rollback["hosts"].values()} == {"restored"}
    assert {host["from"]["image"] for host in rollback["hosts"].values()} == {"web:1.1.0"}
    assert [r["state"] for r in guard.json("releases", "web").json["releases"][:2]] == ["good", "rejected"]


def test_a_release_that_somebody_took_back_during_the_gate_does_not_pass(guard: Guard, fleet: Fleet) -> None:
    """What answers then is the old release: it is neither green nor itself rolled back or rejected."""
    assert guard("snapshot", "web").code == 0
    deploy(fleet, "1.1.0", Behaviour.GOOD)
    fleet.wait_healthy()
    patient = config()
    patient["defaults"]["failure_threshold"] = 12  # longer than a deploy takes
    guard.configure(patient)
    gate = guard.start("gate", "web", "--for", "30s", "--output", "json")
    while guard.json("releases", "web").json["releases"][0]["hosts"]["web1"]["image"] != "web:1.1.0":
        assert gate.poll() is None
    deploy(fleet, "1.0.0", Behaviour.GOOD)
    out, err = gate.communicate(timeout=100)
    assert gate.returncode == 3, out + err
    assert "not the release under test web:1.1.0" in out
    assert running(fleet) == everywhere("1.0.0")
    states = {r["hosts"]["web1"]["image"]: r["state"] for r in guard.json("releases", "web").json["releases"]}
    assert states["web:1.0.0"] != "rejected"


def test_the_record_the_backup_tag_and_the_private_artifacts_are_there(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    deploy(fleet, "1.1.0", Behaviour.ERROR)
    gate = guard("gate", "web", "--for", "5s")
    assert gate.code == 3, gate
    assert "3/3" in gate.stdout
    assert "ROLLED BACK" in gate.stdout
    listed = guard.json("history").json
    rollback = guard.json("history", listed["rollbacks"][0]["id"]).json
    assert guard.json("history", listed["gates"][0]["id"]).json["outcome"] == "rolled_back"
    tag = rollback["hosts"]["web1"]["backup_tag"]
    assert re.fullmatch(r"backup_\d{8}_\d{6}", tag)
    for host in fleet.hosts:
        assert (
            host.docker("image", "inspect", "--format", "{{.Id}}", f"web:{tag}")
            == rollback["hosts"][host.name]["from"]["image_id"]
        )
    artifacts = Path(rollback["artifacts"])
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    assert {"plan.json", "events.jsonl", "result.json", "stdout.log"} <= {path.name for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [artifacts, *artifacts.rglob("*")] if path.is_dir()} == {
        0o700
    }


@pytest.mark.parametrize(
    ("service", "arguments", "rule"),
    [
        ({"critical": False}, (), "critical"),
        ({}, ("--dry-run",), "dry_run"),
        ({"rollback": {"fallback": "none"}}, (), "target_known"),
    ],
)
def test_what_a_rule_forbids_is_not_rolled_back(
    guard: Guard, fleet: Fleet, service: dict[str, Any], arguments: tuple[str, ...], rule: str
) -> None:
    guard.configure(config(**service))
    deploy(fleet, "1.1.0", Behaviour.ERROR)
    ran = guard.json("gate", "web", "--for", "5s", *arguments)
    assert ran.code == 5, ran
    assert ran.json["outcome"] == "not_rolled_back"
    assert f"{rule}:" in ran.json["reason"]
    assert running(fleet) == everywhere("1.1.0")


def test_a_held_service_is_left_alone_and_released_again(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    deploy(fleet, "1.1.0", Behaviour.ERROR)
    assert guard("hold", "web", "--for", "1h", "--reason", "migration").code == 0
    ran = guard.json("gate", "web", "--for", "5s")
    assert ran.code == 5, ran
    assert "migration" in ran.json["reason"]
    assert guard.json("rollback", "web").code == 5
    assert running(fleet) == everywhere("1.1.0")
    assert guard("unhold", "web").code == 0
    assert guard("rollback", "web").code == 0
    assert running(fleet) == everywhere("1.0.0")


def test_a_gate_that_cannot_see_is_inconclusive(guard: Guard, fleet: Fleet) -> None:
    only_docker = config()
    only_docker["services"][0]["checks"] = [{"type": "docker"}]
    guard.configure(only_docker)
    fleet.each(lambda host: host.stop_sshd())
    ran = guard.json("gate", "web", "--for", "3s")
    assert ran.code == 6, ran
    assert ran.json["outcome"] == "inconclusive"
    assert guard.json("check").code == 6


def test_a_tag_that_was_moved_does_not_change_what_is_restored(guard: Guard, fleet: Fleet) -> None:
    before = {h.name: h.docker("inspect", "--format", "{{.Image}}", "web") for h in fleet.hosts}
    guard("snapshot", "web")
    bad = fleet.provide("1.1.0", Behaviour.ERROR)
    fleet.each(lambda host: host.docker("tag", bad, "web:1.0.0"))
    fleet.deploy("web:1.0.0")
    ran = guard.json("gate", "web", "--for", "5s")
    assert ran.code == 3, ran
    assert {h.name: h.docker("inspect", "--format", "{{.Image}}", "web") for h in fleet.hosts} == before


def test_the_configuration_of_the_container_survives(guard: Guard, fleet: Fleet) -> None:
    args = ["--label=team=shop", "--volume=data:/data", "--memory=64m", "--log-opt=max-size=1m", "--cap-drop=MKNOD"]
    guard("snapshot", "web")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR), env={"TOKEN": "s3cret{{ 7*7 }}"}, args=args)

    def settings() -> dict[str, dict[str, Any]]:
        """What the user set; an empty list and no list at all are the same to an engine."""
        seen = {h.name: json.loads(h.docker("inspect", "web"))[0] for h in fleet.hosts}
        return {
            name: {
                "host": {key: value for key, value in one["HostConfig"].items() if value},
                "labels": one["Config"]["Labels"]["team"],
                "mounts": [(m["Name"], m["Destination"]) for m in one["Mounts"]],
            }
            for name, one in seen.items()
        }

    before = settings()
    assert guard("gate", "web", "--for", "5s").code == 3
    assert settings() == before
    for host in fleet.hosts:
        environment = host.docker("inspect", "--format", "{{json .Config.Env}}", "web")
        assert "s3cret{{ 7*7 }}" in environment
        assert "VERSION=1.0.0" in environment
    leaked = [path for path in guard.state.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert leaked == []
