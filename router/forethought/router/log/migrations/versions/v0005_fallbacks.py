"""Which model answered, where it is another than the decision's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; every answer so far was of the decision's own model."""
    op.add_column("outcomes", sa.Column("model", sa.String))
