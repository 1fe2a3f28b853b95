"""The right to act on a service: one row each, with a fence number that never goes down, on the database's clock.

A fence is the time of its acquisition in milliseconds since the epoch, or one more than the service's last where that
is higher: hosts remember the highest they have seen, and a new store (a fresh state folder) must not begin below it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, select, update

from guard.errors import LeaseHeld, LeaseLost
from guard.model import Lease
from guard.store import audit
from guard.store.database import Database
from guard.store.engine import insert_if_absent, now_s
from guard.store.holder import describe, is_surely_dead
from guard.store.schema import leases


class SqlLeases:
    def __init__(self, database: Database) -> None:
        self._db = database

    def acquire(self, service: str, holder: str, ttl_s: float) -> Lease:
        """Take the service, or renew it when ``holder`` has it already (same fence).

        A lease may be taken when it was released, has run out, or its holder is surely dead: a process of this very
        machine, boot and pid namespace that is gone. What such a holder had started on hosts may still run; the fence
        number, which a taker always raises, is what stops it there.
        """
        with self._db.write() as connection:
            mine = leases.c.service == service
            row = _row(connection, service)
            left_s = row.expires_s - row.now
            again = row.holder == holder
            if row.holder and not again and left_s > 0 and not is_surely_dead(row.holder):
                raise _held(service, row.holder, row.since_s, left_s)
            fence = row.fence if again else _above(row)
            since_s = row.since_s if again else row.now
            changed = {"holder": holder, "fence": fence, "since_s": since_s, "expires_s": row.now + ttl_s}
            connection.execute(update(leases).where(mine).values(**changed))
            if not again:
                body = {"holder": holder, "fence": fence, "ttl_s": ttl_s, "from": row.holder}
                audit.append(connection, "lease_taken", service, body)
        return Lease(service, holder, fence, ttl_s)

    def next_fence(self, service: str) -> int:
        """A fence number above every earlier one, without taking the service. LeaseHeld when somebody has it."""
        with self._db.write() as connection:
            mine = leases.c.service == service
            row = _row(connection, service)
            left_s = row.expires_s - row.now
            if row.holder and left_s > 0 and not is_surely_dead(row.holder):
                raise _held(service, row.holder, row.since_s, left_s)
            fence: int = _above(row)
            connection.execute(update(leases).where(mine).values(holder="", fence=fence, expires_s=0.0))
            audit.append(connection, "fence_given", service, {"fence": fence})
        return fence

    def renew(self, lease: Lease) -> None:
        """Another ``ttl_s`` from now. One that ran out is renewed as well, as long as nobody has taken it."""
        with self._db.write() as connection:
            still = update(leases).where(_is(lease)).values(expires_s=now_s() + lease.ttl_s)
            if connection.execute(still).rowcount:
                return
            row = connection.execute(select(leases).where(leases.c.service == lease.service)).one_or_none()
        by = f"by {describe(row.holder)}" if row is not None and row.holder else "and released since"
        raise LeaseLost(
            f"the lease on service {lease.service} (fence {lease.fence}) was taken over {by}",
            hint="this guard must stop acting on the service; `guard status` shows who acts now",
        )

    def release(self, lease: Lease) -> None:
        """Let go. Nothing happens when the lease has been lost already."""
        with self._db.write() as connection:
            let_go = update(leases).where(_is(lease)).values(holder="", expires_s=0.0)
            if connection.execute(let_go).rowcount:
                audit.append(
                    connection, "lease_released", lease.service, {"holder": lease.holder, "fence": lease.fence}
                )


def _is(lease: Lease) -> ColumnElement[bool]:
    return and_(leases.c.service == lease.service, leases.c.holder == lease.holder, leases.c.fence == lease.fence)


def _row(connection: Connection, service: str) -> Row[Any]:
    """The service's lease, locked until the transaction ends, with the database's time as ``now``."""
    free = {"service": service, "holder": "", "fence": 0, "since_s": 0.0, "expires_s": 0.0}
    insert_if_absent(connection, leases, free)
    mine = leases.c.service == service
    return connection.execute(select(leases, now_s().label("now")).where(mine).with_for_update()).one()


def _above(row: Row[Any]) -> int:
    """A fence number above every earlier one, those of a store that is gone included: they were the clock's too."""
    return max(int(row.fence) + 1, int(row.now * 1000))


def _held(service: str, holder: str, since_s: float, left_s: float) -> LeaseHeld:
    since = datetime.fromtimestamp(since_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return LeaseHeld(
        f"service {service} is held by another guard, {describe(holder)}, since {since}, for {left_s:.0f} s more",
        hint="wait until it has ended; the lease of a guard that died runs out by itself",
    )
