"""What no single value can know: rules between the parts of a configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from guard.config.checks import TcpCheck, TlsCheck
from guard.config.problems import KeyPath, suggestion
from guard.config.schema import Check, Defaults, HttpCheck, ServiceConfig
from guard.config.substitute import has_template
from guard.model import ComposeUnit, ContainerUnit, SwarmUnit

Finding = tuple[KeyPath, str]

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})  # Ansible knows these without an inventory
_NOT_YET = "is not supported by this version"


def cross_check(
    services: Mapping[int, ServiceConfig], names: Sequence[str | None], defaults: Defaults | None, *, inventory: bool
) -> Iterator[Finding]:
    """Findings about the services that are well-formed (by index); ``names`` are those of all of them."""
    yield from _unique(names)
    for index, service in services.items():
        at: KeyPath = ("services", index)
        for path, message in (
            *_dependencies(service, names),
            *_one_unit(service),
            *_unsupported(service),
            *_places(service, inventory=inventory),
            *_checks(service, defaults or Defaults()),
        ):
            yield (*at, *path), message
    yield from _cycles(services)
    explicit = defaults is not None and "warning_threshold" in defaults.model_fields_set
    if defaults and explicit and defaults.warning_threshold > defaults.failure_threshold:
        yield ("defaults", "warning_threshold"), _warning_too_high(defaults.failure_threshold)


def _warning_too_high(failure_threshold: int) -> str:
    return f"expected at most failure_threshold ({failure_threshold}): a warning comes before the threshold"


def _unique(names: Sequence[str | None]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield ("services", index, "name"), f"services[{names.index(name)}] has the name {name} already"


def _dependencies(service: ServiceConfig, names: Sequence[str | None]) -> Iterator[Finding]:
    known = list(dict.fromkeys(name for name in names if name is not None))
    for index, name in enumerate(service.depends_on):
        if name == service.name:
            yield ("depends_on", index), "a service cannot depend on itself"
        elif name not in known:
            yield (
                ("depends_on", index),
                f"there is no service {name}; {suggestion(name, known)}Known: {', '.join(known)}",
            )


def _cycles(services: Mapping[int, ServiceConfig]) -> Iterator[Finding]:
    """Every cycle once, at its first service. Walks without recursion: a chain may be as long as the file."""
    needs = {service.name: service.depends_on for service in services.values()}
    said: set[str] = set()
    for index, service in services.items():
        seen: dict[str, str] = {}
        todo = [service.name] if service.name not in said else []
        while todo:
            name = todo.pop()
            for need in needs.get(name, ()):
                if need == service.name and name != service.name:
                    chain = [name]
                    while chain[-1] != service.name:
                        chain.append(seen[chain[-1]])
                    said.update(chain)
                    circle = " → ".join([*reversed(chain), service.name])
                    yield ("services", index, "depends_on"), f"services depend on each other in a circle: {circle}"
                    todo.clear()
                    break
                if need not in seen and need != service.name:
                    seen[need] = name
                    todo.append(need)


def _one_unit(service: ServiceConfig) -> Iterator[Finding]:
    given = [key for key in ("container", "compose", "swarm") if key in service.model_fields_set]
    for key in given[1:]:
        yield (key,), f"a service is one thing: give {given[0]} or {key}, not both"


def _unsupported(service: ServiceConfig) -> Iterator[Finding]:
    if service.swarm is not None and service.rollback.scope == "failing":
        yield ("rollback", "scope"), "a Swarm service is rolled back as a whole: scope can only be all"


def _places(service: ServiceConfig, *, inventory: bool) -> Iterator[Finding]:
    if service.hosts is not None and not inventory and service.hosts not in LOCAL_HOSTS:
        yield ("hosts",), "hosts need an inventory, and this configuration names none (key inventory at the top)"
    for path, text in _unit_names(service):
        if service.hosts is None and has_template(text):
            yield path, "{{ … }} takes a variable of a host, and this service has no hosts"


def _unit_names(service: ServiceConfig) -> Iterator[tuple[KeyPath, str]]:
    match service.unit:
        case ContainerUnit(name):
            yield ("container",), name
        case ComposeUnit(project, name):
            yield from ((("compose", "project"), project), (("compose", "service"), name))
        case SwarmUnit(name):
            yield ("swarm", "service"), name


def _checks(service: ServiceConfig, defaults: Defaults) -> Iterator[Finding]:
    names: dict[str, int] = {}
    for index, check in enumerate(service.checks):
        at: KeyPath = ("checks", index)
        if check.name in names:
            yield (*at, "name"), f"checks[{names[check.name]}] has the name {check.name} already"
        names.setdefault(check.name, index)
        if service.hosts is None and any(has_template(text) for text in check.templates()):
            yield at, "{{ … }} takes a variable of a host, and this service has no hosts"
        failure = effective(check, defaults)["failure_threshold"]
        if "warning_threshold" in check.model_fields_set and check.warning_threshold > failure:
            yield (*at, "warning_threshold"), _warning_too_high(int(failure))
        if isinstance(check, HttpCheck) and check.method == "HEAD" and check.expect.reads_body:
            yield (*at, "expect"), "the answer to HEAD has no body to compare: use method GET"
        if isinstance(check, TcpCheck) and check.send and check.expect is None:
            yield (*at, "send"), "nothing is expected of the answer: add the key expect, or leave send out"
        both = {"degraded_before", "unhealthy_before"} <= check.model_fields_set
        if both and isinstance(check, TlsCheck) and check.degraded_before < check.unhealthy_before:
            yield (*at, "degraded_before"), "expected at least unhealthy_before: degraded comes first"


def effective(check: Check, defaults: Defaults) -> dict[str, float]:
    """Interval, timeout and thresholds: what the check says itself, else the defaults."""
    return {
        key: getattr(check if key in check.model_fields_set else defaults, key)
        for key in ("interval", "timeout", "failure_threshold", "warning_threshold", "success_threshold")
    }
