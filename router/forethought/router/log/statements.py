"""The writer's statements, compiled once: the write path runs on every request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    Dialect,
    Insert,
    Table,
    Update,
    bindparam,
    case,
    literal_column,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from forethought.router.log import tables
from forethought.router.log.rows import Row

TOUCH = "touch"
"""The kind of row that counts a query on a context: its id and the time."""

WRITE_ORDER = (
    tables.contexts.name,
    tables.learned_contexts.name,
    tables.decisions.name,
    tables.outcomes.name,
    tables.feedback.name,
    tables.surprisals.name,
    TOUCH,
)
"""Within a transaction: what is referred to comes first."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL compiled once, and where in a row each of its parameters is."""

    sql: str
    names: tuple[str, ...]
    positions: tuple[int, ...] | None

    def bind(self, rows: list[Row]) -> Sequence[Row] | Sequence[dict[str, Any]]:
        if self.positions is None:
            return [dict(zip(self.names, row, strict=True)) for row in rows]
        if self.positions == tuple(range(len(self.names))):
            return rows
        return [tuple(row[position] for position in self.positions) for row in rows]


def compile_statements(dialect: Dialect) -> dict[str, Statement]:
    """The statement for each kind of row, in the SQL of ``dialect``."""
    statements = {
        table.name: _compile(_insert(table, dialect), dialect, tuple(table.columns.keys()))
        for table in tables.metadata.sorted_tables
    }
    statements[TOUCH] = _compile(_touch(), dialect, ("touched_id", "at"))
    return statements


def _insert(table: Table, dialect: Dialect) -> Insert:
    insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    if table is not tables.contexts:
        return statement
    # The same context may be found twice; what was registered stays so, and the counts
    # belong to context_touched.
    registered = table.c.registered | statement.excluded.registered
    return statement.on_conflict_do_update(
        index_elements=["tenant", "hash"], set_={"registered": registered}
    )


def _touch() -> Update:
    contexts = tables.contexts
    at: BindParameter[float] = bindparam("at")
    latest = case((contexts.c.last_query_at > at, contexts.c.last_query_at), else_=at)
    return (
        update(contexts)
        .where(contexts.c.id == bindparam("touched_id"))
        .values(n_queries=contexts.c.n_queries + literal_column("1"), last_query_at=latest)
    )


def _compile(statement: Insert | Update, dialect: Dialect, names: tuple[str, ...]) -> Statement:
    keys = names if isinstance(statement, Insert) else None
    compiled = statement.compile(dialect=dialect, column_keys=keys)
    order = compiled.positiontup if compiled.positional else None
    positions = None if order is None else tuple(names.index(name) for name in order)
    return Statement(str(compiled), names, positions)
