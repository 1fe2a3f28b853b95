"""Measurements, written in batches together with the counters as they stand after them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, insert, select

from guard.decide.thresholds import TargetStatus
from guard.model import Observation, State, TargetKey
from guard.store import codec
from guard.store.database import Database
from guard.store.engine import upsert
from guard.store.schema import observations as table
from guard.store.schema import target_statuses

PRUNE_ROWS = 2000
"""Rows per transaction: a writer that waits for a prune waits some milliseconds."""


class SqlObservations:
    def __init__(self, database: Database) -> None:
        self._db = database

    def add_observations(self, observations: Sequence[Observation], statuses: Mapping[TargetKey, TargetStatus]) -> None:
        if not observations and not statuses:
            return
        rows = [
            {
                **_key(each.target),
                "state": each.state.value,
                "latency_s": each.latency_s,
                "reason": each.reason,
                "evidence": dict(each.evidence),
                "at": each.at,
            }
            for each in observations
        ]
        counters = [{**_key(target), **codec.status_document(status)} for target, status in statuses.items()]
        with self._db.write() as connection:
            if rows:
                connection.execute(insert(table), rows)
            upsert(connection, target_statuses, counters)

    def statuses(self, service: str) -> Mapping[TargetKey, TargetStatus]:
        with self._db.read() as connection:
            rows = connection.execute(select(target_statuses).where(target_statuses.c.service == service)).mappings()
            found = [(TargetKey(row["service"], row["check"], row["host"]), row) for row in rows]
        return {target: codec.status(target, row) for target, row in found}

    def observations(self, service: str, since: datetime) -> tuple[Observation, ...]:
        """Those at ``since`` or later, oldest first."""
        wanted = select(table).where(table.c.service == service, table.c.at >= since).order_by(table.c.at, table.c.seq)
        with self._db.read() as connection:
            return tuple(
                Observation(
                    target=TargetKey(row.service, row.check, row.host),
                    state=State(row.state),
                    latency_s=row.latency_s,
                    reason=row.reason,
                    at=row.at,
                    evidence=row.evidence,
                )
                for row in connection.execute(wanted)
            )

    def prune(self, now: datetime, keep_days: float) -> int:
        """Delete observations older than ``keep_days`` before ``now``; the number deleted. Counters stay."""
        before = now - timedelta(days=keep_days)
        return sum(self._prune(service, before) for service in self._observed())

    def _prune(self, service: str, before: datetime) -> int:
        old = select(table.c.seq).where(table.c.service == service, table.c.at < before).limit(PRUNE_ROWS)
        total = 0
        while True:
            with self._db.write() as connection:
                count = connection.execute(delete(table).where(table.c.seq.in_(old))).rowcount
            total += count
            if count < PRUNE_ROWS:
                return total

    def _observed(self) -> Iterator[str]:
        """Every service with observations, one index look-up each: DISTINCT would read the whole index."""
        service = ""
        while True:
            with self._db.read() as connection:
                found = connection.scalar(select(func.min(table.c.service)).where(table.c.service > service))
            if found is None:
                return
            yield found
            service = found


def _key(target: TargetKey) -> dict[str, object]:
    return {"service": target.service, "check": target.check, "host": target.host}
