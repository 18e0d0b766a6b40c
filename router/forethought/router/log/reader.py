"""Read the log: by id on a request's path, in time order for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Insert,
    Select,
    Table,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from forethought.router.errors import NotFound
from forethought.router.log import rows
from forethought.router.log.store import Store
from forethought.router.log.tables import (
    contexts,
    decisions,
    deleted_sleep,
    feedback,
    learned_contexts,
    outcomes,
)
from forethought.router.records import (
    Candidate,
    Context,
    Feedback,
    GradedAnswer,
    LearnedContext,
    LoggedDecision,
    Usage,
)

_PAGE = 1_000
"""Decisions read at a time, 2-4 kB each. A snapshot held open for a whole training run
would keep SQLite's write-ahead log from being folded back."""


class LogReader:
    """Reads of one store. Blocking, each well under a millisecond but the listings.

    Every method raises ``StoreError`` where the database cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def context(self, context_id: str, tenant: str) -> Context | None:
        """The context of this id, if it is the tenant's."""
        return self._context(contexts.c.id == context_id, contexts.c.tenant == tenant)

    def has_context(self, context_id: str) -> bool:
        """Whether there is a context of this id, whosever it is."""
        return self._context(contexts.c.id == context_id) is not None

    def context_by_hash(self, tenant: str, context_hash: str) -> Context | None:
        """The tenant's context of this hash."""
        return self._context(contexts.c.tenant == tenant, contexts.c.hash == context_hash)

    def contexts_by_hash(self, tenant: str, hashes: Sequence[str]) -> list[Context]:
        """The tenant's contexts of these hashes, in no order."""
        query = select(contexts).where(contexts.c.tenant == tenant, contexts.c.hash.in_(hashes))
        with self._store.reading() as connection:
            return [rows.context(row) for row in connection.execute(query).mappings()]

    def contexts(self, tenant: str, limit: int = 20, after: str | None = None) -> list[Context]:
        """The tenant's contexts, newest first, from the one that follows the id ``after``.

        Raises:
            NotFound: The tenant has no context ``after``.
        """
        query = select(contexts).where(contexts.c.tenant == tenant)
        if after is not None:
            last = self.context(after, tenant)
            if last is None:
                raise NotFound(f"There is no context {after!r}.", param="after")
            query = query.where(
                or_(
                    contexts.c.created_at < last.created_at,
                    and_(contexts.c.created_at == last.created_at, contexts.c.id < last.id),
                )
            )
        query = query.order_by(contexts.c.created_at.desc(), contexts.c.id.desc()).limit(limit)
        with self._store.reading() as connection:
            return [rows.context(row) for row in connection.execute(query).mappings()]

    def learned_context(self, learned_context_id: str) -> LearnedContext | None:
        """The learned context of this id; whose it is, its context says."""
        query = select(learned_contexts).where(_is(learned_contexts, learned_context_id))
        found = self._learned(query)
        return found[0] if found else None

    def latest_learned(self, context_id: str) -> LearnedContext | None:
        """The context's learned context of the highest version."""
        found = self._learned(_versions(context_id).limit(1))
        return found[0] if found else None

    def learned_versions(self, context_id: str) -> list[LearnedContext]:
        """All learned contexts of a context, the newest version first."""
        return self._learned(_versions(context_id))

    def decision(self, decision_id: str, tenant: str) -> LoggedDecision | None:
        """The decision of this id with what came of it, if it is the tenant's."""
        query = _joined().where(_is(decisions, decision_id), decisions.c.tenant == tenant)
        with self._store.reading() as connection:
            found = _logged(connection, query)
        return found[0] if found else None

    def logged_decisions(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        tenant: str | None = None,
        with_quality_only: bool = False,
    ) -> Iterator[LoggedDecision]:
        """Decisions made at ``since`` or later and before ``until``, in time order.

        Read page by page, each page one snapshot: what is written meanwhile may be seen.
        """
        conditions: list[ColumnElement[bool]] = []
        if since is not None:
            conditions.append(decisions.c.created_at >= since)
        if until is not None:
            conditions.append(decisions.c.created_at < until)
        if tenant is not None:
            conditions.append(decisions.c.tenant == tenant)
        if with_quality_only:
            conditions.append(exists().where(feedback.c.decision_id == decisions.c.id))
        query = (
            _joined()
            .where(*conditions)
            .order_by(decisions.c.created_at, decisions.c.id)
            .limit(_PAGE)
        )
        following: ColumnElement[bool] = true()
        while True:
            with self._store.reading() as connection:
                page = _logged(connection, query.where(following))
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].decision
            following = or_(
                decisions.c.created_at > last.created_at,
                and_(decisions.c.created_at == last.created_at, decisions.c.id > last.id),
            )

    def graded_answers(self, policy_version: str, *, limit: int) -> list[GradedAnswer]:
        """The ``limit`` latest judged answers that a policy chose, in the order of judgement.

        Those that are whole, and of the model decided on; of several judgements the last counts.
        """
        query = (
            select(
                decisions.c.id,
                decisions.c.tenant,
                decisions.c.model,
                decisions.c.context_id,
                decisions.c.strategy,
                decisions.c.candidates,
                feedback.c.quality,
            )
            .join_from(feedback, decisions)
            .join(outcomes, outcomes.c.decision_id == decisions.c.id)
            .where(
                decisions.c.policy_version == policy_version,
                outcomes.c.status == "ok",
                outcomes.c.model.is_(None),
            )
            .order_by(feedback.c.created_at.desc(), feedback.c.id.desc())
            .limit(limit)
        )
        with self._store.reading() as connection:
            found = connection.execute(query).all()
        latest: dict[str, GradedAnswer] = {}
        for row in found:
            own = next((c for c in row.candidates if c["strategy"] == row.strategy), None)
            if own is not None and row.id not in latest:
                latest[row.id] = GradedAnswer(
                    decision_id=row.id,
                    tenant=row.tenant,
                    model=row.model,
                    context_id=row.context_id,
                    candidate=Candidate(**own),
                    quality=row.quality,
                )
        return list(reversed(latest.values()))

    def spending(self, since: float) -> list[tuple[float, float | None, float | None]]:
        """When each query since ``since`` was asked, when it was answered, what it cost (USD)."""
        query = (
            select(decisions.c.created_at, outcomes.c.finished_at, outcomes.c.cost_usd)
            .outerjoin_from(decisions, outcomes)
            .where(decisions.c.created_at >= since)
        )
        with self._store.reading() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def sleep_spending(self, since: float) -> list[tuple[float, float]]:
        """When each sleep since ``since`` ended, and what it cost (USD), where that is known.

        Those on contexts that were deleted afterwards are among them.
        """
        costs = (
            select(table.c.created_at, table.c.cost_usd).where(
                table.c.created_at >= since, table.c.cost_usd.is_not(None)
            )
            for table in (learned_contexts, deleted_sleep)
        )
        with self._store.reading() as connection:
            return [(row[0], row[1]) for row in connection.execute(union_all(*costs))]

    def query_counts(self, tenant: str | None = None) -> list[int]:
        """How many queries each context has had, contexts without any left out."""
        query = select(contexts.c.n_queries).where(contexts.c.n_queries > 0)
        if tenant is not None:
            query = query.where(contexts.c.tenant == tenant)
        with self._store.reading() as connection:
            return list(connection.execute(query).scalars())

    def delete_context(self, context_id: str, tenant: str) -> bool:
        """Delete a context and its learned contexts; False where the tenant has none.

        Its decisions stay, for training, without their link and text: query, answer,
        error and comment; and what its sleep cost, without any link. Records that a writer
        has still queued are not covered: flush it first.
        """
        ours = select(decisions.c.id).where(decisions.c.context_id == context_id)
        try:
            with self._store.connect_for_writing() as connection, connection.begin():
                connection.execute(_keep_costs(context_id, tenant))
                found = connection.execute(
                    delete(contexts)
                    .where(_is(contexts, context_id), contexts.c.tenant == tenant)
                    .returning(contexts.c.id)
                ).scalar()
                if found is None:
                    return False
                connection.execute(
                    update(outcomes)
                    .where(outcomes.c.decision_id.in_(ours))
                    .values(answer=None, error=None)
                )
                connection.execute(
                    update(feedback).where(feedback.c.decision_id.in_(ours)).values(comment=None)
                )
                connection.execute(
                    update(decisions)
                    .where(decisions.c.context_id == context_id)
                    .values(context_id=None, learned_context_id=None, query="")
                )
        except SQLAlchemyError as error:
            raise self._store.error("written to", error) from error
        return True

    def set_auto_sleep(self, context_id: str, *, allowed: bool) -> None:
        """Say whether a stored context may be slept on unasked."""
        statement = update(contexts).where(_is(contexts, context_id)).values(auto_sleep=allowed)
        self._execute(statement)

    def add_deleted_sleep(self, learned: LearnedContext) -> None:
        """Keep what a sleep cost that ended when its context was deleted already."""
        usage = {name: getattr(learned.usage, name) for name in Usage.__dataclass_fields__}
        own = {name: getattr(learned, name) for name in ("created_at", "model", "cost_usd")}
        self._execute(insert(deleted_sleep).values(**own, **usage))

    def _execute(self, statement: Executable) -> None:
        try:
            with self._store.connect_for_writing() as connection, connection.begin():
                connection.execute(statement)
        except SQLAlchemyError as error:
            raise self._store.error("written to", error) from error

    def _context(self, *conditions: ColumnElement[bool]) -> Context | None:
        with self._store.reading() as connection:
            row = connection.execute(select(contexts).where(*conditions)).mappings().first()
        return None if row is None else rows.context(row)

    def _learned(self, query: Select[Any]) -> list[LearnedContext]:
        with self._store.reading() as connection:
            return [rows.learned_context(row) for row in connection.execute(query).mappings()]


_OUTCOME_COLUMNS = [column.label(f"outcome_{column.name}") for column in outcomes.columns]


def _keep_costs(context_id: str, tenant: str) -> Insert:
    """Copy what the sleep of a context cost to where it outlives the context."""
    names = [column.name for column in deleted_sleep.columns if column.name != "id"]
    costs = (
        select(*(learned_contexts.c[name] for name in names))
        .join_from(learned_contexts, contexts)
        .where(_is(contexts, context_id), contexts.c.tenant == tenant)
    )
    return insert(deleted_sleep).from_select(names, costs)


def _is(table: Table, row_id: str) -> ColumnElement[bool]:
    return table.c.id == row_id


def _versions(context_id: str) -> Select[Any]:
    return (
        select(learned_contexts)
        .where(learned_contexts.c.context_id == context_id)
        .order_by(learned_contexts.c.version.desc())
    )


def _joined() -> Select[Any]:
    return select(*decisions.columns, *_OUTCOME_COLUMNS).outerjoin_from(decisions, outcomes)


def _logged(connection: Connection, query: Select[Any]) -> list[LoggedDecision]:
    """The decisions of ``query`` with their outcome and feedback, in its order."""
    n_decision = len(decisions.columns)
    found = connection.execute(query).all()
    judgements = _feedback(connection, [row[0] for row in found])
    logged = []
    for row in found:
        decision = rows.decision(dict(zip(decisions.columns.keys(), row[:n_decision], strict=True)))
        outcome = dict(zip(outcomes.columns.keys(), row[n_decision:], strict=True))
        given = judgements.get(decision.id, ())
        logged.append(
            LoggedDecision(
                decision=decision,
                outcome=None if outcome["decision_id"] is None else rows.outcome(outcome),
                quality=given[-1].quality if given else None,
                feedback=given,
            )
        )
    return logged


def _feedback(
    connection: Connection, decision_ids: Sequence[str]
) -> dict[str, tuple[Feedback, ...]]:
    """The feedback on each decision, the latest last."""
    query = (
        select(feedback)
        .where(feedback.c.decision_id.in_(decision_ids))
        .order_by(feedback.c.decision_id, feedback.c.created_at, feedback.c.id)
    )
    given = [rows.feedback(row) for row in connection.execute(query).mappings()]
    return {key: tuple(group) for key, group in groupby(given, key=lambda one: one.decision_id)}
