"""Between records and rows: what a record looks like in the database, and back.

Rows are tuples in the order of the table's columns, JSON already encoded: the write path
hands them to the driver as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from forethought.router.errors import StoreError
from forethought.router.log import tables
from forethought.router.records import (
    Candidate,
    Context,
    Decision,
    Feedback,
    LearnedContext,
    Note,
    Outcome,
    QuerySurprisal,
    Usage,
)

Record = Context | LearnedContext | Decision | Outcome | Feedback | QuerySurprisal
Row = tuple[Any, ...]
ColumnValues = Mapping[Any, Any]
"""A row as read, by column name: a dict or SQLAlchemy's ``RowMapping``."""

_CANDIDATE_FIELDS = tuple(Candidate.__dataclass_fields__)
_NOTE_FIELDS = tuple(Note.__dataclass_fields__)

_PROPENSITY_ROUNDING = 1e-9
"""How far above 1 a sum of float probabilities may land; far above any real rounding."""


def encode(record: Record) -> tuple[str, Row]:
    """The table and the row of ``record``.

    Raises:
        StoreError: A value has no JSON form; nothing was written.
    """
    try:
        table, to_row = _ENCODERS[type(record)]
    except KeyError:
        message = f"{type(record).__name__} is not a record of the log."
        raise TypeError(message) from None
    try:
        return table, to_row(record)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"A record for {table} cannot be stored: {error}."
        raise StoreError(message, param=table) from error


def _context(record: Context) -> Row:
    return (
        _text(record.id),
        _text(record.tenant),
        _text(record.hash),
        _json(record.messages),
        _text(record.text),
        record.created_at,
        record.registered,
        record.n_queries,
        record.last_query_at,
        record.auto_sleep,
    )


def _learned_context(record: LearnedContext) -> Row:
    return (
        _text(record.id),
        _text(record.context_id),
        record.version,
        _text(record.level),
        _text(record.model),
        _json([_sparse(note, _NOTE_FIELDS) for note in record.notes]),
        _text(record.text),
        record.tokens,
        *_usage(record.usage),
        record.cost_usd,
        record.created_at,
        record.dropped,
    )


def _decision(record: Decision) -> Row:
    propensity = record.propensity
    if 1 < propensity <= 1 + _PROPENSITY_ROUNDING:
        propensity = 1.0
    candidates = [_sparse(one, _CANDIDATE_FIELDS) for one in record.candidates]
    return (
        _text(record.id),
        record.created_at,
        _text(record.tenant),
        _optional(record.context_id),
        _optional(record.learned_context_id),
        _text(record.query),
        _text(record.model),
        _text(record.strategy),
        propensity,
        record.mode,
        _text(record.policy_version),
        _text(record.feature_version),
        _flat(record.features, [record.features]),
        _flat(candidates, candidates),
        record.predictability,
        record.expected_queries,
        _text(record.reason),
        _json(record.changes),
        None if record.preferences is None else _json(record.preferences),
        record.predictability_low,
        record.predictability_high,
    )


def _outcome(record: Outcome) -> Row:
    return (
        _text(record.decision_id),
        record.status,
        record.http_status,
        *_usage(record.usage),
        record.cost_usd,
        record.latency_ms,
        record.ttft_ms,
        _optional(record.finish_reason),
        _optional(record.error),
        record.finished_at,
        _optional(record.service_tier),
        _optional(record.answer),
        record.calls,
        _optional(record.model),
    )


def _feedback(record: Feedback) -> Row:
    return (
        _text(record.id),
        _text(record.decision_id),
        record.created_at,
        record.quality,
        _text(record.source),
        _optional(record.comment),
    )


def _surprisal(record: QuerySurprisal) -> Row:
    return (
        _text(record.decision_id),
        record.scored_at,
        record.nats_per_token,
        _text(record.model),
    )


_ENCODERS: Mapping[type, tuple[str, Callable[[Any], Row]]] = {
    Context: (tables.contexts.name, _context),
    LearnedContext: (tables.learned_contexts.name, _learned_context),
    Decision: (tables.decisions.name, _decision),
    Outcome: (tables.outcomes.name, _outcome),
    Feedback: (tables.feedback.name, _feedback),
    QuerySurprisal: (tables.surprisals.name, _surprisal),
}


def context(row: ColumnValues) -> Context:
    """The context of a row of ``contexts``."""
    return Context(**{**row, "messages": tuple(row["messages"])})


def learned_context(row: ColumnValues) -> LearnedContext:
    """The learned context of a row of ``learned_contexts``."""
    values = dict(row)
    usage = _pop_usage(values)
    notes = tuple(Note(**note) for note in values.pop("notes"))
    return LearnedContext(**values, usage=usage, notes=notes)


def decision(row: ColumnValues) -> Decision:
    """The decision of a row of ``decisions``."""
    values = dict(row)
    values["features"] = {
        name: math.nan if value is None else value for name, value in row["features"].items()
    }
    values["candidates"] = tuple(Candidate(**candidate) for candidate in row["candidates"])
    values["changes"] = tuple(row["changes"])
    return Decision(**values)


def outcome(row: ColumnValues) -> Outcome:
    """The outcome of a row of ``outcomes``."""
    values = dict(row)
    usage = _pop_usage(values)
    return Outcome(**values, usage=usage)


def feedback(row: ColumnValues) -> Feedback:
    """The feedback of a row of ``feedback``."""
    return Feedback(**row)


def _usage(usage: Usage) -> tuple[int, ...]:
    return (
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )


def _pop_usage(values: dict[str, Any]) -> Usage:
    return Usage(**{name: values.pop(name) for name in Usage.__dataclass_fields__})


def _sparse(record: object, fields: tuple[str, ...]) -> dict[str, Any]:
    """The fields that are set: ``dataclasses.asdict`` copies deeply, which costs 10x this."""
    return {name: value for name in fields if (value := getattr(record, name)) is not None}


def _flat(value: object, rows: Iterable[Mapping[str, Any]]) -> str:
    """JSON of ``value``, which is our own and no deeper than its ``rows``; NaN is null here too."""
    encoded = orjson.dumps(value)
    # orjson makes null of infinity as well; looking for it first would take as long as this.
    if b"null" in encoded:
        for row in rows:
            if math.inf in row.values() or -math.inf in row.values():
                message = "infinity has no JSON form"
                raise ValueError(message)
    return encoded.decode()


def _json(value: object) -> str:
    """JSON without NaN, which neither Postgres nor SQLite's functions accept."""
    try:
        encoded = orjson.dumps(value)
    except TypeError:  # a lone surrogate or a number beyond 64 bits, which json can write
        encoded = b"null"
    if b"null" not in encoded:  # orjson makes null of infinity too
        return encoded.decode()
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_nan_to_null(value), allow_nan=False, separators=(",", ":"))


def _nan_to_null(value: object) -> object:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {key: _nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_null(item) for item in value]
    return value


def _optional(text: str | None) -> str | None:
    return None if text is None else _text(text)


def _text(text: str) -> str:
    """Text that any database takes: no NUL and no lone surrogate (JSON can carry both)."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")
