"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "leases",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("since_s", sa.Double(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("service", name="pk_leases"),
    )
    op.create_table(
        "releases",
        sa.Column("seq", _serial, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("hosts", sa.JSON(), nullable=False),
        sa.Column("healthy", sa.Boolean()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_releases"),
        sa.UniqueConstraint("id", name="uq_releases_id"),
    )
    op.create_index("ix_releases_service_recorded_at", "releases", ["service", "recorded_at"])
    _rollbacks()
    op.create_table(
        "gates",
        sa.Column("seq", _serial, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("services", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_gates"),
        sa.UniqueConstraint("id", name="uq_gates_id"),
    )
    op.create_index("ix_gates_started_at", "gates", ["started_at"])
    op.create_table(
        "holds",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("service", name="pk_holds"),
    )
    _targets()
    op.create_table(
        "audit",
        sa.Column("seq", _serial, nullable=False, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.execute(f"INSERT INTO meta (key, value) VALUES ('audit_head', '0:{'0' * 64}')")  # noqa: S608 - constants only


def _rollbacks() -> None:
    op.create_table(
        "rollbacks",
        sa.Column("seq", _serial, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text()),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("playbook", sa.JSON()),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("artifacts", sa.Text()),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("gate_id", sa.Text()),
        sa.PrimaryKeyConstraint("seq", name="pk_rollbacks"),
        sa.UniqueConstraint("id", name="uq_rollbacks_id"),
        sa.UniqueConstraint("key", name="uq_rollbacks_key"),
    )
    op.create_index("ix_rollbacks_service_started_at", "rollbacks", ["service", "started_at"])
    op.create_table(
        "rollback_hosts",
        sa.Column("rollback_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("from_image", sa.JSON()),
        sa.Column("to_image", sa.JSON()),
        sa.Column("backup_tag", sa.Text()),
        sa.Column("downtime_s", sa.Double()),
        sa.Column("error", sa.Text()),
        sa.Column("notice", sa.Text()),
        sa.PrimaryKeyConstraint("rollback_id", "host", name="pk_rollback_hosts"),
        sa.ForeignKeyConstraint(["rollback_id"], ["rollbacks.id"], name="fk_rollback_hosts_rollback_id"),
    )


def _targets() -> None:
    op.create_table(
        "observations",
        sa.Column("seq", _serial, nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("check", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("latency_s", sa.Double()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_observations"),
    )
    op.create_index("ix_observations_service_at", "observations", ["service", "at"])
    op.create_table(
        "target_statuses",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("check", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("successes", sa.Integer(), nullable=False),
        sa.Column("unknowns", sa.Integer(), nullable=False),
        sa.Column("warned", sa.Boolean(), nullable=False),
        sa.Column("crossed", sa.Boolean(), nullable=False),
        sa.Column("last", sa.JSON()),
        sa.PrimaryKeyConstraint("service", "check", "host", name="pk_target_statuses"),
    )
