"""What was written to a prompt cache, and at which tier a request was served."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of earlier rows nothing was written to a cache as far as is known."""
    for table in ("learned_contexts", "outcomes"):
        for name in ("cache_write_tokens", "cache_write_1h_tokens"):
            column = sa.Column(name, sa.Integer, nullable=False, server_default="0")
            op.add_column(table, column)
    op.add_column("outcomes", sa.Column("service_tier", sa.String))
