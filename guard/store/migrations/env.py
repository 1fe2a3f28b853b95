"""Alembic's entry. The connection, and the transaction it is in, come from ``guard.store.migrate``."""

from __future__ import annotations

from alembic import context

from guard.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most things in place
)
with context.begin_transaction():
    context.run_migrations()
