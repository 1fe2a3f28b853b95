"""Where a check is made: the host, its engines, what the service is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from guard.config.substitute import render
from guard.decide import reference
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


SHORT_ID = 12  # digits, as `docker images` prints an ID


def release_names(image: Image) -> tuple[str, ...]:
    """What a release may call itself: the tag of its image (not one that guard gave it), and the image's short ID.

    ``shop/web:1.4.2`` gives ``1.4.2`` and twelve digits; an image that is known by nothing but its ID only those.
    """
    try:
        tag = reference.parse(image.image).tag
    except ValueError:
        tag = ""
    named = () if not tag or reference.is_guard_tag(image.image) else (tag,)
    short = image.image_id.removeprefix("sha256:")[:SHORT_ID]
    return (*named, short) if short else named
