"""Run by Alembic, never imported: applies the migrations on the caller's connection.

The caller (``forethought.router.log.store``) holds the transaction, so that a failing
migration leaves nothing half-written.
"""

from __future__ import annotations

from alembic import context

from forethought.router.log.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
