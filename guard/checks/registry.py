"""Finds the probe for a check by its type: guard's own ones and plug-ins alike are entry points of ``guard.checks``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Protocol, cast

from guard.checks.site import Site
from guard.config.schema import Check
from guard.errors import ConfigError
from guard.ports import Probe

GROUP = "guard.checks"


class ProbeType(Protocol):
    """What an entry point names: a class that makes the probe of one target."""

    def build(self, check: object, site: Site) -> Probe:
        """ConfigError when a variable of the host is missing.

        Nothing is connected to here: a host that is away must not keep guard from starting.
        """


def build(check: Check, site: Site) -> Probe:
    """The probe of one target; ConfigError when a variable of the host is missing."""
    return probe_type(check.type).build(check, site)


@cache
def probe_type(name: str) -> ProbeType:
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise ConfigError(
            f"there is no check of type {name!r}",
            hint=f"Installed types: {', '.join(sorted(found))}. Is the package that has it installed next to guard?",
        )
    return cast(ProbeType, found[name].load())
