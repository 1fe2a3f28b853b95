"""Holding services while working on them: taken all or none, renewed at a third of their life, always given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from guard.errors import GuardError, LeaseLost
from guard.model import Lease, Rollback
from guard.service.session import Session

TTL_S = 60.0


@asynccontextmanager
async def held(session: Session, names: Sequence[str]) -> AsyncIterator[dict[str, Lease]]:
    """Leases by name. LeaseHeld when another guard holds one: then none is kept.

    Names are taken in sorted order, so that two guards that want the same services cannot wait for each other.
    """
    leases: dict[str, Lease] = {}
    renewal: asyncio.Task[None] | None = None
    try:
        for name in sorted(names):
            leases[name] = await asyncio.to_thread(session.store.acquire, name, session.holder, TTL_S)
        renewal = asyncio.create_task(_renew(session, tuple(leases.values())))
        yield leases
    finally:
        if renewal is not None:
            renewal.cancel()
        for lease in leases.values():
            try:
                await asyncio.to_thread(session.store.release, lease)
            except GuardError as error:
                session.log.warning("lease not given back, it ends by itself", service=lease.service, error=str(error))


class Ours:
    """Asked before every step of a rollback: is its service still held under the fence that it began with?

    A guard that was stopped for longer than its lease wakes up somewhere in the middle, and another has gone on since.
    LeaseLost: it must write nothing and start nothing more. The store is asked once per third of a lease's life.
    """

    def __init__(self, session: Session, rollback: Rollback) -> None:
        self._session = session
        self._lease = Lease(rollback.service, session.holder, rollback.fence, TTL_S)
        self._asked_at: float | None = None

    async def confirm(self) -> None:
        now = self._session.clock.monotonic()
        if self._asked_at is None or now - self._asked_at >= TTL_S / 3:
            await asyncio.to_thread(self._session.store.renew, self._lease)
            self._asked_at = now


async def _renew(session: Session, leases: Sequence[Lease]) -> None:
    """A lost lease is logged: the fence on the hosts refuses what this guard would still do."""
    while True:
        await asyncio.sleep(TTL_S / 3)
        for lease in leases:
            try:
                await asyncio.to_thread(session.store.renew, lease)
            except LeaseLost as error:
                session.log.error("lease lost", service=lease.service, error=error.message)
            except GuardError as error:
                session.log.error("lease not renewed", service=lease.service, error=error.message)
