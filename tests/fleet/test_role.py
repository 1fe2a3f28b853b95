"""The role of ``integrations/ansible`` in a play that deploys, on real hosts: whole, limited, in batches, and as a check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from guard_command import GUARD, Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour

INTEGRATION = Path(__file__).parents[2] / "integrations" / "ansible"
DEPLOY = """\
- ansible.builtin.command: docker rm --force web
- ansible.builtin.command:
    argv: [docker, run, --detach, --name, web, --publish, "{{ ansible_host }}:8080:8080", "{{ image }}"]
"""


def play(guard: Guard, fleet: Fleet, image: str, *options: str, serial: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the example play with a deploy of ``image``."""
    text = (INTEGRATION / "deploy.yml").read_text()
    folder = guard.folder
    (folder / "deploy.yml").write_text(
        text.replace("hosts: web\n", f"hosts: web\n  serial: {serial}\n") if serial else text
    )
    (folder / "tasks.yml").write_text(DEPLOY)
    given = {
        "deploy_tasks": str(folder / "tasks.yml"),
        "image": image,
        "guard_services": ["web"],
        "guard_for": "2s",
        "guard_program": str(GUARD),
        "guard_environment": {"GUARD_CONFIG": str(guard.config), "GUARD_STATE_DIR": str(guard.state)},
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(fleet.inventory), "deploy.yml"]
    environ = {
        **guard.environment,
        "ANSIBLE_ROLES_PATH": str(INTEGRATION / "roles"),
        "ANSIBLE_HOME": str(folder / "ansible"),
    }
    environ["PATH"] = f"{GUARD.parent}:{os.environ['PATH']}"
    asked = [*command, "--extra-vars", json.dumps(given), *options]
    return subprocess.run(asked, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=180)


@pytest.mark.parametrize(("serial", "options"), [(0, ()), (1, ()), (0, ("--limit", "web1"))])
def test_a_good_deploy_passes_with_one_snapshot_and_one_gate(
    guard: Guard, fleet: Fleet, serial: int, options: tuple[str, ...]
) -> None:
    ran = play(guard, fleet, fleet.provide("1.1.0", Behaviour.GOOD), *options, serial=serial)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    gates = guard.json("history").json["gates"]
    assert [gate["outcome"] for gate in gates] == ["healthy"]
    origins = [release["origin"] for release in guard.json("releases", "web").json["releases"]]
    assert origins.count("snapshot") == 1


def test_a_bad_deploy_fails_the_play_and_what_ran_before_is_back(guard: Guard, fleet: Fleet) -> None:
    ran = play(guard, fleet, fleet.provide("1.1.0", Behaviour.ERROR))
    assert ran.returncode != 0, ran.stdout
    assert running(fleet) == everywhere("1.0.0")
    assert "ROLLED BACK" in ran.stdout, ran.stdout


def test_check_mode_changes_nothing_and_says_whether_a_rollback_could_work(guard: Guard, fleet: Fleet) -> None:
    ran = play(guard, fleet, fleet.provide("1.1.0", Behaviour.ERROR), "--check")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert running(fleet) == everywhere("1.0.0")
    assert guard.json("history").json["gates"] == []
