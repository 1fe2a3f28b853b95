"""Hooks around each host's swap, with the real command on real hosts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from typing import Any

from guard_command import CONFIG, Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour

DRAIN = """\
- name: Take it out of the load balancer
  mine.lb.note:
    text: "drain {{ inventory_hostname }} {{ guard_plans[inventory_hostname].target.image }} {{ web_port }}"
    diary: "{{ playbook_dir }}/../../../diary"
  delegate_to: localhost
- name: Look at the host
  ansible.builtin.command: test -d /proc
  changed_when: false
- name: Ask a neighbour
  ansible.builtin.command: test -d /proc
  changed_when: false
  delegate_to: web3
"""
UNDRAIN = """\
- name: Put it back into the load balancer
  mine.lb.note:
    text: "undrain {{ inventory_hostname }}"
    diary: "{{ playbook_dir }}/../../../diary"
  delegate_to: localhost
"""
NOTE = """\
#!/usr/bin/python3
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"text": {}, "diary": {}})
with open(module.params["diary"], "a") as diary:
    diary.write(module.params["text"] + "\\n")
module.exit_json(changed=True)
"""


def with_hooks(guard: Guard, drain: str = DRAIN, undrain: str = UNDRAIN, **rollback: Any) -> None:
    (guard.folder / "hooks").mkdir(exist_ok=True)
    (guard.folder / "hooks" / "drain.yml").write_text(drain)
    (guard.folder / "hooks" / "undrain.yml").write_text(undrain)
    module = guard.folder / "collections" / "ansible_collections" / "mine" / "lb" / "plugins" / "modules" / "note.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(NOTE)
    guard.environment["ANSIBLE_COLLECTIONS_PATH"] = str(guard.folder / "collections")
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    hooks = {"before": "hooks/drain.yml", "after": "hooks/undrain.yml"}
    config["services"][0]["rollback"] |= {"hooks": hooks, "batches": [1, "100%"], **rollback}
    guard.configure(config)


def diary(guard: Guard) -> list[str]:
    found = list(guard.state.glob("runs/diary"))
    return found[0].read_text().splitlines() if found else []


def test_hooks_run_with_the_users_collections_delegate_and_are_on_record(guard: Guard, fleet: Fleet) -> None:
    with_hooks(guard)
    assert guard("validate").code == 0
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    ran = guard.json("rollback", "web", "--limit", "web1:web2")
    assert ran.code == 0, ran
    assert running(fleet) == everywhere("1.0.0") | {"web3": "1.1.0"}
    assert diary(guard) == ["drain web1 web:1.0.0 8080", "undrain web1", "drain web2 web:1.0.0 8080", "undrain web2"]
    (run,) = guard.state.glob("runs/rb-*/run-1")
    said = json.loads((run / "run.json").read_text())["hooks"]["before"]
    assert said == {"file": str(guard.folder / "hooks/drain.yml"), "sha256": hashlib.sha256(DRAIN.encode()).hexdigest()}
    assert (run / "hooks" / "before.yml").read_text() == DRAIN
    assert list(ran.json["hosts"]) == ["web1", "web2"]  # a host that was only asked is none of the rollback's


def test_a_hook_that_fails_leaves_its_host_alone_and_one_that_fails_afterwards_says_what_runs(
    guard: Guard, fleet: Fleet
) -> None:
    refuse = (
        "- name: {}\n  ansible.builtin.fail: {{msg: the load balancer said no}}\n  when: inventory_hostname == '{}'\n"
    )
    with_hooks(guard, refuse.format("Drain", "web1"), refuse.format("Undrain", "web2"), on_batch_failure="continue")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    ran = guard.json("rollback", "web")
    assert ran.code == 4, ran
    hosts = ran.json["hosts"]
    assert {name: host["state"] for name, host in hosts.items()} == {
        "web1": "failed",
        "web2": "failed",
        "web3": "restored",
    }
    assert hosts["web1"]["error"] == "task 'Drain' failed: the load balancer said no"
    assert hosts["web2"]["error"] == "restored, but then task 'Undrain' failed: the load balancer said no"
    assert running(fleet) == everywhere("1.0.0") | {"web1": "1.1.0"}
    for host in fleet.hosts:
        assert host.docker("ps", "--all", "--format", "{{.Names}}").split() == ["web"], host.name


def test_with_revert_a_failing_hook_takes_the_others_back(guard: Guard, fleet: Fleet) -> None:
    refuse = "- name: Drain\n  ansible.builtin.fail: {msg: no}\n  when: inventory_hostname == 'web2'\n"
    with_hooks(guard, refuse, "- ansible.builtin.debug: {msg: back}\n", on_batch_failure="revert")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    ran = guard.json("rollback", "web")
    assert ran.code == 4, ran
    assert {name: host["state"] for name, host in ran.json["hosts"].items()} == {
        "web1": "reverted",
        "web2": "failed",
        "web3": "reverted",
    }
    assert running(fleet) == everywhere("1.1.0")


def test_a_bad_hook_is_found_before_anything_is_touched(guard: Guard, fleet: Fleet) -> None:
    with_hooks(guard, drain="- hosts: all\n")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    for command in (["validate"], ["rollback", "web"]):
        ran = guard(*command)
        assert ran.code == 2, ran
        assert "rollback.hooks.before" in ran.stderr
    assert running(fleet) == everywhere("1.1.0")
    (guard.folder / "hooks" / "drain.yml").unlink()
    assert "cannot be read" in guard("validate").stderr


SLOW = "- ansible.builtin.pause: {seconds: 6}\n  when: inventory_hostname == 'web1'\n"  # web1 is swapped, and drained


def crash(guard: Guard, run: str) -> None:
    """Kill guard and the run's own process right after web1's swap in that run, before its hook after the swap."""
    process = guard.start("rollback", "web")
    deadline = time.monotonic() + 90
    while not any('"restored"' in events.read_text() for events in guard.state.glob(f"runs/rb-*/{run}/events.jsonl")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (pid,) = guard.state.glob(f"runs/rb-*/{run}/pid")
    os.kill(json.loads(pid.read_text())["pid"], signal.SIGKILL)
    assert [line for line in diary(guard) if " web1" in line][-1].startswith("drain")


def nobody_is_drained(guard: Guard) -> None:
    lines = diary(guard)
    for name in ("web1", "web2", "web3"):
        last = [line.split()[0] for line in lines if line.split()[1] == name][-1]
        assert last == "undrain", lines


def test_after_a_crash_of_the_run_no_host_stays_drained(guard: Guard, fleet: Fleet) -> None:
    with_hooks(guard, undrain=SLOW + UNDRAIN)
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    crash(guard, "run-1")
    resumed = guard.json("resume", timeout=120)
    assert resumed.code == 0, resumed
    assert running(fleet) == everywhere("1.0.0")
    nobody_is_drained(guard)
    assert {h["state"] for h in guard.json("history").json["rollbacks"][0]["hosts"].values()} == {"restored"}


def test_nor_after_a_crash_on_the_way_back(guard: Guard, fleet: Fleet) -> None:
    fails_once = "- ansible.builtin.fail: {msg: no}\n  when: inventory_hostname == 'web2'\n"
    with_hooks(guard, undrain=SLOW + UNDRAIN, drain=DRAIN + fails_once, on_batch_failure="revert")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    crash(guard, "run-2")
    guard.json("resume", timeout=120)
    assert running(fleet) == everywhere("1.1.0")
    nobody_is_drained(guard)
    record = guard.json("history").json["rollbacks"][0]
    assert (record["outcome"], record["phase"]) == ("failed", "reverted")
