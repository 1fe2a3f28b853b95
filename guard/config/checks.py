"""The checks a service can have, as frozen values. What a check measures is in ``guard.checks``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr

from guard.config import fields
from guard.config.substitute import has_template
from guard.decide.thresholds import Thresholds


class _CheckBase(BaseModel):
    """What every check has. Whatever a file's check leaves out comes from its ``defaults``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[
        fields.Name,
        Field(description="Name of the check, unique in its service. Default: its type; then http-2, http-3 …"),
    ] = ""
    interval: Annotated[
        fields.PositiveSeconds, Field(description="Time between two starts of the check. Default: `defaults`.")
    ] = 30.0
    timeout: Annotated[
        fields.PositiveSeconds,
        Field(description="One deadline around the whole check; longer is unhealthy. Default: `defaults`."),
    ] = 10.0
    failure_threshold: Annotated[
        fields.Count, Field(description="Failures in a row that cross the threshold. Default: `defaults`.")
    ] = 3
    warning_threshold: Annotated[
        fields.Count, Field(description="Failures in a row that warn and arm a rollback. Default: `defaults`.")
    ] = 2
    success_threshold: Annotated[
        fields.Count, Field(description="Successes in a row that count as recovered. Default: `defaults`.")
    ] = 1

    _on_hosts: bool = PrivateAttr(default=False)  # the service has hosts; set by ServiceConfig

    @property
    def thresholds(self) -> Thresholds:
        """A warning threshold above the failure threshold comes from a default, and is lowered to it."""
        return Thresholds(
            failure=self.failure_threshold,
            warning=min(self.warning_threshold, self.failure_threshold),
            success=self.success_threshold,
        )

    def templates(self) -> tuple[str, ...]:
        """The texts of this check in which ``{{ variable }}`` is replaced."""
        return ()

    @property
    def per_host(self) -> bool:
        """Whether there is one target per host of the service, rather than one in all."""
        return any(has_template(text) for text in self.templates())


def _plain_values(value: object) -> object:
    if isinstance(value, str):
        fields.plain(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            _plain_values(item)
    elif isinstance(value, list):
        for item in value:
            _plain_values(item)
    return value


def _plain_mapping(value: dict[str, object]) -> dict[str, object]:
    _plain_values(value)
    return value


@dataclass(frozen=True, slots=True)
class HttpExpect:
    """What a good answer looks like. ``status``: inclusive ranges. A dataclass, for a field may be called json."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    status: Annotated[
        fields.StatusSet, Field(description='Accepted status: 200, "2xx", "200-299" or a list of them.')
    ] = ((200, 299),)
    json: Annotated[
        Annotated[dict[str, object], AfterValidator(_plain_mapping)] | None,
        Field(description="The answer must be JSON that holds at least these keys with these values."),
    ] = None
    body: Annotated[
        fields.Regex | None, Field(description="Regular expression that must be found in the answer's text.")
    ] = None

    def accepts(self, status: int) -> bool:
        return any(low <= status <= high for low, high in self.status)

    @property
    def reads_body(self) -> bool:
        return self.json is not None or self.body is not None


class HttpCheck(_CheckBase):
    """An HTTP request and what its answer must be."""

    type: Annotated[Literal["http"], Field(description="An HTTP request.")] = "http"
    url: Annotated[fields.Url, Field(description="Address; {{ variable }} of the host makes it one target per host.")]
    expect: Annotated[HttpExpect, Field(description="What a good answer looks like.")] = HttpExpect()
    method: Annotated[Literal["GET", "HEAD", "POST", "OPTIONS"], Field(description="Request method.")] = "GET"
    headers: Annotated[
        fields.Headers,
        Field(description="Request headers; a value may be {file: PATH} and hold {{ variable }}.", repr=False),
    ] = {}
    tls_verify: Annotated[fields.Flag, Field(description="Verify the server's certificate.")] = True
    follow_redirects: Annotated[
        fields.Flag, Field(description="Follow redirects; otherwise a redirect is judged by its own status.")
    ] = False

    def templates(self) -> tuple[str, ...]:
        return (self.url, *self.headers.values())


class PostgresCheck(_CheckBase):
    """A query over a fresh connection. ``dsn`` is None only in the built-in set without WAREHOUSE_DSN."""

    type: Annotated[Literal["postgres"], Field(description="A query to a PostgreSQL server.")] = "postgres"
    dsn: Annotated[
        fields.Dsn,
        Field(description="Connection address (URL or key=value); or {file: PATH}; may hold {{ variable }}."),
    ]
    query: Annotated[fields.PlainText, Field(description="The query to run.", min_length=1)] = "select 1"
    expect: Annotated[
        str | int | float | bool | None,
        Field(description="What the first column of the first row must be. Default: any answer will do."),
    ] = None

    def templates(self) -> tuple[str, ...]:
        return () if self.dsn is None else (self.dsn.get_secret_value(),)

    @property
    def problem(self) -> str:
        """Why this check cannot measure at all ("" when it can): it then observes `unknown`."""
        return "WAREHOUSE_DSN is not set, so guard does not know the database" if self.dsn is None else ""


class DockerCheck(_CheckBase):
    """Whether a container runs, is healthy by its own health check, and does not restart in a loop."""

    type: Annotated[Literal["docker"], Field(description="A look at the container itself.")] = "docker"
    container: Annotated[
        fields.Container | None,
        Field(description="Container to look at; may hold {{ variable }}. Default: the service's container."),
    ] = None

    def templates(self) -> tuple[str, ...]:
        return () if self.container is None else (self.container,)

    @property
    def per_host(self) -> bool:
        return self._on_hosts or super().per_host


Check = Annotated[HttpCheck | PostgresCheck | DockerCheck, Field(discriminator="type")]
CHECK_TYPES = ("http", "postgres", "docker")
THRESHOLD_KEYS = ("interval", "timeout", "failure_threshold", "warning_threshold", "success_threshold")


def settle(checks: tuple[Check, ...], *, on_hosts: bool) -> tuple[Check, ...]:
    """Give every check its name (http, then http-2, http-3 …, passing over taken ones) and its service's hosts."""
    taken = {check.name for check in checks}
    settled = []
    for check in checks:
        name, number = check.name or check.type, 1
        while not check.name and name in taken:
            number += 1
            name = f"{check.type}-{number}"
        taken.add(name)
        fresh = check.model_copy(update={"name": name})
        fresh._on_hosts = on_hosts  # a private attribute: no file can set it, and copies keep it
        settled.append(fresh)
    return tuple(settled)
