"""What is written down of a request: in the log, the budget, the past, the metrics.

The decision is queued for the disk before the upstream is called, and there within a twentieth of a
second; the outcome is there before the last byte is sent. Where the log fails, the request still
goes through; the failure is counted and shown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from forethought.router.budget import Budget, dearest_usd, most_calls
from forethought.router.errors import StoreError
from forethought.router.experience import Asked, Experience
from forethought.router.known import Known, KnownContexts
from forethought.router.log import LogWriter
from forethought.router.log.rows import Record
from forethought.router.outcomes import after_failures
from forethought.router.pricing import Prices
from forethought.router.records import Decision, Outcome
from forethought.router.surprisal import Surprisals
from forethought.router.turns import Turn

log = logging.getLogger(__name__)

LOG_PATIENCE_S: Final = 5.0
"""A request waits no longer for a log that hangs."""


class Observer(Protocol):
    """Who is told what happens, for the metrics."""

    def decided(self, decision: Decision) -> None: ...

    def finished(self, decision: Decision, outcome: Outcome, overhead_ms: float) -> None: ...

    def log_failed(self, what: str) -> None: ...


class Bookkeeping:
    """Writes down what became of requests.

    Args:
        contexts: What is known of contexts; their queries are counted.
        writer: The log.
        prices_of: The prices of a model on a service tier.
        observer: Is told of decisions, outcomes and failures.
        after_reply: Called with the context after each answer; plans sleep, off the path.
        budget: What may be spent; None where that is no matter.
        experience: Is told of every query that was answered.
        surprisals: Keeps how surprising they were; None where nobody asks.
    """

    def __init__(
        self,
        *,
        contexts: KnownContexts,
        writer: LogWriter,
        prices_of: Callable[[str, str | None], Prices | None],
        observer: Observer,
        after_reply: Callable[[Known | None], None] | None = None,
        budget: Budget | None = None,
        experience: Experience | None = None,
        surprisals: Surprisals | None = None,
    ) -> None:
        self._contexts = contexts
        self._writer = writer
        self._prices_of = prices_of
        self._observer = observer
        self._after_reply = after_reply
        self._budget = budget
        self._experience = experience
        self._surprisals = surprisals

    def check_budget(self) -> None:
        """Raise BudgetSpent, and count the query, where nothing is left to spend."""
        if self._budget is not None and self._budget.is_spent():
            self._budget.arrived()
            self._budget.check()

    def begin(self, turn: Turn) -> None:
        """Take up a decision; it is on its way to the disk when this returns.

        Raises:
            BudgetSpent: What is left of the budget does not pay for the answer.
        """
        self._admit(turn)
        try:
            turn.recording = self._writer.begin(turn.decision)
        except StoreError as error:
            self._not_logged("decision", error)
        turn.logged = turn.recording is not None
        self._observer.decided(turn.decision)

    async def finish(self, turn: Turn, outcome: Outcome) -> None:
        """Make the outcome durable. What the reply does not need is done when it was sent."""
        turn.finished = True
        if turn.failed:
            outcome = _with_failures(turn, outcome)
        self._settle(outcome)
        if outcome.status == "ok":
            self._count_query(turn, outcome)
        turn.logged = await self._store(turn, outcome)
        # In the loop's next round: the reply goes out in this one, and what the client asks when it
        # has it is read after that.
        overhead_ms = turn.overhead_ms()
        asyncio.get_running_loop().call_soon(self._follow_up, turn, outcome, overhead_ms)

    def finish_later(self, turn: Turn, outcome: Outcome) -> None:
        """Log the outcome of a turn that nobody waits for any more."""
        if turn.finished:
            return
        turn.finished = True
        if turn.failed:
            outcome = _with_failures(turn, outcome)
        self._settle(outcome)
        self._count_query(turn, outcome)
        self._writer.post(*((outcome,) if turn.logged else (turn.decision, outcome)))
        self._observer.finished(turn.decision, outcome, turn.overhead_ms())

    def _follow_up(self, turn: Turn, outcome: Outcome, overhead_ms: float) -> None:
        """Tell everyone who wants to know of an answer: the metrics, sleep."""
        self._observer.finished(turn.decision, outcome, overhead_ms)
        if outcome.status == "ok" and self._surprisals is not None and turn.logged:
            self._surprisals.answered(turn.decision, turn.context_text)
        if outcome.status == "ok" and self._after_reply is not None:
            self._after_reply(turn.known)

    def _settle(self, outcome: Outcome) -> None:
        if self._budget is not None:
            self._budget.settle(outcome)

    def _count_query(self, turn: Turn, outcome: Outcome) -> None:
        known = turn.known
        if known is None:
            return
        # Queued before the outcome: one transaction takes all of them.
        if not known.saved:
            known.saved = True
            self._writer.post(known.context)
        self._writer.context_touched(known.context.id, turn.decision.created_at)
        self._contexts.touched(known, turn.decision.created_at)
        if self._experience is not None:
            asked = Asked(
                at=outcome.finished_at,
                context_id=known.context.id,
                query=turn.decision.query,
                created_at=turn.decision.created_at,
            )
            self._experience.asked(asked, known.context)

    async def _store(self, turn: Turn, outcome: Outcome) -> bool:
        """Whether the outcome is durable, and the decision with it."""
        if turn.recording is None:
            return await self._write("outcome", turn.decision, outcome)
        stored = await self._write("outcome", outcome)
        # Its decision was queued before, so it is stored by now or never will be.
        if turn.recording.done() and (error := turn.recording.exception()) is not None:
            self._not_logged("decision", error)
            return await self._write("outcome", turn.decision, outcome)
        return stored

    async def _write(self, what: str, *records: Record) -> bool:
        try:
            async with asyncio.timeout(LOG_PATIENCE_S):
                await self._writer.write(*records)
        except (StoreError, TimeoutError) as error:
            self._not_logged(what, error)
            return False
        return True

    def _not_logged(self, what: str, error: BaseException) -> None:
        log.error("the %s could not be logged: %s", what, error)
        self._observer.log_failed(what)

    def _admit(self, turn: Turn) -> None:
        """Count the query, and hold back the dearest it can cost where a hard cap asks for it."""
        budget, decision = self._budget, turn.decision
        if budget is None:
            return
        budget.arrived()
        if not budget.hard:
            return
        tier = turn.body.get("service_tier")
        bodies = [turn.body]
        if turn.fallbacks is not None:
            bodies += turn.fallbacks.bodies(turn.body)
        most = dearest_usd(
            [
                (body, self._prices_of(body["model"], tier if isinstance(tier, str) else None))
                for body in bodies
            ],
            reserve_tokens=budget.reserve_tokens,
            calls=most_calls(decision.strategy),
        )
        budget.reserve(decision.id, most)


def _with_failures(turn: Turn, outcome: Outcome) -> Outcome:
    return after_failures(outcome, turn.failed, turn.model, last_too=turn.all_failed)
