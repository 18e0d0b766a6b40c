"""The writer's statements, compiled once: the write path runs on every request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BindParameter,
    Dialect,
    Insert,
    Table,
    Update,
    bindparam,
    case,
    update,
)
from sqlalchemy.dialects import sqlite

from forethought.router.log import tables
from forethought.router.log.rows import Row

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

TOUCH = "touch"
"""The kind of row that counts queries on a context: its id, how many, and the latest's time."""

Batch = Mapping[str, Sequence[Row]]
"""Rows by their kind: a table's name, or ``TOUCH``."""

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


class Statements:
    """The statement for each kind of row, in the SQL of ``dialect``."""

    def __init__(self, dialect: Dialect) -> None:
        self._by_kind = {
            table.name: _compile(_insert(table, dialect), dialect, tuple(table.columns.keys()))
            for table in tables.metadata.sorted_tables
            if table.name in WRITE_ORDER
        }
        touched = ("touched_id", "queries", "at")
        self._by_kind[TOUCH] = _compile(_touch(), dialect, touched)

    def of(self, batch: Batch) -> Iterator[tuple[str, Sequence[Any]]]:
        """The SQL that stores ``batch``, each with the parameters of all its rows."""
        for kind in WRITE_ORDER:
            if rows := batch.get(kind):
                statement = self._by_kind[kind]
                yield statement.sql, statement.bind(_merged(rows) if kind == TOUCH else rows)


@dataclass(frozen=True, slots=True)
class _Statement:
    """SQL compiled once, and where in a row each of its parameters is."""

    sql: str
    names: tuple[str, ...]
    positions: tuple[int, ...] | None

    def bind(self, rows: Sequence[Row]) -> Sequence[Row] | Sequence[dict[str, Any]]:
        if self.positions is None:
            return [dict(zip(self.names, row, strict=True)) for row in rows]
        if self.positions == tuple(range(len(self.names))):
            return rows
        return [tuple(row[position] for position in self.positions) for row in rows]


def _merged(touches: Iterable[Row]) -> list[Row]:
    """One row a context: a batch has many queries on few of them."""
    merged: dict[str, Row] = {}
    for context_id, queries, at in touches:
        _, so_far, latest = merged.get(context_id, (context_id, 0, at))
        merged[context_id] = (context_id, so_far + queries, max(latest, at))
    return list(merged.values())


def _insert(table: Table, dialect: Dialect) -> Insert:
    statement = _insert_into(table, dialect)
    if table is not tables.contexts:
        return statement
    # The same context may be found twice; what was registered stays so, and the counts
    # belong to context_touched.
    registered = table.c.registered | statement.excluded.registered
    return statement.on_conflict_do_update(
        index_elements=["tenant", "hash"], set_={"registered": registered}
    )


def _insert_into(table: Table, dialect: Dialect) -> sqlite.Insert | postgresql.Insert:
    if dialect.name != "postgresql":
        return sqlite.insert(table)
    # It brings all of Postgres' drivers, of which SQLite needs none.
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415

    return postgresql.insert(table)


def _touch() -> Update:
    contexts = tables.contexts
    at: BindParameter[float] = bindparam("at")
    queries: BindParameter[int] = bindparam("queries")
    latest = case((contexts.c.last_query_at > at, contexts.c.last_query_at), else_=at)
    return (
        update(contexts)
        .where(contexts.c.id == bindparam("touched_id"))
        .values(n_queries=contexts.c.n_queries + queries, last_query_at=latest)
    )


def _compile(statement: Insert | Update, dialect: Dialect, names: tuple[str, ...]) -> _Statement:
    keys = names if isinstance(statement, Insert) else None
    compiled = statement.compile(dialect=dialect, column_keys=keys)
    order = compiled.positiontup if compiled.positional else None
    positions = None if order is None else tuple(names.index(name) for name in order)
    return _Statement(str(compiled), names, positions)
