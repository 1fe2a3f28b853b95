"""Holding services while working on them: taken all or none, renewed at a third of their life, always given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from guard.errors import GuardError, LeaseLost
from guard.model import Lease
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
