"""Why it was decided so: every rule's answer, the thresholds in force, the flapping window, irreversible releases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("releases", sa.Column("irreversible", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("rollbacks", sa.Column("answers", sa.JSON()))
    op.add_column("rollbacks", sa.Column("settings", sa.JSON()))
    op.add_column("gates", sa.Column("settings", sa.JSON()))
    op.add_column("target_statuses", sa.Column("recent", sa.Text(), nullable=False, server_default=""))
