"""What the log knows of past queries, in the order in which it became known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import Connection, func, select

from forethought.models.history import ALL_CONTEXTS, CONTEXTS
from forethought.router.experience import COUNTED, Asked, Event, Judged, Past, Scored
from forethought.router.log import rows
from forethought.router.log.store import Store
from forethought.router.log.tables import contexts, decisions, feedback, outcomes, surprisals
from forethought.router.records import Context

LATEST: Final = 100_000
"""Queries that are read at most: a context with a million is known by its latest."""

_IDS: Final = 500
"""Contexts asked about at a time: databases limit the parameters of a statement."""


def read_past(store: Store, until: float, *, per_tenant: int = CONTEXTS) -> Past:
    """What was known before ``until`` (Unix seconds) of each tenant's latest contexts.

    Raises:
        StoreError: The log cannot be read.
    """
    with store.reading() as connection:
        known = {context.id: context for context in _contexts(connection, per_tenant)}
        events = [
            event for ids in _batches(list(known)) for event in _events(connection, ids, until)
        ]
    # What was asked comes before what was said of it.
    events.sort(key=lambda event: (event.at, not isinstance(event, Asked)))
    return known, events


def _contexts(connection: Connection, per_tenant: int) -> Iterator[Context]:
    place = func.row_number().over(
        partition_by=contexts.c.tenant, order_by=contexts.c.last_query_at.desc()
    )
    asked = contexts.c.last_query_at.is_not(None)
    chosen = select(contexts.c.id, place.label("place")).where(asked).subquery()
    query = (
        select(contexts)
        .join(chosen, chosen.c.id == contexts.c.id)
        .where(chosen.c.place <= per_tenant)
        .order_by(contexts.c.last_query_at.desc())
        .limit(ALL_CONTEXTS)
    )
    for row in connection.execute(query).mappings():
        yield rows.context(row)


def _events(connection: Connection, ids: Sequence[str], until: float) -> Iterator[Event]:
    answered = (
        select(
            decisions.c.id, decisions.c.context_id, decisions.c.query, decisions.c.created_at,
            decisions.c.strategy, outcomes.c.finished_at,
        )
        .join(outcomes, outcomes.c.decision_id == decisions.c.id)
        .where(
            decisions.c.context_id.in_(ids),
            outcomes.c.status.in_(COUNTED),
            outcomes.c.finished_at < until,
        )
        .order_by(decisions.c.created_at.desc())
        .limit(LATEST)
    )  # fmt: skip
    for row in connection.execute(answered):
        yield Asked(
            at=row.finished_at, context_id=row.context_id, query=row.query,
            created_at=row.created_at,
        )  # fmt: skip
    said = (
        select(
            feedback.c.decision_id, feedback.c.created_at, feedback.c.quality,
            decisions.c.context_id, decisions.c.strategy,
        )
        .join(decisions, decisions.c.id == feedback.c.decision_id)
        .where(decisions.c.context_id.in_(ids), feedback.c.created_at < until)
        .order_by(feedback.c.created_at, feedback.c.id)
    )  # fmt: skip
    before: dict[str, float] = {}
    for one in connection.execute(said):
        yield Judged(
            at=one.created_at, context_id=one.context_id, strategy=one.strategy,
            quality=one.quality, before=before.get(one.decision_id),
        )  # fmt: skip
        before[one.decision_id] = one.quality

    scores = (
        select(decisions.c.context_id, surprisals.c.scored_at, surprisals.c.nats_per_token)
        .join(decisions, decisions.c.id == surprisals.c.decision_id)
        .where(decisions.c.context_id.in_(ids), surprisals.c.scored_at < until)
    )
    for of in connection.execute(scores):
        yield Scored(
            at=of.scored_at, context_id=of.context_id, nats_per_token=of.nats_per_token
        )  # fmt: skip


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _IDS] for start in range(0, len(ids), _IDS))
