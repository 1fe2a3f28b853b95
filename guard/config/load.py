"""From a file to a ``GuardConfig``: found, read, checked as a whole, resolved.

Every problem of a file is reported at once. Nothing falls back silently.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from guard.config import legacy, source
from guard.config.cross import cross_check, effective
from guard.config.document import Document, known_keys
from guard.config.fields import Reading
from guard.config.problems import KeyPath, Problem, as_error, explain, follow_on, found
from guard.config.schema import Defaults, GuardConfig, MaintenanceConfig, ServiceConfig
from guard.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SYSTEM_FILE = Path("/etc/guard/guard.yml")
_LARGEST_BYTES = 4 * 1024 * 1024

M = TypeVar("M", bound=BaseModel)


def load(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> GuardConfig:
    """The configuration that applies, or the built-in set when there is no file. ConfigError lists every problem."""
    path = locate(explicit, environ, cwd)
    if path is None:
        return legacy.built_in(environ)
    return load_file(cwd / path, environ, shown=str(path))


def locate(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The precedence, in this one place: --config, $GUARD_CONFIG, ./guard.yml, /etc/guard/guard.yml, none.

    A file that was asked for by name must exist; the two usual places may be empty.
    """
    if explicit is not None:
        return _must_exist(explicit, cwd, "--config")
    if environ.get("GUARD_CONFIG"):
        return _must_exist(Path(environ["GUARD_CONFIG"]), cwd, "$GUARD_CONFIG")
    for usual in (Path("guard.yml"), SYSTEM_FILE):
        if _exists(cwd / usual):
            return usual
    return None


def _must_exist(path: Path, cwd: Path, asked_by: str) -> Path:
    if not _exists(cwd / path):
        raise ConfigError(
            f"there is no configuration file {path} (given by {asked_by})",
            hint="Correct the path, or run `guard init` to write an example.",
        )
    return path


def _exists(path: Path) -> bool:
    """A place that guard may not look into is an error: passing over it would pick another configuration."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a path"
        raise ConfigError(f"cannot read the configuration {path}: {why}") from error
    return True


def load_file(path: Path, environ: Mapping[str, str], *, shown: str) -> GuardConfig:
    """The configuration in that file; ``shown`` is how messages name it."""
    read = source.read(_text(path, shown), environ)
    if read.root is None and not read.problems:
        raise as_error(shown, [Problem(1, (), "the file is empty: it needs at least the key services")])
    if read.root is None:
        raise as_error(shown, read.problems)
    context = Reading(path.absolute().parent)
    if isinstance(read.root, dict) and source.is_legacy(set(read.root)):
        config, problems = legacy.from_older_form(read, context, shown)
    else:
        config, problems = _from_document(read, context)
    if read.problems or problems or config is None:
        bad = {problem.path for problem in read.problems}
        raise as_error(shown, [*read.problems, *(problem for problem in problems if problem.path not in bad)])
    return config.model_copy(update={"source": path.absolute(), "secrets": frozenset(read.secrets | context.secrets)})


def _text(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {shown}: {error.strerror}") from error
    if len(raw) > _LARGEST_BYTES:
        raise ConfigError(f"{shown} is larger than 4 MiB: it cannot be a configuration")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise as_error(shown, [Problem(line, (), "not UTF-8 text")]) from error


def _from_document(read: source.Source, context: Reading) -> tuple[GuardConfig | None, list[Problem]]:
    root = read.root
    if not isinstance(root, dict):
        return None, [Problem(1, (), f"expected a mapping of keys such as services{found((), root, {})}")]
    problems: list[Problem] = []
    document = validate(Document, root, (), read, context, problems)
    services, defaults = _well_formed(root, context)
    paths = {key: _resolve(root.get(key), context.folder) for key in ("inventory", "playbook_path")}
    findings = [
        *_missing_paths(paths),
        *cross_check(services, _names(root), defaults, inventory=bool(root.get("inventory"))),
    ]
    problems += [Problem(read.line(at), at, message) for at, message in findings]
    if problems or document is None:
        return None, problems
    return GuardConfig(
        inventory=paths["inventory"],
        store=document.store,
        services=tuple(
            with_defaults(service, document.defaults, document.maintenance) for service in document.services
        ),
        playbook_path=paths["playbook_path"],
        retention=document.retention,
    ), []


def validate(
    model: type[M], raw: object, at: KeyPath, read: source.Source, context: Reading, problems: list[Problem]
) -> M | None:
    """``raw`` (found at path ``at``) as a ``model``; what is wrong with it goes to ``problems``."""
    try:
        return model.model_validate(raw, context=context)
    except ValidationError as errors:
        problems += [_problem(error, at, read) for error in errors.errors(include_url=False) if not follow_on(error)]
        return None


def _problem(error: ErrorDetails, at: KeyPath, read: source.Source) -> Problem:
    path = (*at, *_without_tags(error["loc"]))
    unknown = error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}
    known: tuple[str, ...] = ()
    if unknown:
        section = _at(read.root, path[:-1])
        known = known_keys(path[:-1], section.get("type") if isinstance(section, dict) else None)
    message = explain(error, path, known, found(path, error["input"], read.substituted))
    if error["type"] == "union_tag_invalid" and (*path, "type") in read.values:
        path = (*path, "type")
    return Problem(read.line(path, of_key=unknown), path, message)


def _without_tags(loc: tuple[str | int, ...]) -> KeyPath:
    """pydantic puts the tags of unions into the path: services, 0, checks, 1, built-in, http, url."""
    for index, part in enumerate(loc[:-1]):
        if part == "checks" and isinstance(loc[index + 1], int):
            tags = 2 if loc[index + 2 : index + 3] == ("built-in",) else 1
            return (*loc[: index + 2], *loc[index + 2 + tags :])
    return loc


def _at(root: object, path: KeyPath) -> object:
    value = root
    for part in path:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def _well_formed(root: dict[str, object], context: Reading) -> tuple[dict[int, ServiceConfig], Defaults | None]:
    """The services that are right in themselves, so that rules between services are checked in the same go."""
    listed = root.get("services")
    services = {}
    for index, raw in enumerate(listed if isinstance(listed, list) else []):
        try:
            services[index] = ServiceConfig.model_validate(raw, context=context)
        except ValidationError:
            continue  # the whole document's validation has said so
    try:
        return services, Defaults.model_validate(root.get("defaults", {}))
    except ValidationError:
        return services, None


def _names(root: dict[str, object]) -> list[str | None]:
    listed = root.get("services")
    names = [raw.get("name") if isinstance(raw, dict) else None for raw in listed] if isinstance(listed, list) else []
    return [name if isinstance(name, str) else None for name in names]


def _resolve(value: object, folder: Path) -> tuple[Path, ...]:
    listed = value if isinstance(value, list) else [value]
    texts = [item for item in listed if isinstance(item, str) and item and "\x00" not in item]
    # Not resolve(): Ansible looks for group_vars beside a link, not beside what it points to.
    return tuple(Path(os.path.normpath(folder / text)) for text in texts)


def _missing_paths(paths: Mapping[str, tuple[Path, ...]]) -> Iterator[tuple[KeyPath, str]]:
    for path in paths["inventory"]:
        if not path.exists():
            yield ("inventory",), f"there is no inventory {path}"
    for path in paths["playbook_path"]:
        if not path.is_dir():
            yield ("playbook_path",), f"there is no folder {path}"


def with_defaults(
    service: ServiceConfig, defaults: Defaults, maintenance: tuple[MaintenanceConfig, ...] = ()
) -> ServiceConfig:
    checks = tuple(check.model_copy(update=effective(check, defaults)) for check in service.checks)
    return service.model_copy(update={"checks": checks, "maintenance": (*maintenance, *service.maintenance)})


def with_overrides(
    config: GuardConfig,
    interval: float | None = None,
    timeout: float | None = None,
    failure_threshold: int | None = None,
) -> GuardConfig:
    """The same configuration with these values in every check: what the command line says comes before the file."""
    given = {"interval": interval, "timeout": timeout, "failure_threshold": failure_threshold}
    update = {key: value for key, value in given.items() if value is not None}
    for key, value in update.items():
        if value <= 0:
            raise UsageError(f"{key} must be greater than zero, got {value}")
    services = tuple(
        service.model_copy(update={"checks": tuple(check.model_copy(update=update) for check in service.checks)})
        for service in config.services
    )
    return config.model_copy(update={"services": services})
