"""The entry points, run by ansible-playbook with local connections: several hosts share one engine here."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from .conftest import MODULE, PLAYBOOKS, Json, Restore

BIN = Path(sys.executable).parent


class Unsafe(str):
    """Text that Ansible never evaluates."""


class Dumper(yaml.SafeDumper):
    pass


Dumper.add_representer(Unsafe, lambda dumper, value: dumper.represent_scalar("!unsafe", str(value)))


def unsafe(value: object) -> object:
    if isinstance(value, dict):
        return {key: unsafe(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unsafe(item) for item in value]
    return Unsafe(value) if isinstance(value, str) else value


@dataclass
class Play:
    """ansible-playbook over hosts a, b, c …, each with a container of its own: web-a, web-b, web-c …"""

    restore: Restore
    folder: Path

    def deploy(self, hosts: str) -> None:
        for host in hosts:
            self.restore.engine.docker("run", "-d", "--name", f"web-{host}", "--restart", "unless-stopped", "web:1.1.0")

    def plans(self, hosts: Iterable[str], **changes: Json) -> dict[str, Json]:
        """A plan per host; ``changes`` by host."""
        return {host: self.restore.plan(container=f"web-{host}", **changes.get(host, {})) for host in hosts}

    def __call__(
        self, entry: str, plans: dict[str, Json], *options: str, unreachable: str = "", **variables: object
    ) -> subprocess.CompletedProcess[str]:
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        gone = {"ansible_host": "127.0.0.1", "ansible_port": 1}
        hosts = {host: gone if host in unreachable else local for host in plans}
        inventory, values = self.folder / "inventory.yml", self.folder / "variables.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}, sort_keys=False))
        values.write_text(yaml.dump(unsafe({"guard_plans": plans, **variables}), Dumper=Dumper))
        command = [BIN / "ansible-playbook", "-i", inventory, "-e", f"@{values}", PLAYBOOKS / f"{entry}.yml", *options]
        environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "LANG": "C.UTF-8",
        }
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    def images(self) -> dict[str, str]:
        """What runs on each host: {host: tag of this test's images}."""
        tags = {identity: tag for tag, identity in self.restore.ids.items()}
        return {
            name[-1]: tags[self.restore.engine.inspect(name)["Image"]]
            for name in self.restore.engine.docker("ps", "--format", "{{.Names}}").split()
        }


@pytest.fixture
def play(restore: Restore, tmp_path: Path) -> Play:
    return Play(restore, tmp_path)


OLD, NEW, EXITS = "web:1.1.0", "web:1.0.0", "web:exits"


def test_every_host_is_restored_batch_by_batch_after_all_are_prepared(play: Play) -> None:
    play.deploy("abc")
    ran = play("restore", play.plans("abc"), guard_batches=[1, 2])
    assert ran.returncode == 0, ran.stdout
    assert play.images() == {"a": NEW, "b": NEW, "c": NEW}
    began = {}
    for host in "abc":
        journal = next(play.restore.state.glob(f"web@web-{host}@*.journal"))
        for line in journal.read_text().splitlines():
            step = json.loads(line)
            began[step.get("step"), host] = step.get("at")
    created = [began["create-new", host] for host in "abc"]
    assert max(created) < min(began["rename-old", host] for host in "abc")
    assert began["done", "a"] < min(began["rename-old", host] for host in "bc")


def test_one_host_is_restored_in_one_task(play: Play) -> None:
    play.deploy("a")
    ran = play("restore", play.plans("a"), guard_batches=[1])
    assert "skipping: [a]" in ran.stdout and play.images() == {"a": NEW}
    again = play("restore", play.plans("a"), guard_batches=[1])
    assert again.returncode == 0 and "changed=0" in again.stdout


def test_a_host_that_cannot_be_prepared_is_left_alone_and_stops_no_other(play: Play) -> None:
    play.deploy("abc")
    gone = {"target": {"image": "web:0.1", "image_id": f"sha256:{'ab' * 32}"}}
    ran = play("restore", play.plans("abc", a=gone), guard_batches=[1, 2], guard_on_batch_failure="stop")
    assert "is not on this host any more" in ran.stdout
    assert play.images() == {"a": OLD, "b": NEW, "c": NEW}


def test_when_all_are_to_be_on_one_image_a_host_that_cannot_be_prepared_stops_all(play: Play) -> None:
    play.deploy("abc")
    gone = {"target": {"image": "web:0.1", "image_id": f"sha256:{'ab' * 32}"}}
    ran = play("restore", play.plans("abc", b=gone), guard_batches=[1, 2], guard_on_batch_failure="revert")
    assert "is not on this host any more" in ran.stdout
    assert play.images() == {"a": OLD, "b": OLD, "c": OLD}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("stop", {"a": OLD, "b": OLD, "c": OLD}), ("continue", {"a": OLD, "b": NEW, "c": NEW})],
)
def test_a_batch_that_failed(play: Play, policy: str, expected: dict[str, str]) -> None:
    play.deploy("abc")
    plans = play.plans("abc", a={"target": play.restore.target(EXITS)})
    ran = play("restore", plans, guard_batches=[1, 2], guard_on_batch_failure=policy)
    assert '"state": "reverted"' in ran.stdout
    assert play.images() == expected


def test_what_is_put_back_need_not_be_healthy_only_run(restore: Restore) -> None:
    restore.engine.docker("run", "-d", "--name", "web", "web:1.1.0")
    plan = restore.plan(target=restore.target("web:unhealthy"), health_timeout_s=2)
    assert restore("swap", plan)["state"] == "reverted"
    assert restore("swap", {**plan, "run_id": "run-1-back", "wait_healthy": False})["state"] == "restored"


def test_the_rest_of_a_batch_is_finished_when_one_of_it_fails(play: Play) -> None:
    play.deploy("abc")
    plans = play.plans("abc", a={"target": play.restore.target(EXITS)})
    play("restore", plans, guard_batches=[2, 1], guard_on_batch_failure="stop")
    assert play.images() == {"a": OLD, "b": NEW, "c": OLD}


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_an_unreachable_first_batch_is_not_a_failed_one(play: Play, policy: str) -> None:
    play.deploy("abc")
    ran = play("restore", play.plans("abc"), unreachable="a", guard_batches=[1, 2], guard_on_batch_failure=policy)
    assert "unreachable=1" in ran.stdout
    assert play.images() == {"a": OLD, "b": NEW, "c": NEW}


def test_prepare_and_discard_are_entries_of_their_own(play: Play) -> None:
    play.deploy("a")
    play("prepare", play.plans("a"), guard_prepare_alone=True)
    assert play.restore.leftovers() == {"web-a.guard-next"}
    assert play.images() == {"a": OLD}
    play("discard", play.plans("a"))
    assert play.restore.leftovers() == set()


def test_snapshot_pins_on_every_host(play: Play) -> None:
    play.deploy("ab")
    ran = play("snapshot", {host: {**plan, "target": None} for host, plan in play.plans("ab").items()})
    assert ran.returncode == 0, ran.stdout
    assert any(tag.startswith("web:guard_") for tag in play.restore.engine.tags())


def test_check_mode_shows_the_difference_and_changes_nothing(play: Play) -> None:
    play.deploy("a")
    ran = play("restore", play.plans("a"), "--check", "--diff")
    assert "-image: web:1.1.0\n" in ran.stdout and "+image: web:1.0.0\n" in ran.stdout
    assert play.images() == {"a": OLD}
    assert not play.restore.state.exists()


@pytest.mark.parametrize(
    "text",
    [
        "{{ lookup('pipe', 'touch /tmp/guard-was-here') }}",
        "$(touch /tmp/guard-was-here)",
        '"""\nimport os; os.system("touch /tmp/guard-was-here")\n"""',
        "'''\nimport os; os.system('touch /tmp/guard-was-here')\n'''",
        "ends with a backslash \\",
        'a quote before the end "',
        "<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>",
        "line\r\n\u2028\u2029\x00\x7f é 🦉",
    ],
)
def test_no_text_is_evaluated_anywhere_on_its_way(play: Play, text: str) -> None:
    play.deploy("a")
    plans = play.plans("a", a={"run_id": text})
    ran = play("restore", plans, guard_batches=[1])
    assert "plan.run_id must be a name" in ran.stdout, ran.stdout
    assert not Path("/tmp/guard-was-here").exists()
    assert play.restore("swap", plans["a"])["error"].startswith("plan.run_id must be a name")
    assert play.images() == {"a": OLD}


BAD = [
    ({"container": "--all"}, "plan.container must be a name"),
    ({"container": "../web"}, "plan.container must be a name"),
    ({"service": "a b"}, "plan.service must be a name"),
    ({"fence": -1}, "plan.fence must be a number"),
    ({"fence": True}, "plan.fence must be a number"),
    ({"fence": 1.5}, "plan.fence must be a number"),
    ({"backup_tag": "latest"}, "plan.backup_tag must be backup_YYYYMMDD_HHMMSS"),
    ({"target": "web:1.0.0"}, "plan.target must be a mapping"),
    ({"target": {"image": "web:1.0.0"}}, "plan.target image_id must be"),
    ({"target": {"image": "-web", "image_id": f"sha256:{'a' * 64}"}}, "plan.target image must be an image reference"),
    ({"target": {"image": "web", "image_id": f"sha256:{'A' * 64}"}}, "plan.target image_id must be"),
    (
        {"target": {"image": "web", "image_id": f"sha256:{'a' * 64}", "digest": "web:1"}},
        "plan.target must be repository@",
    ),
    ({"engine": "ssh://host"}, "plan.engine must be unix:///path or tcp://host:port"),
    ({"state_dir": "guard"}, "plan.state_dir must be an absolute path"),
    ({"stable_s": "1"}, "plan.stable_s must be a number"),
    ({"force": "yes"}, "plan.force must be true or false"),
    ({"surprise": 1}, "plan.surprise is not known"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_a_bad_plan_is_refused_by_name_before_anything_is_touched(
    restore: Restore, changes: Json, message: str
) -> None:
    result = restore("swap", restore.plan(**changes))
    assert (result["state"], result["kind"]) == ("failed", "plan")
    assert message in result["error"]
    assert not restore.state.exists()


@pytest.mark.parametrize("key", ["service", "container", "run_id", "fence", "target", "backup_tag"])
def test_a_missing_value_is_named(restore: Restore, key: str) -> None:
    plan = restore.plan()
    del plan[key]
    assert f"plan.{key} is missing" in restore("swap", plan)["error"]


def test_a_mode_or_argument_that_does_not_exist_is_refused(restore: Restore) -> None:
    assert restore("erase")["kind"] == "plan"
    assert restore("swap", ["not", "a", "mapping"])["kind"] == "plan"


def test_the_module_is_one_file_for_python_3_8_without_packages() -> None:
    tree = ast.parse(MODULE.read_text(), feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)
    assert MODULE.read_text().count("<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>") == 1
