"""How surprising a query was to a language model, where one was asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; no query so far was scored."""
    op.create_table(
        "surprisals",
        sa.Column(
            "decision_id",
            sa.String,
            sa.ForeignKey("decisions.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("scored_at", sa.Double, nullable=False),
        sa.Column("nats_per_token", sa.Double, nullable=False),
        sa.Column("model", sa.String, nullable=False),
    )
