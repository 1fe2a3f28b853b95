from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.config import load as loading
from guard.config.checks import HttpCheck, PostgresCheck
from guard.config.load import load, load_file, locate, with_overrides
from guard.config.schema import GuardConfig
from guard.decide.thresholds import Thresholds
from guard.errors import ConfigError, UsageError
from guard.model import ComposeUnit, ContainerUnit

Read = Callable[..., GuardConfig]

CONTRACT = """\
inventory: inv
store: sqlite
defaults: {interval: 20s, timeout: 5s, failure_threshold: 4, warning_threshold: 2, success_threshold: 2}
services:
  - name: web
    critical: true
    hosts: web
    container: web
    depends_on: [warehouse]
    rollback:
      playbook: container@1
      batches: [1, "50%", "100%"]
      on_batch_failure: continue
      verify_for: 45s
      min_gap: 10m
      scope: failing
      good_after: 1h
      fallback: none
    quorum: "50%"
    checks:
      - {type: http, url: "http://{{ ansible_host }}:8080/healthz", expect: {status: 200, json: {status: ok}}}
      - {type: docker, interval: 2}
      - {type: http, url: "http://10.0.0.1/", failure_threshold: 1, headers: {Host: web}}
  - name: warehouse
    checks: [{type: postgres, dsn: "${WAREHOUSE_DSN}", query: "select 1"}]
"""
DSN = "postgresql://u:pw@db/x"


def test_the_contracts_example_is_read_whole(read: Read, tmp_path: Path) -> None:
    config = read(CONTRACT, WAREHOUSE_DSN=DSN)
    web, warehouse = config.services
    assert config.inventory == (tmp_path / "inv",)
    assert config.source == tmp_path / "guard.yml"
    assert (web.hosts, web.container, web.quorum, web.depends_on) == ("web", "web", "50%", ("warehouse",))
    assert web.rollback.batches == (1, "50%", "100%")
    assert (web.rollback.verify_for, web.rollback.min_gap, web.rollback.good_after) == (45.0, 600.0, 3600.0)
    assert [check.name for check in web.checks] == ["http", "docker", "http-2"]
    assert [check.per_host for check in web.checks] == [True, True, False]
    assert [check.interval for check in web.checks] == [20.0, 2.0, 20.0]
    assert web.checks[0].thresholds == Thresholds(failure=4, warning=2, success=2)
    assert web.checks[2].thresholds == Thresholds(failure=1, warning=1, success=2)
    http, database = web.checks[0], warehouse.checks[0]
    assert isinstance(http, HttpCheck) and http.expect.json == {"status": "ok"}
    assert http.expect.accepts(200) and not http.expect.accepts(204)
    assert isinstance(database, PostgresCheck) and database.dsn is not None
    assert database.dsn.get_secret_value() == DSN and "pw" not in repr(config)
    assert (warehouse.container, warehouse.hosts, warehouse.checks[0].per_host) == ("warehouse", None, False)


ONE = "services:\n  - name: web\n    checks:\n      - {type: http, url: 'http://h/'}\n"


def one(check: str = "{type: docker}", service: str = "", top: str = "") -> str:
    """A file whose check stands in line 4 (5 with a service key in line 3; one more with a top key)."""
    return f"{top}services:\n  - name: web\n{service and f'    {service}' + chr(10)}    checks:\n      - {check}\n"


ERRORS = [
    # what is written, the line, the key, and words of the expectation
    ("", 1, "", "empty"),
    ("- a\n", 1, "", "expected a mapping"),
    ("services: [\n", 2, "", "not valid YAML"),
    ("services:\n\t- x\n", 2, "", "not valid YAML"),
    ("a: 1\nb: \x01\n", 2, "", "not allowed"),
    ("services: []\n", 1, "services", "at least one"),
    ("inventory: inv\n", 1, "services", "missing"),
    ("services: {web: 1}\n", 1, "services", "expected a list"),
    (ONE + "stroe: sqlite\n", 5, "stroe", "did you mean store?"),
    (ONE + "store: postgresql://x/y\n", 5, "store", "not supported by this version"),
    (ONE + "store: redis\n", 5, "store", "expected sqlite"),
    (ONE + "inventory: nowhere\n", 5, "inventory", "there is no inventory"),
    (ONE + "inventory: []\n", 5, "inventory", "expected a path"),
    (ONE + "playbook_path: nowhere\n", 5, "playbook_path", "there is no folder"),
    (ONE + "retention: {runs: 0}\n", 5, "retention.runs", "at least 1"),
    (ONE + "defaults: {interval: fast}\n", 5, "defaults.interval", 'got "fast"'),
    (ONE + "defaults: {warning_threshold: 9}\n", 5, "defaults.warning_threshold", "at most failure_threshold (3)"),
    (ONE + "services: []\n", 5, "services", "given twice, first in line 1"),
    (ONE + "1: x\n", 5, "", "the key 1 is not text"),
    (ONE + "x: !vault abc\n", 5, "x", "vault file of the inventory"),
    (one("{type: http, url: x}"), 4, "services[0].checks[0].url", "expected a URL such as http://{{ ansible_host }}"),
    (one("{type: http, url: 'http://h:99999/'}"), 4, "services[0].checks[0].url", "expected a URL"),
    (one("{type: http, url: 'http://h/ x'}"), 4, "services[0].checks[0].url", "expected a URL"),
    (one("{type: http}"), 4, "services[0].checks[0].url", "missing"),
    (one("{type: http, url: 'http://{{ a | b }}/'}"), 4, "services[0].checks[0].url", "evaluates nothing"),
    (one("{type: http, url: 'http://{{ a }}/'}"), 4, "services[0].checks[0]", "this service has no hosts"),
    (one("{type: docker, interval: 0s}"), 4, "services[0].checks[0].interval", "longer than zero"),
    (one("{type: docker, interval: 1:30}"), 4, "services[0].checks[0].interval", 'got "1:30"'),
    (one("{type: docker, timeout: true}"), 4, "services[0].checks[0].timeout", "a duration such as 500ms, 30s, 5m, 1h"),
    (one("{type: docker, failure_threshold: 0}"), 4, "services[0].checks[0].failure_threshold", "at least 1, got 0"),
    (one("{type: docker, failure_threshold: yes}"), 4, "services[0].checks[0].failure_threshold", "got true"),
    (one("{type: docker, failure_threshold: 2.5}"), 4, "services[0].checks[0].failure_threshold", "got 2.5"),
    (one("{type: docker, warning_threshold: 4}"), 4, "services[0].checks[0].warning_threshold", "at most"),
    (one("{type: docker, urll: x}"), 4, "services[0].checks[0].urll", "Known keys here: name, type, interval"),
    (one("{type: dockr}"), 4, "services[0].checks[0].type", 'command or prometheus, got "dockr"'),
    (one("{type: prometheu}"), 4, "services[0].checks[0].type", "command or prometheus, got"),
    (one("{url: x}"), 4, "services[0].checks[0]", "missing key type"),
    (one("5"), 4, "services[0].checks[0]", "expected a mapping"),
    (one("{type: http, url: 'http://h', expect: 200}"), 4, "services[0].checks[0].expect", "expected a mapping"),
    (one("{type: http, url: 'http://h', expect: {status: 2x}}"), 4, "services[0].checks[0].expect.status", '"2xx"'),
    (
        one("{type: http, url: 'http://h', expect: {code: 1}}"),
        4,
        "services[0].checks[0].expect.code",
        "status, headers",
    ),
    (one("{type: http, url: 'http://h', expect: {body: '['}}"), 4, "services[0].checks[0].expect.body", "regular"),
    (one("{type: http, url: 'http://h', method: HEAD, expect: {body: x}}"), 4, "services[0].checks[0].expect", "HEAD"),
    (one("{type: http, url: 'http://h', method: get}"), 4, "services[0].checks[0].method", "expected GET, HEAD"),
    (one(r"{type: http, url: 'http://h', headers: {A: 'x{{ y'}}"), 4, "services[0].checks[0].headers", "header A"),
    (one(r'{type: http, url: "http://h", headers: {A: "x\ny"}}'), 4, "services[0].checks[0].headers", "one line"),
    (one("{type: http, url: 'http://h', headers: {'a b': x}}"), 4, "services[0].checks[0].headers", "header name"),
    (one("{type: postgres}"), 4, "services[0].checks[0].dsn", "missing"),
    (one("{type: postgres, dsn: }"), 4, "services[0].checks[0].dsn", "expected text or {file: PATH}"),
    (one("{type: postgres, dsn: warehouse}"), 4, "services[0].checks[0].dsn", "expected a PostgreSQL address"),
    (one("{type: postgres, dsn: {file: none}}"), 4, "services[0].checks[0].dsn", "cannot read the secret file"),
    (one("{type: postgres, dsn: 'a=b', query: 'select {{ x }}'}"), 4, "services[0].checks[0].query", "not replaced"),
    (one("{type: postgres, dsn: '${NOPE}'}"), 4, "services[0].checks[0].dsn", "environment variable NOPE is not set"),
    (one("{type: postgres, dsn: '${1x}'}"), 4, "services[0].checks[0].dsn", "expected ${NAME}"),
    (one(service="critical: maybe"), 3, "services[0].critical", "expected true or false"),
    (one(service="hosts: web"), 3, "services[0].hosts", "need an inventory"),
    (one(service="hosts: -i"), 3, "services[0].hosts", "expected an Ansible host pattern"),
    (one(service='hosts: "a\\nb"'), 3, "services[0].hosts", "one line"),
    (one(service="container: a/b"), 3, "services[0].container", "expected a container name"),
    (one(service='container: "{{ x }}"'), 3, "services[0].container", "this service has no hosts"),
    (one(service="quorum: 0"), 3, "services[0].quorum", "expected any, a whole number"),
    (one(service="quorum: 101%"), 3, "services[0].quorum", "percentage"),
    (one(service="depends_on: [wbe]"), 3, "services[0].depends_on[0]", "did you mean web?"),
    (one(service="depends_on: [web]"), 3, "services[0].depends_on[0]", "cannot depend on itself"),
    (one(service="compose: {project: a}"), 3, "services[0].compose.service", "missing"),
    (one(service="compose: {project: a/b, service: c}"), 3, "services[0].compose.project", "expected a name"),
    (one(service='compose: {project: "{{ x }}", service: c}'), 3, "services[0].compose.project", "has no hosts"),
    (one(service="compose: {project: a, service: b}\n    container: c"), 3, "services[0].compose", "not both"),
    (
        one(service="swarm: {service: b}\n    rollback: {scope: failing}"),
        4,
        "services[0].rollback.scope",
        "a Swarm service is rolled back as a whole",
    ),
    (one(service="rollback: {batches: [2, 1]}"), 3, "services[0].rollback.batches", "that grow"),
    (one(service="rollback: {batches: []}"), 3, "services[0].rollback.batches", "got an empty list"),
    (one(service="rollback: {playbook: container}"), 3, "services[0].rollback.playbook", "name@version"),
    (one(service="rollback: {playbook: ../x@1}"), 3, "services[0].rollback.playbook", "name@version"),
    (one(service="rollback: {scope: some}"), 3, "services[0].rollback.scope", 'expected all or failing, got "some"'),
    (one(service="rollback: {health_timeout: 0}"), 3, "services[0].rollback.health_timeout", "longer than zero"),
    (one(service="name: web2"), 3, "services[0].name", "given twice, first in line 2"),
    (ONE.replace("web", "../web"), 2, "services[0].name", "expected a name of letters"),
    (ONE.replace("web", "-web"), 2, "services[0].name", "expected a name of letters"),
    (
        ONE + "  - name: web\n    checks: [{type: docker}]\n",
        5,
        "services[1].name",
        "services[0] has the name web already",
    ),
    (
        one("{type: docker, name: a}\n      - {type: docker, name: a}"),
        5,
        "services[0].checks[1].name",
        "name a already",
    ),
    (ONE + "  - name: b\n    checks: []\n", 6, "services[1].checks", "at least one"),
    ("a: &a [*a]\n", 1, "", "an alias that contains itself"),
]


@pytest.mark.parametrize(
    ("text", "line", "key", "words"), ERRORS, ids=[f"{key}-{words}"[:60] for _, _, key, words in ERRORS]
)
def test_every_error_names_file_line_key_and_expectation(
    read: Read, text: str, line: int, key: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    start = f"guard.yml:{line}: {key}: " if key else f"guard.yml:{line}: "
    matching = [said for said in caught.value.message.splitlines() if said.startswith(start) and words in said]
    assert len(matching) == 1, caught.value.message


def test_all_problems_of_a_file_are_reported_at_once_in_the_order_of_their_lines(read: Read) -> None:
    bad = "stroe: x\nservices:\n  - name: a/b\n    checks: [{type: http, url: '${NOPE}'}]\n"
    text = bad + "  - name: ok\n    depends_on: [nobody]\n    checks: [{type: docker}]\n"
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert [said.split(": ")[:2] for said in caught.value.message.splitlines()] == [
        ["guard.yml:1", "stroe"],
        ["guard.yml:3", "services[0].name"],
        ["guard.yml:4", "services[0].checks[0].url"],
        ["guard.yml:6", "services[1].depends_on[0]"],
    ]


def test_services_that_need_each_other_in_a_circle_are_refused(read: Read) -> None:
    services = "".join(
        f"  - {{name: {name}, depends_on: [{need}], checks: [{{type: docker}}]}}\n" for name, need in ("ab", "bc", "ca")
    )
    with pytest.raises(ConfigError, match="a → b → c → a") as caught:
        read("services:\n" + services)
    assert len(caught.value.message.splitlines()) == 1


def test_the_error_text_does_not_show_what_came_from_the_environment_or_a_secret(read: Read) -> None:
    for text in (
        one("{type: postgres, dsn: '${S}'}"),
        one("{type: docker, interval: '${S}'}"),
        one("{type: postgres, dsn: hunter2}"),
    ):
        with pytest.raises(ConfigError) as caught:
            read(text, S="hunter2")
        assert "hunter2" not in str(caught.value)


def test_environment_variables_are_inserted_with_defaults_and_an_escape(read: Read) -> None:
    check = "{type: http, url: 'http://${H:-localhost}:${P}/$$x', failure_threshold: '${N:-7}', expect: {body: '^a$'}}"
    found = read(one(check), P="81").services[0].checks[0]
    assert isinstance(found, HttpCheck)
    assert found.url == "http://localhost:81/$x"
    assert (found.failure_threshold, found.expect.body) == (7, "^a$")
    assert read(one(check), P="81", H="").services[0].checks[0].url == found.url  # type: ignore[union-attr]


def test_the_content_of_the_environment_is_not_read_as_yaml_or_substituted_again(read: Read) -> None:
    check = "{type: http, url: 'http://h/', headers: {X: '${V}'}}"
    found = read(one(check), V="${HOME}: [a, {b: c}]").services[0].checks[0]
    assert isinstance(found, HttpCheck) and found.headers == {"X": "${HOME}: [a, {b: c}]"}


def test_a_secret_can_stand_in_a_file_beside_the_configuration(read: Read, tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text(DSN + "\n")
    found = read(one("{type: postgres, dsn: {file: dsn}}")).services[0].checks[0]
    assert isinstance(found, PostgresCheck) and found.dsn is not None and found.dsn.get_secret_value() == DSN


def test_json_is_read_with_tabs_too(read: Read) -> None:
    document = {"services": [{"name": "web", "checks": [{"type": "http", "url": "http://h/\u00e9"}]}]}
    assert read(json.dumps(document, indent="\t"), "guard.json").services[0].name == "web"


def test_anchors_and_merges_work_and_keep_their_lines(read: Read) -> None:
    first = "services:\n  - name: a\n    checks: &c\n      - &h\n        type: docker\n        interval: 5s\n"
    text = first + "  - {name: b, checks: [{<<: *h, timeout: 1s}]}\n"
    assert (read(text).services[1].checks[0].interval, read(text).services[1].checks[0].timeout) == (5.0, 1.0)
    with pytest.raises(ConfigError) as caught:
        read(text.replace("5s", "x"))
    assert "guard.yml:6: services[1].checks[0].interval" in caught.value.message


def test_a_small_file_that_unfolds_into_millions_of_values_is_refused(read: Read) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10))
    with pytest.raises(ConfigError, match="more than 100000 values"):
        read("l0: &l0 [x]\n" + levels)


def test_a_file_nested_too_deeply_is_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        read("[" * 20_000)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from("abn:-[]{}$&*!|>'\"#%@,? \n\t0.~<"), max_size=60))
def test_no_text_makes_the_loader_fail_in_any_other_way(read: Read, text: str) -> None:
    for content in (text, f"services:\n  - name: {text}\n", one(f"{{type: http, url: {text}}}")):
        try:
            read(content)
        except ConfigError as error:
            assert error.message.startswith("guard.yml:")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00x", b"a: \xe9\n"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "guard.yml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"guard\.yml:1: not UTF-8"):
        load(None, {}, tmp_path)


def test_a_folder_in_place_of_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "guard.yml").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read the configuration guard\.yml: Is a directory"):
        load(None, {}, tmp_path)


def test_the_first_place_that_applies_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "etc.yml"
    monkeypatch.setattr(loading, "SYSTEM_FILE", system)
    environ = {"GUARD_CONFIG": "env.yml"}
    assert locate(None, {}, tmp_path) is None
    system.touch()
    assert locate(None, {}, tmp_path) == system
    (tmp_path / "guard.yml").touch()
    assert locate(None, {"GUARD_CONFIG": ""}, tmp_path) == Path("guard.yml")
    (tmp_path / "env.yml").touch()
    assert locate(None, environ, tmp_path) == Path("env.yml")
    (tmp_path / "flag.yml").touch()
    assert locate(Path("flag.yml"), environ, tmp_path) == Path("flag.yml")


@pytest.mark.parametrize(("explicit", "environ"), [(Path("no.yml"), {}), (None, {"GUARD_CONFIG": "no.yml"})])
def test_a_file_that_was_asked_for_must_exist(tmp_path: Path, explicit: Path | None, environ: dict[str, str]) -> None:
    (tmp_path / "guard.yml").write_text(ONE)
    with pytest.raises(ConfigError, match=r"there is no configuration file no\.yml"):
        load(explicit, environ, tmp_path)


def test_a_place_that_cannot_be_looked_into_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "guard.yml").symlink_to("guard.yml")
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*symbolic links"):
        load(None, {}, tmp_path)


def test_paths_are_relative_to_the_file_and_links_in_them_are_kept(read: Read, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("inv")
    assert read(ONE + "inventory: [link, ./x/../inv]\n").inventory == (tmp_path / "link", tmp_path / "inv")


def test_the_command_line_comes_before_the_file(read: Read) -> None:
    config = read(CONTRACT, WAREHOUSE_DSN=DSN)
    changed = with_overrides(config, interval=1.0, timeout=2.0, failure_threshold=1)
    for service in changed.services:
        for check in service.checks:
            assert (check.interval, check.timeout, check.thresholds.failure, check.thresholds.warning) == (
                1.0,
                2.0,
                1,
                1,
            )
    assert [check.per_host for check in changed.services[0].checks] == [True, True, False]
    assert with_overrides(config) == config
    with pytest.raises(UsageError):
        with_overrides(config, interval=0)


def test_an_unknown_service_names_the_known_ones(read: Read) -> None:
    config = read(CONTRACT, WAREHOUSE_DSN=DSN)
    assert config.service("web").name == "web"
    with pytest.raises(UsageError, match="Did you mean web") as caught:
        config.service("wbe")
    assert caught.value.hint is not None and "web, warehouse" in caught.value.hint


def test_a_service_on_this_machine_may_name_localhost_without_an_inventory(read: Read) -> None:
    assert read(one(service="hosts: localhost")).services[0].checks[0].per_host


def test_a_service_is_one_of_three_kinds_with_the_playbook_of_its_kind(tmp_path: Path) -> None:
    text = """
services:
  - {name: web, checks: [{type: docker}]}
  - {name: api, compose: {project: shop, service: api}, checks: [{type: docker}]}
  - {name: db, compose: {project: shop, service: db}, rollback: {playbook: mine@2}, checks: [{type: docker}]}
  - {name: job, compose: {project: shop, service: job}, rollback: {min_gap: 5s}, checks: [{type: docker}]}
"""
    (tmp_path / "guard.yml").write_text(text)
    web, api, db, job = load_file(tmp_path / "guard.yml", {}, shown="guard.yml").services
    assert (web.unit, web.rollback.playbook) == (ContainerUnit("web"), "container@1")
    assert (api.unit, api.rollback.playbook) == (ComposeUnit("shop", "api"), "compose@1")
    assert db.rollback.playbook == "mine@2"
    assert (job.rollback.playbook, job.rollback.min_gap) == ("compose@1", 5.0)
