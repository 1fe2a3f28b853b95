"""The tables as they stand at head. A change here needs a migration in ``migrations/versions`` and a new ``REVISIONS``
entry; a test compares the tables with what the migrations build.

Times are whole microseconds since the epoch in UTC, so that both databases keep and order them alike. Lease times are
seconds on the database's own clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
)

REVISIONS = ("0001", "0002", "0003")
"""Every schema version this guard knows, oldest first."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"a time without a timezone cannot be stored: {moment.isoformat()}")
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


class UtcTime(TypeDecorator[datetime]):
    """Timezone-aware datetimes, kept exactly; they come back as UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> int | None:
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else from_micros(value)


class FreeText(TypeDecorator[str]):
    """Text from outside: NUL (PostgreSQL refuses it) and lone surrogates (UTF-8 has none) are kept as escapes."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


_Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up by itself only in an INTEGER key
_Json = JSON(none_as_null=True)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

version = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))

meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

leases = Table(
    "leases",
    metadata,
    Column("service", Text, primary_key=True),
    Column("holder", Text, nullable=False),  # "" when released: the row stays, so that the fence only ever grows
    Column("fence", BigInteger, nullable=False),
    Column("since_s", Double, nullable=False),
    Column("expires_s", Double, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("seq", _Serial, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("service", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("hosts", _Json, nullable=False),
    Column("healthy", Boolean),
    Column("reason", FreeText, nullable=False),
    Column("irreversible", Boolean, nullable=False, server_default=false()),
    Index(None, "service", "recorded_at"),
)

rollbacks = Table(
    "rollbacks",
    metadata,
    Column("seq", _Serial, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("key", Text, unique=True),  # NULL for attempts that claim nothing: dry runs and refusals
    Column("service", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("reason", FreeText, nullable=False),
    Column("playbook", _Json),
    Column("plan", _Json, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("artifacts", Text),
    Column("verified", Boolean, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("gate_id", Text),
    Column("answers", _Json),
    Column("settings", _Json),
    Index(None, "service", "started_at"),
)

rollback_hosts = Table(
    "rollback_hosts",
    metadata,
    Column("rollback_id", Text, ForeignKey("rollbacks.id"), primary_key=True),
    Column("host", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("from_image", _Json),
    Column("to_image", _Json),
    Column("backup_tag", Text),
    Column("downtime_s", Double),
    Column("error", FreeText),
    Column("notice", FreeText),
)

gates = Table(
    "gates",
    metadata,
    Column("seq", _Serial, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("services", _Json, nullable=False),
    Column("outcome", Text),
    Column("reason", FreeText, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("document", _Json, nullable=False),
    Column("settings", _Json),
    Index(None, "started_at"),
)

holds = Table(
    "holds",
    metadata,
    Column("service", Text, primary_key=True),  # one at a time; earlier ones are in the audit
    Column("reason", FreeText, nullable=False),
    Column("author", FreeText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("until", UtcTime, nullable=False),
)

observations = Table(
    "observations",
    metadata,
    Column("seq", _Serial, primary_key=True),
    Column("service", Text, nullable=False),
    Column("check", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("latency_s", Double),
    Column("reason", FreeText, nullable=False),
    Column("evidence", _Json, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("source", Text, nullable=False, server_default=""),
    Index(None, "service", "at"),
)

observation_hours = Table(
    "observation_hours",
    metadata,
    Column("service", Text, primary_key=True),
    Column("hour", UtcTime, primary_key=True),
    Column("check", Text, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("healthy", Integer, nullable=False),
    Column("degraded", Integer, nullable=False),
    Column("unhealthy", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("latencies", Integer, nullable=False),  # how many had one: an hour may be folded in several steps
    Column("latency_sum_s", Double, nullable=False),
    Column("latency_min_s", Double),
    Column("latency_max_s", Double),
    Column("first_bad", FreeText, nullable=False),
)

target_statuses = Table(
    "target_statuses",
    metadata,
    Column("service", Text, primary_key=True),
    Column("check", Text, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("successes", Integer, nullable=False),
    Column("unknowns", Integer, nullable=False),
    Column("warned", Boolean, nullable=False),
    Column("crossed", Boolean, nullable=False),
    Column("recent", Text, nullable=False, server_default=""),
    Column("last", _Json),  # the last observation, whole: it outlives the retention of observations
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Index(None, "subject"),
)
