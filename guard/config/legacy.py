"""The older JSON form, and the set of services that applies with no file at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError

from guard.config.problems import KeyPath, Problem, explain, follow_on, found, show_path, suggestion
from guard.config.schema import Check, Defaults, DockerCheck, GuardConfig, HttpCheck, PostgresCheck, ServiceConfig
from guard.errors import ConfigError

if TYPE_CHECKING:
    from guard.config.fields import Reading
    from guard.config.source import Source

_HEALTH_KEYS = {
    "failure_threshold": "failure_threshold",
    "check_interval": "interval",
    "timeout": "timeout",
    "warning_threshold": "warning_threshold",
}
_ENDPOINT_KEYS = ("name", "url", "type", "critical", "container")
_TYPES = ("http", "postgres", "docker")


def from_older_form(read: Source, context: Reading, shown: str) -> tuple[GuardConfig | None, list[Problem]]:
    """``{"health_check": {…}, "endpoints": [{"name", "url", "type", "critical"}]}``; unknown keys only warn."""
    return _OlderForm(read, context, shown).config()


class _OlderForm:
    def __init__(self, read: Source, context: Reading, shown: str) -> None:
        self._read = read
        self._shown = shown
        self._context = context
        self._problems: list[Problem] = []
        self._warnings: list[str] = []

    def config(self) -> tuple[GuardConfig | None, list[Problem]]:
        root = self._mapping(self._read.root, ("health_check", "endpoints"), ())
        defaults = self._defaults(root.get("health_check", {}))
        endpoints = root.get("endpoints")
        if not isinstance(endpoints, list) or not endpoints:
            self._say(("endpoints",), "expected a list of at least one endpoint")
            endpoints = []
        services = [self._service(raw, index, defaults) for index, raw in enumerate(endpoints)]
        built = tuple(service for service in services if service is not None)
        names = [service.name if service else None for service in services]
        for index, name in enumerate(names):
            if name is not None and name in names[:index]:
                self._say(("endpoints", index, "name"), f"endpoints[{names.index(name)}] has the name {name} already")
        if self._problems:
            return None, self._problems
        return GuardConfig(services=built, legacy=True, warnings=tuple(self._warnings)), []

    def _defaults(self, raw: object) -> dict[str, object]:
        values = self._mapping(raw, tuple(_HEALTH_KEYS), ("health_check",))
        given = {_HEALTH_KEYS[key]: value for key, value in values.items() if key in _HEALTH_KEYS}
        older = {new: old for old, new in _HEALTH_KEYS.items()}
        try:
            defaults = Defaults.model_validate(given)
        except ValidationError as errors:
            self._explain(errors, lambda key: ("health_check", older[key]))
            return {}
        if "warning_threshold" in given and defaults.warning_threshold > defaults.failure_threshold:
            self._say(
                ("health_check", "warning_threshold"),
                f"expected at most failure_threshold ({defaults.failure_threshold})",
            )
        return defaults.model_dump()

    def _service(self, raw: object, index: int, defaults: Mapping[str, object]) -> ServiceConfig | None:
        at: KeyPath = ("endpoints", index)
        endpoint = self._mapping(raw, _ENDPOINT_KEYS, at)
        kind = endpoint.get("type", "http")
        if kind not in _TYPES:
            self._say((*at, "type"), f"expected the type http, postgres or docker{self._found((*at, 'type'), kind)}")
            return None
        check = {"type": kind, **defaults}
        if kind != "docker":  # a docker endpoint's url says nothing that guard needs
            if "url" not in endpoint:
                self._say((*at, "url"), "missing: it has no default")
                return None
            check["url" if kind == "http" else "dsn"] = endpoint["url"]
        service = {key: endpoint[key] for key in ("name", "critical", "container") if key in endpoint}
        try:
            return ServiceConfig.model_validate({**service, "checks": [check]}, context=self._context)
        except ValidationError as errors:
            self._explain(errors, lambda key: (*at, "url" if key == "dsn" else key))
            return None

    def _mapping(self, raw: object, known: tuple[str, ...], at: KeyPath) -> dict[str, object]:
        if not isinstance(raw, dict):
            self._say(at, f"expected a mapping of keys to values{self._found(at, raw)}")
            return {}
        for key in raw:
            if key not in known:
                path = (*at, key)
                line = self._read.line(path, of_key=True)
                hint = suggestion(key, known).rstrip("? ")
                self._warnings.append(
                    f"{self._shown}:{line}: {show_path(path)}: unknown key, ignored" + (f" ({hint}?)" if hint else "")
                )
        return raw

    def _explain(self, errors: ValidationError, place: Callable[[str], KeyPath]) -> None:
        for error in errors.errors(include_url=False):
            if follow_on(error):
                continue
            path = place(str(error["loc"][-1]))
            self._say(path, explain(error, path, (), self._found(path, error["input"])))

    def _found(self, path: KeyPath, value: object) -> str:
        return found(path, value, self._read.substituted)

    def _say(self, path: KeyPath, message: str) -> None:
        self._problems.append(Problem(self._read.line(path), path, message))


_HTTP_SERVICES = (
    # name, port, path, critical
    ("insights_api", 8000, "/api/health", True),
    ("mcp", 8001, "/health", True),
    ("metrics_exporter", 8002, "/metrics", False),
    ("grafana", 3000, "/api/health", False),
    ("prometheus", 9090, "/-/healthy", False),
)


def built_in(environ: Mapping[str, str]) -> GuardConfig:
    """The set that applies with no configuration file. BASE_URL and WAREHOUSE_DSN come from the environment.

    BASE_URL gives scheme and host; every service keeps its port. A port in BASE_URL is that of insights_api, the
    API it is named after. Without WAREHOUSE_DSN the warehouse check observes `unknown`.
    """
    scheme, host, port = _base_url(environ.get("BASE_URL") or "http://localhost")
    dsn = environ.get("WAREHOUSE_DSN") or None
    services = [
        _built_in_service(name, HttpCheck(url=f"{scheme}://{host}:{port or usual}{path}"), critical)
        if name == "insights_api"
        else _built_in_service(name, HttpCheck(url=f"{scheme}://{host}:{usual}{path}"), critical)
        for name, usual, path, critical in _HTTP_SERVICES
    ]
    services.append(_built_in_service("warehouse", _warehouse(dsn), True))
    services += [_built_in_service(name, DockerCheck(), True) for name in ("scheduler", "api_ingestor")]
    return GuardConfig(services=tuple(services), built_in=True, secrets=frozenset({dsn} if dsn else ()))


def _built_in_service(name: str, check: Check, critical: bool) -> ServiceConfig:
    return ServiceConfig(name=name, critical=critical, checks=(check,))


def _warehouse(dsn: str | None) -> PostgresCheck:
    try:
        return PostgresCheck(dsn=None if dsn is None else SecretStr(dsn))
    except ValidationError as error:
        raise ConfigError(
            "WAREHOUSE_DSN: expected a PostgreSQL address such as postgresql://user:password@host:5432/database"
        ) from error


def _base_url(text: str) -> tuple[str, str, int | None]:
    """Scheme, host (in brackets when IPv6) and port, or ConfigError."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in ("http", "https") or not host or extra or not text.isprintable() or " " in text:
        raise ConfigError(
            "BASE_URL: expected scheme and host only, such as http://10.0.0.5",
            hint="The built-in services have ports and paths of their own; write a guard.yml to change those.",
        )
    return parts.scheme, f"[{host}]" if ":" in host else host, port
