"""Bad input ends with a clear error and the right exit code, never a traceback, and changes nothing on any host."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
from guard_command import CONFIG, Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.rollback.catalog import digest_of, load, read_files, shipped_path

CHECK = {"type": "http", "url": "http://{{ ansible_host }}:8080/healthz"}


def changed(**service: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    config["services"][0].update(service)
    return config


@pytest.mark.parametrize(
    ("config", "arguments", "says"),
    [
        ({**CONFIG, "inventory": "nowhere.yml"}, ("validate",), "nowhere.yml"),
        (changed(hosts="nobody"), ("rollback", "web"), "nobody"),
        (CONFIG, ("gate", "wbe", "--for", "5s"), "wbe"),
        (CONFIG, ("rollback", "web", "--to", "-x; rm"), "--to"),
        (CONFIG, ("gate", "web", "--for", "soon"), "--for"),
        (changed(rollback={"playbook": "container@9"}), ("rollback", "web"), "container@9"),
        ("services:\n  - name: web\n    checks:\n      - {type: http, url: x, intervall: 5s}\n", ("check",), ":4"),
        ("services: [\n", ("check",), "guard.yml"),
    ],
)
def test_it_says_what_is_wrong_and_ends_with_2(
    guard: Guard, fleet: Fleet, config: dict[str, Any] | str, arguments: tuple[str, ...], says: str
) -> None:
    guard.configure(config)
    ran = guard(*arguments)
    assert ran.code == 2, ran
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr + ran.stdout
    assert running(fleet) == everywhere("1.0.0")


def test_a_playbook_folder_whose_content_was_changed_is_refused(guard: Guard, fleet: Fleet) -> None:
    own = guard.folder / "playbooks" / "container"
    shutil.copytree(shipped_path() / "container" / "1.0.0", own / "1.0.0")
    (own / "1.0.0" / "restore.yml").open("a").write("# changed\n")
    guard.configure({**CONFIG, "playbook_path": ["playbooks"]})
    ran = guard("rollback", "web")
    assert ran.code == 2, ran
    expected = load(shipped_path() / "container" / "1.0.0").reference.digest
    assert expected in ran.stderr
    assert digest_of(dict(read_files(own / "1.0.0"))) in ran.stderr
    assert running(fleet) == everywhere("1.0.0")


def test_a_state_folder_that_cannot_be_written_is_named(guard: Guard, fleet: Fleet) -> None:
    guard.state.write_text("a file where a folder should be")
    ran = guard("rollback", "web")
    assert ran.code == 1, ran
    assert str(guard.state) in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_engine_or_database_that_is_not_there_is_unhealthy_and_says_so(guard: Guard, fleet: Fleet) -> None:
    checks = [{"type": "docker"}, {"type": "postgres", "dsn": "postgresql://u:pw-secret@127.0.0.1:1/db"}]
    guard.configure(changed(checks=checks))
    fleet.host("web1").kill_engine()
    ran = guard.json("check")
    assert ran.code == 1, ran
    states = {(t["check"], t["host"]): t["state"] for t in ran.json["services"][0]["targets"]}
    assert states["docker", "web1"] == "unhealthy"
    assert states["docker", "web2"] == "healthy"
    assert states["postgres", None] == "unhealthy"
    assert "pw-secret" not in ran.stdout + ran.stderr


def test_the_older_json_form_and_validate_init_and_schema(guard: Guard, fleet: Fleet) -> None:
    host = fleet.host("web1")
    guard.configure(
        '{"health_check": {"failure_threshold": 3, "check_interval": 30, "timeout": 2, "warning_threshold": 2, "x": 1},'
        f' "endpoints": [{{"name": "web", "url": "http://{host.address}:8080/healthz", "type": "http", "critical": true}}]}}'
    )
    ran = guard.json("check")
    assert ran.code == 0, ran
    assert ran.json["services"][0]["targets"][0]["state"] == "healthy"
    assert guard("validate").code == 0
    assert guard.json("schema").json["$schema"]
    assert guard("init", "new").code == 0
    assert guard("validate", "--config", "new/guard.yml").code == 0
