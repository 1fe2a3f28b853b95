"""A playbook of the user's own, from ``guard playbooks eject`` to the record of a rollback with it."""

from __future__ import annotations

import json
from typing import Any

from guard_command import CONFIG, Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour


def test_a_copy_is_changed_refused_signed_and_then_runs(guard: Guard, fleet: Fleet) -> None:
    (guard.folder / "playbooks").mkdir()
    config: dict[str, Any] = {"playbook_path": "playbooks", **json.loads(json.dumps(CONFIG))}
    guard.configure(config)
    assert guard("playbooks", "eject", "container", "my-name").code == 0
    config["services"][0]["rollback"]["playbook"] = "my-name@1"
    guard.configure(config)
    folder = guard.folder / "playbooks" / "my-name" / "1.0.0"
    swap = folder / "swap.yml"
    swap.write_text(swap.read_text() + "\n    - name: Mine\n      ansible.builtin.command: touch /run/mine-was-here\n")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))

    refused = guard("rollback", "web")
    assert refused.code == 2, refused
    assert f"guard playbooks digest {folder} --write" in refused.stderr
    assert running(fleet) == everywhere("1.1.0")

    assert guard("playbooks", "digest", str(folder), "--write").code == 0
    ran = guard.json("rollback", "web")
    assert ran.code == 0, ran
    assert running(fleet) == everywhere("1.0.0")
    digest = guard.json("playbooks", "digest", str(folder)).json["digest"]
    record = guard.json("history", ran.json["id"]).json
    assert record["playbook"] == {"name": "my-name", "version": "1.0.0", "digest": digest}
    for host in fleet.hosts:
        host.exec(["rm", "/run/mine-was-here"])
