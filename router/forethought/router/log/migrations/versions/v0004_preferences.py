"""The preferences that a decision was made with, and the interval of its predictability."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of earlier decisions they are unknown."""
    op.add_column("decisions", sa.Column("preferences", sa.JSON))
    op.add_column("decisions", sa.Column("predictability_low", sa.Double))
    op.add_column("decisions", sa.Column("predictability_high", sa.Double))
