"""Who measured an observation; old observations folded into hours; the trail of one rollback, gate or release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("observations", sa.Column("source", sa.Text(), nullable=False, server_default=""))
    op.create_index("ix_audit_subject", "audit", ["subject"])
    op.create_table(
        "observation_hours",
        sa.Column("service", sa.Text(), primary_key=True),
        sa.Column("hour", sa.BigInteger(), primary_key=True),
        sa.Column("check", sa.Text(), primary_key=True),
        sa.Column("host", sa.Text(), primary_key=True),
        sa.Column("healthy", sa.Integer(), nullable=False),
        sa.Column("degraded", sa.Integer(), nullable=False),
        sa.Column("unhealthy", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column("latencies", sa.Integer(), nullable=False),
        sa.Column("latency_sum_s", sa.Double(), nullable=False),
        sa.Column("latency_min_s", sa.Double()),
        sa.Column("latency_max_s", sa.Double()),
        sa.Column("first_bad", sa.Text(), nullable=False),
    )
