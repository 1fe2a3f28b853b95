"""Where a check is made: the host, its engines, what the service is there."""

from __future__ import annotations

from dataclasses import dataclass

from guard.config.substitute import render
from guard.model import Host, Unit
from guard.ports import Engines


@dataclass(frozen=True, slots=True)
class Site:
    """``host`` is None for a check without one. ``unit`` is the service's, already rendered.

    ``hosts``: where a check without a host may ask instead, any one of them: the managers of a Swarm service.
    """

    host: Host | None
    engines: Engines
    unit: Unit | None
    hosts: tuple[Host, ...] = ()

    def render(self, template: str, what: str) -> str:
        """``{{ variable }}`` replaced by the host's value; ConfigError when it has none."""
        return template if self.host is None else render(template, self.host, what=what)
