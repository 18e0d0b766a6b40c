"""How many upstream calls an outcome took: several for a vote, none for a recalled answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; every outcome so far took one call."""
    op.add_column("outcomes", sa.Column("calls", sa.Integer, nullable=False, server_default="1"))
