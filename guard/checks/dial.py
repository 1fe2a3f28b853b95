"""One TCP connection for one measurement, which knows how far it has come: running out of time is told by its cause."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from guard.checks.site import Site
from guard.checks.verdict import of_os_error, unhealthy, unknown
from guard.config.address import Address, read_address
from guard.engines.resolve import Resolver, resolver
from guard.engines.wire import Wire, dial_tcp
from guard.errors import ConfigError
from guard.model import Measurement, State

_RESOLVING = "resolving the name"


class Dial:
    """Use it once. ``step`` is what it is doing; ``talk`` sets it while it goes on."""

    def __init__(self, address: Address, timeout_s: float, names: Resolver = resolver) -> None:
        self.where = str(address)
        self.step = _RESOLVING
        self._address = address
        self._timeout_s = timeout_s
        self._names = names

    async def measure(self, talk: Callable[[Wire], Awaitable[Measurement]]) -> Measurement:
        """Connect, let ``talk`` find out the rest, hang up; all of it within one deadline. The latency is filled in."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = asyncio.timeout(self._timeout_s)
        wire: Wire | None = None
        try:
            async with deadline:
                addresses = await self._names.resolve(self._address.host)
                self.step = "connecting"
                wire = await dial_tcp(addresses, self._address.port)
                measured = await talk(wire)
        except OSError as error:
            latency = loop.time() - began
            return self._out_of_time(latency) if deadline.expired() else of_os_error(error, self.where, latency)
        finally:
            if wire is not None:
                wire.cut()
        return measured if measured.state is State.UNKNOWN else replace(measured, latency_s=loop.time() - began)

    def _out_of_time(self, latency: float) -> Measurement:
        reason = f"time-out: {self.where} took longer than {self._timeout_s:g} s ({self.step})"
        return unknown(reason) if self.step == _RESOLVING else unhealthy(reason, latency)


def address_at(site: Site, template: str, what: str) -> Address:
    """The address with the host's variables in it; ConfigError when they make none."""
    try:
        return read_address(template, lambda part: site.render(part, what))
    except ValueError as error:
        raise unusable(site, what, error) from error


def unusable(site: Site, what: str, error: ValueError) -> ConfigError:
    """A value of the inventory that the check cannot work with."""
    on = f" on host {site.host.name}" if site.host is not None else ""
    return ConfigError(f"{what}{on}: {error}", hint="Correct the variable in the inventory, or the check.")
