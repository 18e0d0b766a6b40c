"""The first tables: contexts, learned contexts, decisions, outcomes, feedback."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "contexts",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("registered", sa.Boolean, nullable=False),
        sa.Column("n_queries", sa.Integer, nullable=False),
        sa.Column("last_query_at", sa.Double),
        sa.UniqueConstraint("tenant", "hash"),
    )
    op.create_index("ix_contexts_tenant_created_at_id", "contexts", ["tenant", "created_at", "id"])
    op.create_table(
        "learned_contexts",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column(
            "context_id",
            sa.String,
            sa.ForeignKey("contexts.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("level", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("notes", sa.JSON, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        *_usage_columns(),
        sa.Column("cost_usd", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("dropped", sa.Integer, nullable=False),
        sa.UniqueConstraint("context_id", "version"),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("context_id", sa.String),
        sa.Column("learned_context_id", sa.String),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("strategy", sa.String, nullable=False),
        sa.Column("propensity", sa.Double, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("policy_version", sa.String, nullable=False),
        sa.Column("feature_version", sa.String, nullable=False),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("candidates", sa.JSON, nullable=False),
        sa.Column("predictability", sa.Double),
        sa.Column("expected_queries", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("changes", sa.JSON, nullable=False),
        sa.CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity"),
    )
    op.create_index("ix_decisions_context_id", "decisions", ["context_id"])
    op.create_index("ix_decisions_created_at_id", "decisions", ["created_at", "id"])
    op.create_table(
        "outcomes",
        _decision_column(primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("http_status", sa.Integer, nullable=False),
        *_usage_columns(),
        sa.Column("cost_usd", sa.Double),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("ttft_ms", sa.Double),
        sa.Column("finish_reason", sa.String),
        sa.Column("error", sa.Text),
        sa.Column("finished_at", sa.Double, nullable=False),
        sa.Column("answer", sa.Text),
    )
    op.create_table(
        "feedback",
        sa.Column("id", sa.String, primary_key=True),
        _decision_column(primary_key=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("quality", sa.Double, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("comment", sa.Text),
        sa.CheckConstraint("quality >= 0 AND quality <= 1", name="quality"),
    )
    op.create_index("ix_feedback_decision_id", "feedback", ["decision_id"])


def _usage_columns() -> list[sa.Column[int]]:
    names = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    return [sa.Column(name, sa.Integer, nullable=False) for name in names]


def _decision_column(*, primary_key: bool) -> sa.Column[str]:
    return sa.Column(
        "decision_id",
        sa.String,
        sa.ForeignKey("decisions.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )
