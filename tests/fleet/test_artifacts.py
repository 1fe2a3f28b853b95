"""What a rollback leaves on the control node: complete, private, without secrets, and not for ever."""

from __future__ import annotations

import json
import os
import runpy
import signal
import stat
import time
from pathlib import Path
from typing import Any

import yaml
from guard_command import CONFIG, Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour
from guard.model import Image

SECRET = "hunter2-planted-here"
SCENARIOS = Path(__file__).parents[2] / "molecule/shared/fleet.py"


def with_secret(guard: Guard, **more: Any) -> None:
    """The hosts get a variable that is a secret, and the state folder a log file."""
    extra = guard.folder / "secrets.yml"
    extra.write_text(yaml.safe_dump({"web": {"vars": {"db_password": SECRET}}}))
    guard.configure({**CONFIG, "inventory": [str(guard.inventory), str(extra)], **more})


def too_open(state: Path) -> list[str]:
    """What others than the owner could read. Sockets and links there are none."""
    wanted = {True: 0o700, False: 0o600}
    found = [state, *state.rglob("*")]
    return [
        f"{path} {stat.S_IMODE(p.st_mode):o}"
        for path in found
        if stat.S_IMODE((p := path.lstat()).st_mode) != wanted[path.is_dir()]
    ]


def holding_secret(state: Path) -> list[Path]:
    return [path for path in state.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def kill_in_the_middle(guard: Guard, *args: str) -> str:
    """Begin a rollback, and kill guard and the run's own process as soon as the run has begun. Its ID."""
    before = set(guard.state.glob("runs/rb-*"))
    process = guard.start("rollback", "web", *args)
    deadline = time.monotonic() + 60
    while not (begun := [run for run in guard.state.glob("runs/rb-*/run-1/pid") if run.parent.parent not in before]):
        assert time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.01)
    process.kill()
    os.kill(json.loads(begun[0].read_text())["pid"], signal.SIGKILL)
    process.communicate()
    return begun[0].parent.parent.name


def test_a_gate_s_rollback_leaves_all_of_its_story_for_its_owner_alone(guard: Guard, fleet: Fleet) -> None:
    with_secret(guard)
    log = ["--log-file", str(guard.state / "log/guard.log")]
    assert guard("snapshot", "web", *log).code == 0
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    ran = guard("gate", "web", "--for", "20s", *log)
    assert ran.code == 3, ran
    assert too_open(guard.state) == []
    assert holding_secret(guard.state) == []

    record = guard.json("history").json["rollbacks"][0]
    text, told = guard("history", record["id"]).stdout, guard.json("history", record["id"]).json
    events = Path(record["artifacts"]) / "run-1/events.jsonl"
    assert told["events"] == [str(events)] and f"  events     {events}\n" in text
    assert {json.loads(line)["host"] for line in events.read_text().splitlines()} == {"web1", "web2", "web3"}
    for host in told["hosts"].values():
        assert host["state"] == "restored" and host["downtime_s"] > 0 and host["backup_tag"] in text
        assert f"web:1.1.0 ({host['from']['image_id'][7:19]}) -> web:1.0.0 ({host['to']['image_id'][7:19]})" in text

    asked = json.loads((events.parent / "run.json").read_text())["variables"]
    assert set(asked) == {"guard_plans", "guard_batches", "guard_on_batch_failure"}
    scenarios = runpy.run_path(str(SCENARIOS))
    plan = scenarios["plan"](fleet.host("web1"), Image("web:1.0.0", record["hosts"]["web1"]["to"]["image_id"]), "")
    assert set(plan) == set(asked["guard_plans"]["web1"]), "the Molecule scenarios give playbooks what guard gives them"


def test_a_target_that_does_not_start_leaves_its_last_words(guard: Guard, fleet: Fleet) -> None:
    fleet.provide("0.9.0", Behaviour.EXIT)
    ran = guard.json("rollback", "web", "--to", "web:0.9.0", "--limit", "web1")
    assert ran.code == 4, ran
    text, told = guard("history", ran.json["id"]).stdout, guard.json("history", ran.json["id"]).json
    log = Path(told["logs"]["web1"])
    assert "cannot read /etc/web.conf" in log.read_text() and f"  log        web1: {log}\n" in text
    assert "runs web:1.0.0 (" in text and "again" in text
    assert too_open(guard.state) == []


def test_retention_keeps_the_newest_and_what_is_unfinished_and_no_secret_of_a_killed_run(
    guard: Guard, fleet: Fleet
) -> None:
    with_secret(guard, retention={"runs": 1, "days": 30})
    guard("snapshot", "web")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    unfinished = kill_in_the_middle(guard, "--limit", "web1")
    assert holding_secret(guard.state), "the killed run was to leave its variables behind"
    ended = [guard.json("rollback", "web", "--limit", host).json["id"] for host in ("web2", "web3")]
    assert {run.name for run in guard.state.glob("runs/rb-*")} == {unfinished, ended[1]}
    assert len(list(guard.state.glob("runs/sn-*"))) == 1
    assert holding_secret(guard.state) == []
    assert guard.json("history", unfinished).json["outcome"] == "unfinished"
    gone = guard.json("history", ended[0]).json
    assert gone["outcome"] == "restored" and gone["events"] == []
    assert guard("resume").code == 0
    assert running(fleet) == everywhere("1.0.0")
    assert too_open(guard.state) == []
