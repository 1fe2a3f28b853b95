"""Old observations as one row per target and hour: how many of each state, the latencies, the first bad reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, and_, select

from guard.model import ObservedHour, State, TargetKey
from guard.store.engine import upsert
from guard.store.schema import observation_hours as table

Key = tuple[str, datetime, str, str]


def add(connection: Connection, rows: Sequence[RowMapping]) -> None:
    """Count rows of ``observations`` in, on top of what their hours hold already."""
    if not rows:
        return
    wanted = {_key(row) for row in rows}
    span = [key[1] for key in wanted]
    known = connection.execute(
        select(table).where(
            and_(table.c.service.in_({key[0] for key in wanted}), table.c.hour.between(min(span), max(span)))
        )
    ).mappings()
    hours = {_known(row): dict(row) for row in known}
    touched = {key: hours.get(key) or _empty(key) for key in sorted(wanted)}
    for row in rows:
        _count(touched[_key(row)], row)
    upsert(connection, table, list(touched.values()))


def value(row: RowMapping) -> ObservedHour:
    return ObservedHour(
        target=TargetKey(row["service"], row["check"], row["host"]),
        hour=row["hour"],
        **{state.value: row[state.value] for state in State},
        latency_min_s=row["latency_min_s"],
        latency_avg_s=row["latency_sum_s"] / row["latencies"] if row["latencies"] else None,
        latency_max_s=row["latency_max_s"],
        first_bad=row["first_bad"],
    )


def _key(row: RowMapping) -> Key:
    return row["service"], row["at"].replace(minute=0, second=0, microsecond=0), row["check"], row["host"]


def _known(row: RowMapping) -> Key:
    return row["service"], row["hour"], row["check"], row["host"]


def _empty(key: Key) -> dict[str, object]:
    service, hour, check, host = key
    return {
        "service": service,
        "hour": hour,
        "check": check,
        "host": host,
        **{state.value: 0 for state in State},
        "latencies": 0,
        "latency_sum_s": 0.0,
        "latency_min_s": None,
        "latency_max_s": None,
        "first_bad": "",
    }


def _count(hour: dict[str, object], row: RowMapping) -> None:
    state = row["state"]
    hour[state] = _number(hour[state]) + 1
    if state == State.UNHEALTHY.value and not hour["first_bad"]:
        hour["first_bad"] = row["reason"]
    latency = row["latency_s"]
    if latency is None:
        return
    hour["latencies"] = _number(hour["latencies"]) + 1
    hour["latency_sum_s"] = _number(hour["latency_sum_s"]) + latency
    hour["latency_min_s"] = min(_seen(hour["latency_min_s"], latency))
    hour["latency_max_s"] = max(_seen(hour["latency_max_s"], latency))


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) else 0


def _seen(known: object, latency: float) -> Iterable[float]:
    return (latency,) if known is None else (_number(known), latency)
