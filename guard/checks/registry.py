"""Finds the probe for a check by its type: guard's own ones and plug-ins alike are entry points of ``guard.checks``."""

from __future__ import annotations

from functools import cache
from typing import Protocol, cast

from guard.checks.site import Site
from guard.config.checks.plugin import PluginSettings, installed
from guard.config.schema import Check
from guard.errors import ConfigError
from guard.ports import Probe


class ProbeType(Protocol):
    """What an entry point names: a class that makes the probe of one target."""

    def build(self, check: object, site: Site) -> Probe:
        """ConfigError when a variable of the host is missing.

        Nothing is connected to here: a host that is away must not keep guard from starting.
        """


def build(check: Check, site: Site) -> Probe:
    """The probe of one target; ConfigError when a variable of the host is missing."""
    if isinstance(check, PluginSettings):
        return _foreign(check, site)
    return probe_type(check.type).build(check, site)


def _foreign(check: PluginSettings, site: Site) -> Probe:
    """A plug-in gets its texts with the host's variables in them."""
    what = f"check {check.name}"
    filled = {key: site.render(text, what) for key, text in check.texts().items()}
    try:
        return probe_type(check.type).build(check.model_copy(update=filled), site)
    except Exception as error:
        where = installed()[check.type].value
        raise ConfigError(f"{what}: the plug-in {where} cannot make its probe: {error!r}") from error


@cache
def probe_type(name: str) -> ProbeType:
    found = installed()
    if name not in found:
        raise ConfigError(
            f"there is no check of type {name!r}",
            hint=f"Installed types: {', '.join(sorted(found))}. Is the package that has it installed next to guard?",
        )
    return cast(ProbeType, found[name].load())
