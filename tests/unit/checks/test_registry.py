"""From a configured check to the probe of a target."""

from __future__ import annotations

import subprocess
import sys

import pytest

from guard.checks.docker import DockerProbe
from guard.checks.http import HttpProbe
from guard.checks.postgres import PostgresProbe
from guard.checks.registry import build, probe_type
from guard.checks.site import Site
from guard.config.schema import DockerCheck, HttpCheck, PostgresCheck
from guard.errors import ConfigError
from guard.model import ContainerUnit, Host
from tests.fakes import FakeEngines

HOST = Host("web1", {"ansible_host": "127.0.0.9", "port": 8080, "token": "{{ port }}"})


def test_each_type_has_its_probe_with_the_hosts_variables_in_it() -> None:
    http = build(
        HttpCheck(name="h", url="http://{{ ansible_host }}:{{ port }}/", headers={"X": "{{ token }}"}),
        Site(HOST, FakeEngines(), None),
    )
    assert isinstance(http, HttpProbe)
    assert http._first is not None
    assert (http._first.host, http._first.port) == ("127.0.0.9", 8080)
    assert b"\r\nX: {{ port }}\r\n" in http._first.data, "a value is text and is not filled in again"
    docker = build(DockerCheck(name="d"), Site(HOST, FakeEngines(), ContainerUnit("web")))
    assert isinstance(docker, DockerProbe)
    assert docker._unit == ContainerUnit("web")
    other = build(DockerCheck(name="d", container="web-{{ port }}"), Site(HOST, FakeEngines(), ContainerUnit("web")))
    assert isinstance(other, DockerProbe)
    assert other._unit == ContainerUnit("web-8080")
    postgres = build(PostgresCheck(name="p", dsn="host={{ ansible_host }}"), Site(HOST, FakeEngines(), None))
    assert isinstance(postgres, PostgresProbe)
    assert postgres._dsn == "host=127.0.0.9"


def test_a_missing_variable_is_said_with_check_and_host() -> None:
    with pytest.raises(ConfigError, match=r"check h: inventory variable nothing of host web1 is not defined"):
        build(HttpCheck(name="h", url="http://{{ nothing }}/"), Site(HOST, FakeEngines(), None))


def test_a_docker_check_without_any_container_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no container"):
        build(DockerCheck(name="d"), Site(None, FakeEngines(), None))


def test_an_unknown_type_names_those_there_are() -> None:
    with pytest.raises(ConfigError) as raised:
        probe_type("carrier-pigeon")
    assert "command, docker, http, postgres" in str(raised.value)


def test_checks_load_neither_ansible_nor_databases() -> None:
    code = (
        "import sys, guard.checks.registry as r, guard.schedule, guard.engines.hosts;"
        "[r.probe_type(name) for name in ('http', 'docker', 'postgres', 'tcp', 'tls', 'command')];"
        "heavy = {'ansible', 'ansible_runner', 'sqlalchemy', 'psycopg', 'alembic', 'jinja2', 'cryptography'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
