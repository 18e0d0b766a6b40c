"""The log's tables, the same on SQLite and Postgres.

``decisions`` names its context and learned context without a foreign key: a decision is
queued before the upstream is called, its new context only after the reply.
An outcome or a feedback without its decision would be meaningless, so those are bound.
``deleted_sleep`` is what sleep on deleted contexts cost: money stays spent. It names nobody.

A change here needs a new file in ``migrations/versions`` and a new ``SCHEMA_REVISION``;
tests hold the three against each other.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    true,
)

SCHEMA_REVISION = "0007"
"""The migration that these tables correspond to."""

VERSION_TABLE = "forethought_schema"
"""Not Alembic's default name: MLflow may share the database, and it uses that one."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

contexts = Table(
    "contexts",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("hash", String, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("registered", Boolean, nullable=False),
    Column("n_queries", Integer, nullable=False),
    Column("last_query_at", Double),
    Column("auto_sleep", Boolean, nullable=False, server_default=true()),
    UniqueConstraint("tenant", "hash"),
    Index(None, "tenant", "created_at", "id"),
)

learned_contexts = Table(
    "learned_contexts",
    metadata,
    Column("id", String, primary_key=True),
    Column("context_id", ForeignKey("contexts.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("level", String, nullable=False),
    Column("model", String, nullable=False),
    Column("notes", JSON, nullable=False),
    Column("text", Text, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("cache_write_tokens", Integer, nullable=False, server_default="0"),
    Column("cache_write_1h_tokens", Integer, nullable=False, server_default="0"),
    Column("output_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("cost_usd", Double),
    Column("created_at", Double, nullable=False),
    Column("dropped", Integer, nullable=False),
    UniqueConstraint("context_id", "version"),
)

deleted_sleep = Table(
    "deleted_sleep",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("model", String, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("cache_write_tokens", Integer, nullable=False),
    Column("cache_write_1h_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("cost_usd", Double),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", String, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("tenant", String, nullable=False),
    Column("context_id", String, index=True),
    Column("learned_context_id", String),
    Column("query", Text, nullable=False),
    Column("model", String, nullable=False),
    Column("strategy", String, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("mode", String, nullable=False),
    Column("policy_version", String, nullable=False),
    Column("feature_version", String, nullable=False),
    Column("features", JSON, nullable=False),
    Column("candidates", JSON, nullable=False),
    Column("predictability", Double),
    Column("expected_queries", Double),
    Column("reason", Text, nullable=False),
    Column("changes", JSON, nullable=False),
    Column("preferences", JSON),
    Column("predictability_low", Double),
    Column("predictability_high", Double),
    CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity"),
    Index(None, "created_at", "id"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("decision_id", ForeignKey("decisions.id", ondelete="CASCADE"), primary_key=True),
    Column("status", String, nullable=False),
    Column("http_status", Integer, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("cache_write_tokens", Integer, nullable=False, server_default="0"),
    Column("cache_write_1h_tokens", Integer, nullable=False, server_default="0"),
    Column("output_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("cost_usd", Double),
    Column("latency_ms", Double, nullable=False),
    Column("ttft_ms", Double),
    Column("finish_reason", String),
    Column("error", Text),
    Column("finished_at", Double, nullable=False),
    Column("service_tier", String),
    Column("answer", Text),
    Column("calls", Integer, nullable=False, server_default="1"),
    Column("model", String),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", String, primary_key=True),
    Column(
        "decision_id",
        ForeignKey("decisions.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("created_at", Double, nullable=False),
    Column("quality", Double, nullable=False),
    Column("source", String, nullable=False),
    Column("comment", Text),
    CheckConstraint("quality >= 0 AND quality <= 1", name="quality"),
)

surprisals = Table(
    "surprisals",
    metadata,
    Column("decision_id", ForeignKey("decisions.id", ondelete="CASCADE"), primary_key=True),
    Column("scored_at", Double, nullable=False),
    Column("nats_per_token", Double, nullable=False),
    Column("model", String, nullable=False),
)
