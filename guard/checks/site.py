"""Where a check is made: the host, its engines, what the service is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from guard.config.substitute import render
from guard.model import Host, Image, Unit
from guard.ports import Engines


@dataclass(frozen=True, slots=True)
class Site:
    """``host`` is None for a check without one. ``unit`` is the service's, already rendered.

    ``hosts``: where a check without a host may ask instead, any one of them: the managers of a Swarm service.
    ``under_test``: the image that should run there now, as far as guard knows; it may change between two measurements.
    """

    host: Host | None
    engines: Engines
    unit: Unit | None
    hosts: tuple[Host, ...] = ()
    under_test: Callable[[], Image | None] = lambda: None

    def render(self, template: str, what: str) -> str:
        """``{{ variable }}`` replaced by the host's value; ConfigError when it has none."""
        return template if self.host is None else render(template, self.host, what=what)
