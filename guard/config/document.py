"""The shape of the file itself, and its JSON Schema."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from guard.config.checks import (
    CHECK_TYPES,
    CommandCheck,
    DockerCheck,
    HttpCheck,
    HttpExpect,
    PostgresCheck,
    PrometheusCheck,
    TcpCheck,
    TlsCheck,
)
from guard.config.checks.counting import FlappingConfig
from guard.config.checks.http import HttpVersion
from guard.config.checks.plugin import installed, settings_of
from guard.config.schema import (
    ComposeTarget,
    Defaults,
    HooksConfig,
    MaintenanceConfig,
    RetentionConfig,
    RollbackConfig,
    ServiceConfig,
    SwarmTarget,
)

_PATHS_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
    ]
}


def _paths(value: object) -> tuple[str, ...]:
    given = value if isinstance(value, (list, tuple)) else [value]
    paths = tuple(item for item in given if isinstance(item, str) and item and item.isprintable())
    if not given or len(paths) != len(given):
        raise ValueError("expected a path or a list of paths")
    return paths


Paths = Annotated[tuple[str, ...], BeforeValidator(_paths), WithJsonSchema(_PATHS_SCHEMA)]


def _store(value: object) -> str:
    if value == "sqlite":
        return "sqlite"
    if isinstance(value, str) and value.startswith(("postgresql://", "postgres://")):
        raise ValueError("PostgreSQL as the store is not supported by this version: expected sqlite")
    raise ValueError("expected sqlite")


Store = Annotated[str, BeforeValidator(_store), WithJsonSchema({"const": "sqlite"})]


class Document(BaseModel):
    """guard's configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="guard.yml")

    inventory: Annotated[
        Paths, Field(description="Ansible inventory: a file, a folder or a list of them; relative to this file.")
    ] = ()
    store: Annotated[Store, Field(description="Where guard keeps its memory: embedded, in the state folder.")] = (
        "sqlite"
    )
    defaults: Annotated[Defaults, Field(description="What checks get for keys they leave out.")] = Defaults()
    services: Annotated[tuple[ServiceConfig, ...], Field(description="What is guarded.", min_length=1)]
    maintenance: Annotated[
        tuple[MaintenanceConfig, ...],
        Field(description="Hours that come again, in which no service is rolled back by itself."),
    ] = ()
    playbook_path: Annotated[
        Paths, Field(description="Folders with playbooks of your own, searched before guard's; relative to this file.")
    ] = ()
    retention: Annotated[RetentionConfig, Field(description="How long artifacts are kept.")] = RetentionConfig()


_CHECK_MODELS: dict[str, type[BaseModel]] = {
    "http": HttpCheck,
    "postgres": PostgresCheck,
    "docker": DockerCheck,
    "tcp": TcpCheck,
    "tls": TlsCheck,
    "command": CommandCheck,
    "prometheus": PrometheusCheck,
}
_SECTIONS: dict[str, type[BaseModel]] = {
    "defaults": Defaults,
    "flapping": FlappingConfig,
    "services": ServiceConfig,
    "retention": RetentionConfig,
    "rollback": RollbackConfig,
    "hooks": HooksConfig,
    "maintenance": MaintenanceConfig,
    "compose": ComposeTarget,
    "swarm": SwarmTarget,
}


def known_keys(section: tuple[str | int, ...], check_type: object) -> tuple[str, ...]:
    """The keys that may stand in the section of that path; ``check_type`` is its ``type`` when it is a check."""
    names = [part for part in section if isinstance(part, str)]
    if not names:
        return tuple(Document.model_fields)
    if names[-2:] == ["expect", "version"]:
        return tuple(HttpVersion.__dataclass_fields__)
    if names[-1] == "expect":
        return tuple(HttpExpect.__dataclass_fields__)
    if names[-1] == "checks":
        model = _CHECK_MODELS.get(str(check_type))
        if model is None and str(check_type) in installed():
            model = settings_of(str(check_type))
        return tuple(sorted(model.model_fields, key=lambda key: key not in ("name", "type"))) if model else ("type",)
    section_model = _SECTIONS.get(names[-1])
    if section_model is None:
        return ()
    return tuple(field.alias or name for name, field in section_model.model_fields.items())


def json_schema() -> dict[str, object]:
    """JSON Schema (draft 2020-12) of the file, for editors and for ``guard schema``."""
    schema = Document.model_json_schema()
    for model in _CHECK_MODELS.values():
        shape = schema["$defs"][model.__name__]
        shape["required"] = ["type", *shape.get("required", [])]  # a default only for code that builds a check
        del shape["properties"]["name"]["default"]
    # A plug-in knows its keys, an editor does not: whatever has another type is left to guard.
    foreign = schema["$defs"]["PluginSettings"]
    foreign["additionalProperties"] = True
    foreign["properties"]["type"]["not"] = {"enum": list(CHECK_TYPES)}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
