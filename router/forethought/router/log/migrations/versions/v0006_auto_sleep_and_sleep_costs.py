"""Contexts that are not slept on unasked, and what sleep on deleted contexts had cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TOKENS = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def upgrade() -> None:
    """Add both. Contexts so far may all be slept on; what was deleted before is not known."""
    op.add_column(
        "contexts", sa.Column("auto_sleep", sa.Boolean, nullable=False, server_default=sa.true())
    )
    op.create_table(
        "deleted_sleep",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in _TOKENS),
        sa.Column("cost_usd", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_deleted_sleep"),
    )
