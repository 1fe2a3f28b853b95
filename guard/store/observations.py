"""Measurements, written in batches together with the counters as they stand after them; folded into hours when old."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Select, delete, func, insert, select

from guard.decide.thresholds import TargetStatus
from guard.model import Observation, ObservedHour, State, TargetKey
from guard.store import codec, hours
from guard.store.database import Database
from guard.store.engine import upsert
from guard.store.schema import observation_hours, target_statuses
from guard.store.schema import observations as table

STEP_ROWS = 1000
"""Rows per transaction: a writer that waits for a fold or a prune waits some tens of milliseconds."""


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
                "source": each.source,
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

    def observations(
        self, service: str, since: datetime, until: datetime | None = None, source: str | None = None
    ) -> tuple[Observation, ...]:
        """From ``since`` to ``until``, both included, oldest first; those of one ``source``, or of all."""
        wanted = select(table).where(table.c.service == service, table.c.at >= since).order_by(table.c.at, table.c.seq)
        if until is not None:
            wanted = wanted.where(table.c.at <= until)
        if source is not None:
            wanted = wanted.where(table.c.source == source)
        with self._db.read() as connection:
            return tuple(
                Observation(
                    target=TargetKey(row.service, row.check, row.host),
                    state=State(row.state),
                    latency_s=row.latency_s,
                    reason=row.reason,
                    at=row.at,
                    evidence=row.evidence,
                    source=row.source,
                )
                for row in connection.execute(wanted)
            )

    def hours(self, service: str, since: datetime) -> tuple[ObservedHour, ...]:
        wanted = (
            select(observation_hours)
            .where(observation_hours.c.service == service, observation_hours.c.hour >= since)
            .order_by(observation_hours.c.hour, observation_hours.c.check, observation_hours.c.host)
        )
        with self._db.read() as connection:
            return tuple(hours.value(row) for row in connection.execute(wanted).mappings())

    def fold(self, now: datetime, raw_days: float, most: int) -> int:
        """Whole hours by age; and by number, so that the file has a bound whatever is measured how often."""
        before = (now - timedelta(days=raw_days)).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        total = sum(self._fold(self._older(service, before)) for service in self._observed())
        with self._db.read() as connection:
            newest = connection.scalar(select(func.max(table.c.seq))) or 0
        return total + self._fold(select(table).where(table.c.seq <= newest - most).order_by(table.c.seq))

    def _fold(self, old: Select[tuple[object, ...]]) -> int:
        """A step adds rows to their hours and deletes them, both or neither: cut anywhere, none is lost or doubled."""
        total = 0
        while True:
            with self._db.write() as connection:
                rows = connection.execute(old.limit(STEP_ROWS)).mappings().all()
                hours.add(connection, rows)
                connection.execute(delete(table).where(table.c.seq.in_([row["seq"] for row in rows])))
            total += len(rows)
            if len(rows) < STEP_ROWS:
                return total

    def _older(self, service: str, before: datetime) -> Select[tuple[object, ...]]:
        mine: ColumnElement[bool] = table.c.service == service
        return select(table).where(mine, table.c.at < before).order_by(table.c.at, table.c.seq)

    def prune(self, now: datetime, keep_days: float) -> int:
        """Delete observations and hours older than ``keep_days`` before ``now``; the number deleted. Counters stay."""
        before = now - timedelta(days=keep_days)
        with self._db.write() as connection:
            folded = connection.execute(delete(observation_hours).where(observation_hours.c.hour < before)).rowcount
        return folded + sum(self._prune(service, before) for service in self._observed())

    def _prune(self, service: str, before: datetime) -> int:
        old = select(table.c.seq).where(table.c.service == service, table.c.at < before).limit(STEP_ROWS)
        total = 0
        while True:
            with self._db.write() as connection:
                count = connection.execute(delete(table).where(table.c.seq.in_(old))).rowcount
            total += count
            if count < STEP_ROWS:
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
