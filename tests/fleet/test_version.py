"""An old instance that still answers does not pass for the release under test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from guard_command import Guard

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour


def test_a_healthy_answer_of_the_old_version_rolls_back_and_that_of_the_new_one_passes(
    guard: Guard, fleet: Fleet, tmp_path: Path
) -> None:
    deployed, stale = fleet.hosts[0], fleet.hosts[1]
    more = tmp_path / "more.yml"
    config: dict[str, Any] = yaml.safe_load(guard.config.read_text())
    web = config["services"][0]
    check = {"type": "http", "url": "http://{{ answers }}:8080/healthz", "expect": {"version": {"json": "version"}}}
    web |= {"hosts": deployed.name, "checks": [check]}
    guard.configure({**config, "inventory": [str(fleet.inventory), str(more)]})
    new = fleet.provide("1.1.0", Behaviour.GOOD)

    more.write_text(yaml.safe_dump({"all": {"hosts": {deployed.name: {"answers": stale.address}}}}))
    assert guard("snapshot", "web").code == 0
    fleet.deploy(new, hosts=[deployed])
    ran = guard.json("gate", "web", "--for", "2s")
    assert ran.code == 3, ran
    assert "version 1.0.0 answers, and 1.1.0 is under test" in ran.json["reason"]
    assert ran.json["rollbacks"][0]["verified"], "after the rollback 1.0.0 is what should answer"

    more.write_text(yaml.safe_dump({"all": {"hosts": {deployed.name: {"answers": deployed.address}}}}))
    fleet.deploy(fleet.provide("1.2.0", Behaviour.GOOD), hosts=[deployed])
    ran = guard.json("gate", "web", "--for", "2s")
    assert ran.code == 0, ran
