from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from guard.config.checks import DockerCheck, HttpCheck, PostgresCheck
from guard.config.load import load
from guard.config.schema import GuardConfig
from guard.decide.thresholds import Thresholds
from guard.errors import ConfigError

Read = Callable[..., GuardConfig]

OLDER = {
    "health_check": {"failure_threshold": 5, "check_interval": 15, "timeout": 4, "warning_threshold": 3},
    "endpoints": [
        {"name": "insights_api", "url": "http://localhost:8000/api/health", "type": "http", "critical": True},
        {"name": "warehouse", "url": "postgresql://u:p$$w@db/x", "type": "postgres", "critical": True},
        {"name": "scheduler", "url": "ignored", "type": "docker", "critical": False, "container": "sched_1"},
        {"name": "ingestor", "type": "docker"},
    ],
}


def test_the_older_form_is_accepted_as_it_is(read: Read) -> None:
    config = read(json.dumps(OLDER, indent=2), "guard.json")
    api, warehouse, scheduler, ingestor = config.services
    assert config.legacy and config.warnings == ()
    assert isinstance(api.checks[0], HttpCheck) and api.checks[0].url == "http://localhost:8000/api/health"
    assert (api.checks[0].interval, api.checks[0].timeout) == (15.0, 4.0)
    assert api.checks[0].thresholds == Thresholds(failure=5, warning=3, success=1)
    check = warehouse.checks[0]
    assert isinstance(check, PostgresCheck) and check.dsn is not None
    assert check.dsn.get_secret_value() == "postgresql://u:p$$w@db/x"
    assert isinstance(scheduler.checks[0], DockerCheck)
    assert (scheduler.container, scheduler.critical) == ("sched_1", False)
    assert (ingestor.container, ingestor.critical, ingestor.hosts) == ("ingestor", True, None)


def test_unknown_keys_in_the_older_form_warn_with_their_line(read: Read) -> None:
    config = read('{"endpoints": [\n {"name": "a", "type": "docker",\n  "criticl": true}],\n "extra": 1}', "old.json")
    assert config.warnings == (
        "old.json:4: extra: unknown key, ignored",
        "old.json:3: endpoints[0].criticl: unknown key, ignored (did you mean critical?)",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"endpoints": []}', "old.json:1: endpoints: expected a list of at least one endpoint"),
        ('{"health_check": {}}', "old.json:1: endpoints: expected a list of at least one endpoint"),
        ('{"endpoints":\n [{"name": "a"}]}', "old.json:2: endpoints[0].url: missing"),
        ('{"endpoints":\n [{"name": "a", "url": "x"}]}', "old.json:2: endpoints[0].url: expected a URL"),
        ('{"endpoints":\n [{"name": "a", "type": "ftp"}]}', "old.json:2: endpoints[0].type: expected the type"),
        ('{"endpoints":\n [{"name": "a/b", "type": "docker"}]}', "old.json:2: endpoints[0].name: expected a name"),
        (
            '{"endpoints":\n [{"name": "a", "type": "postgres", "url": "x"}]}',
            "old.json:2: endpoints[0].url: expected a Post",
        ),
        (
            '{"health_check": {"check_interval":\n "x"}, "endpoints": [{"name": "a", "type": "docker"}]}',
            "old.json:2: health_check.check_interval: expected a duration",
        ),
        (
            '{"endpoints": [{"name": "a", "type": "docker"},\n {"name": "a", "type": "docker"}]}',
            "old.json:2: endpoints[1].name: endpoints[0] has",
        ),
    ],
)
def test_bad_values_in_the_older_form_are_errors_with_their_line(read: Read, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text, "old.json")
    assert any(line.startswith(said) for line in caught.value.message.splitlines()), caught.value.message


def built_in(tmp_path: Path, **environ: str) -> GuardConfig:
    return load(None, environ, tmp_path)


def urls(config: GuardConfig) -> dict[str, str]:
    return {s.name: c.url for s in config.services for c in s.checks if isinstance(c, HttpCheck)}


def test_without_a_file_the_built_in_set_applies(tmp_path: Path) -> None:
    config = built_in(tmp_path)
    assert config.built_in and config.source is None
    assert urls(config) == {
        "insights_api": "http://localhost:8000/api/health",
        "mcp": "http://localhost:8001/health",
        "metrics_exporter": "http://localhost:8002/metrics",
        "grafana": "http://localhost:3000/api/health",
        "prometheus": "http://localhost:9090/-/healthy",
    }
    assert [s.name for s in config.services if s.critical] == [
        "insights_api",
        "mcp",
        "warehouse",
        "scheduler",
        "api_ingestor",
    ]


@pytest.mark.parametrize(
    ("base", "api", "mcp"),
    [
        ("http://10.0.0.5", "http://10.0.0.5:8000/api/health", "http://10.0.0.5:8001/health"),
        ("https://gw.example/", "https://gw.example:8000/api/health", "https://gw.example:8001/health"),
        ("http://[::1]", "http://[::1]:8000/api/health", "http://[::1]:8001/health"),
        ("http://10.0.0.5:9000", "http://10.0.0.5:9000/api/health", "http://10.0.0.5:8001/health"),
    ],
)
def test_base_url_gives_scheme_and_host_and_the_port_of_the_api_alone(
    tmp_path: Path, base: str, api: str, mcp: str
) -> None:
    found = urls(built_in(tmp_path, BASE_URL=base))
    assert (found["insights_api"], found["mcp"]) == (api, mcp)


@pytest.mark.parametrize(
    "base", ["10.0.0.5", "ftp://x", "http://", "http://x/api", "http://u:p@x", "http://x:y", "http://x y"]
)
def test_a_base_url_that_cannot_be_meant_is_refused(tmp_path: Path, base: str) -> None:
    with pytest.raises(ConfigError, match="BASE_URL: expected scheme and host only"):
        built_in(tmp_path, BASE_URL=base)


def test_without_warehouse_dsn_the_warehouse_check_says_why_it_cannot_measure(tmp_path: Path) -> None:
    check = built_in(tmp_path).service("warehouse").checks[0]
    assert isinstance(check, PostgresCheck) and check.dsn is None and "WAREHOUSE_DSN is not set" in check.problem
    check = built_in(tmp_path, WAREHOUSE_DSN="postgresql://u:p@h/d").service("warehouse").checks[0]
    assert isinstance(check, PostgresCheck) and check.dsn is not None and check.problem == ""
    with pytest.raises(ConfigError, match="WAREHOUSE_DSN: expected") as caught:
        built_in(tmp_path, WAREHOUSE_DSN="hunter2")
    assert "hunter2" not in str(caught.value)
