"""One request's path: decide, log, call the upstream, log what came of it, reply.

The decision is queued for the disk before the upstream is called, and there within a twentieth
of a second; the outcome is there before the last byte is sent. Where the log, a prediction or
sleep fails, the request still goes through; the failure is counted and shown.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, Protocol

from forethought.router.budget import Budget, dearest_usd, most_calls
from forethought.router.calls import Calls, with_usage
from forethought.router.errors import StoreError, UpstreamError
from forethought.router.experience import Asked, Experience
from forethought.router.fallbacks import fails
from forethought.router.incoming import ChatRequest
from forethought.router.known import Known, KnownContexts
from forethought.router.log import LogWriter
from forethought.router.log.rows import Record
from forethought.router.outcomes import Measure, after_failures
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import Decision, Outcome
from forethought.router.replies import (
    Reply,
    StreamedReply,
    as_stream,
    error_body,
    reply_headers,
)
from forethought.router.serving import Serving
from forethought.router.sse import ChunkReader, Reader
from forethought.router.strategies.base import Plan
from forethought.router.strategies.vote import unstreamed
from forethought.router.surprisal import Surprisals
from forethought.router.turns import Turn, Turns
from forethought.router.upstream.base import Upstream, UpstreamReply, UpstreamStream
from forethought.router.upstream.several import upstream_for

log = logging.getLogger(__name__)

LOG_PATIENCE_S: Final = 5.0
"""A request waits no longer for a log that hangs."""

DRAIN_S: Final = 0.5
"""After the last event the upstream has this long to end its reply, so that its connection can
be used again."""


FIRST_EVENT_PATIENCE_S: Final = 10.0
"""The client waits no longer for a stream's headers: until they are sent, an error has a status of
its own, but proxies on the way close what is silent for a minute."""


class Observer(Protocol):
    """Who is told what happens, for the metrics."""

    def decided(self, decision: Decision) -> None: ...

    def finished(self, decision: Decision, outcome: Outcome, overhead_ms: float) -> None: ...

    def log_failed(self, what: str) -> None: ...


class Gateway:
    """Serves chat requests.

    Args:
        upstream: Who answers.
        turns: Who decides.
        contexts: What is known of contexts; the gateway counts their queries.
        writer: The log.
        prices: What answers cost.
        serving: What is served.
        observer: Is told of decisions, outcomes and failures.
        after_reply: Called with the context after each answer; plans sleep, off the path.
        budget: What may be spent; None where that is no matter.
        experience: Is told of every query that was answered.
        surprisals: Keeps how surprising they were; None where nobody asks.
    """

    def __init__(
        self,
        *,
        upstream: Upstream,
        turns: Turns,
        contexts: KnownContexts,
        writer: LogWriter,
        prices: PriceTable,
        serving: Serving,
        observer: Observer,
        after_reply: Callable[[Known | None], None] | None = None,
        budget: Budget | None = None,
        experience: Experience | None = None,
        surprisals: Surprisals | None = None,
    ) -> None:
        self._upstream = upstream
        self._turns = turns
        self._contexts = contexts
        self._writer = writer
        self._prices = prices
        self._serving = serving
        self._observer = observer
        self._after_reply = after_reply
        self._budget = budget
        self._experience = experience
        self._surprisals = surprisals

    async def decide(self, request: ChatRequest) -> Turn:
        """Choose how to answer; the decision is on its way to the disk when this returns.

        Raises:
            BudgetSpent: What is left of the budget does not pay for the answer.
        """
        if self._budget is not None and self._budget.is_spent():
            self._budget.arrived()
            self._budget.check()
        turn = await self._turns.make(request)
        self._admit(turn)
        try:
            turn.recording = self._writer.begin(turn.decision)
        except StoreError as error:
            self._not_logged("decision", error)
        turn.logged = turn.recording is not None
        self._observer.decided(turn.decision)
        return turn

    async def complete(self, turn: Turn) -> Reply:
        """Answer in one piece. The outcome is durable when this returns."""
        if turn.plan is not None:
            return await self._planned(turn, turn.plan)
        first = turn.body
        while True:
            measure = self._measure(turn)
            began = time.perf_counter()
            try:
                reply = await self._upstream.complete(turn.body, turn.request.headers)
                self._require_content(turn, reply)
            except UpstreamError as error:
                turn.waited_s += time.perf_counter() - began
                if self._falls_back(turn, measure, error, first):
                    continue
                return await self._failed(turn, error, measure.failed(error))
            except asyncio.CancelledError:
                self._finish_later(turn, measure.cancelled())
                raise
            except Exception as error:
                self._finish_later(turn, measure.broken(error))
                raise
            turn.waited_s += time.perf_counter() - began
            if reply.status < 400 or not self._falls_back(turn, measure, reply, first):
                return await self._whole(turn, reply, measure.whole(reply))

    @asynccontextmanager
    async def stream(self, turn: Turn) -> AsyncIterator[Reply | StreamedReply]:
        """Answer as a stream; leaving early cancels the upstream call.

        A reply of the upstream that is no stream comes in one piece, and so does an error before
        its first event.
        """
        if turn.plan is not None:
            yield as_stream(turn, await self._planned(turn, turn.plan))
            return
        first = turn.body
        while True:
            measure = self._measure(turn)
            began, waited_s = time.perf_counter(), turn.waited_s
            try:
                opening = self._upstream.stream(turn.body, turn.request.headers)
                async with opening as upstream:
                    kind = upstream.headers.get("content-type", "")
                    if upstream.status < 400 and kind.startswith("text/event-stream"):
                        turn.waited_s += time.perf_counter() - began
                        async with self._begun(turn, upstream) as streamed:
                            yield streamed
                        return
                    body = b"".join([chunk async for chunk in upstream.chunks])
                    reply = UpstreamReply(upstream.status, upstream.headers, body)
                    self._require_content(turn, reply)
            except UpstreamError as error:
                turn.waited_s = waited_s + time.perf_counter() - began
                if self._falls_back(turn, measure, error, first):
                    continue
                yield await self._failed(turn, error, measure.failed(error))
                return
            except asyncio.CancelledError:
                self._finish_later(turn, measure.cancelled())
                raise
            except Exception as error:
                self._finish_later(turn, measure.broken(error))
                raise
            turn.waited_s += time.perf_counter() - began
            if reply.status < 400 or not self._falls_back(turn, measure, reply, first):
                yield await self._whole(turn, reply, measure.whole(reply))
                return

    async def _planned(self, turn: Turn, plan: Plan) -> Reply:
        """Answer by several calls or none. Leaving early cancels them; all made are billed."""
        measure = self._measure(turn)
        calls = Calls(self._upstream, turn.request.headers, turn.fallbacks)
        began = time.perf_counter()
        reply: UpstreamReply | None = None

        def billed(outcome: Outcome) -> Outcome:
            turn.calls = calls.made
            if turn.fallbacks is not None:
                turn.answered_by = calls.model_of(reply)
                turn.warnings = calls.warnings.get(turn.model, ())
                if turn.model != turn.decision.model:
                    outcome = replace(outcome, model=turn.model)
            return calls.billed(outcome, self._prices_of)

        try:
            try:
                reply = await plan(calls)
            except UpstreamError as error:
                log.warning("%s failed: %s; falling back", turn.decision.strategy, error)
                reply = await calls(unstreamed(turn.direct_body))
        except UpstreamError as error:
            turn.waited_s += time.perf_counter() - began
            return await self._failed(turn, error, billed(measure.failed(error)))
        except asyncio.CancelledError:
            self._finish_later(turn, billed(measure.cancelled()))
            raise
        except Exception as error:
            self._finish_later(turn, billed(measure.broken(error)))
            raise
        turn.waited_s += time.perf_counter() - began
        shown = with_usage(reply, calls.usage)
        return await self._whole(turn, shown, billed(measure.whole(shown)))

    async def route(self, request: ChatRequest) -> Decision:
        """What would be decided; nothing is logged, sent or remembered."""
        return (await self._turns.make(request, dry=True)).decision

    def features_of(self, known: Known) -> Mapping[str, float]:
        """The features of a context's latest query; of the context alone if it had none."""
        return known.features or self._turns.context_features(known)

    @asynccontextmanager
    async def _begun(self, turn: Turn, upstream: UpstreamStream) -> AsyncIterator[StreamedReply]:
        """A stream, once its first event has come or was waited for long enough.

        Raises:
            UpstreamError: It broke off before; its outcome is not logged yet.
        """
        headers = {**reply_headers(turn, upstream.headers), "x-accel-buffering": "no"}
        begun = asyncio.Event()
        async with aclosing(self._passed(turn, upstream, begun)) as chunks:
            first = asyncio.create_task(_first(chunks))
            try:
                await asyncio.wait({first}, timeout=FIRST_EVENT_PATIENCE_S)
                if first.done():
                    first.result()
                begun.set()
                native = turn.native and upstream.native is not None
                joined = _joined(first, chunks)
                yield StreamedReply(upstream.status, headers, joined, native=native)
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)

    async def _passed(
        self, turn: Turn, upstream: UpstreamStream, begun: asyncio.Event
    ) -> AsyncGenerator[bytes, None]:
        """The upstream's events, the last one only when the outcome is durable.

        Raises:
            UpstreamError: It broke off before ``begun``.
        """
        measure = self._measure(turn)
        reader: Reader
        if turn.native and upstream.native is not None:
            reader, chunks = upstream.native.reader, aiter(upstream.native.chunks)
        else:
            reader, chunks = ChunkReader(hide_usage=turn.hide_usage), aiter(upstream.chunks)
        try:
            while not reader.done and (chunk := await _next(turn, chunks)) is not None:
                if passed := reader.feed(chunk):
                    yield passed
            last = reader.rest()
            self._require_end(turn, reader)
            await self._finish(turn, measure.streamed(reader.seen, upstream.status))
            yield last
            if reader.done:
                await _drain(chunks)
        except UpstreamError as error:
            if not begun.is_set():
                raise
            await self._finish(turn, measure.failed(error, reader.seen))
            yield reader.failure(error)
        except (asyncio.CancelledError, GeneratorExit):
            self._finish_later(turn, measure.cancelled(reader.seen))
            raise
        except Exception as error:
            self._finish_later(turn, measure.broken(error, reader.seen))
            raise

    def _falls_back(
        self,
        turn: Turn,
        measure: Measure,
        failure: UpstreamReply | UpstreamError,
        first: Mapping[str, Any],
    ) -> bool:
        """Whether another model is asked; ``turn`` then has its body. ``first`` was sent first."""
        if turn.fallbacks is None:
            return False
        if isinstance(failure, UpstreamReply) and not fails(failure.status):
            return False
        failed, following = measure.failed_call(failure), turn.fallbacks.after(turn.model, first)
        turn.failed += (failed,)
        if following is None:
            turn.all_failed = True
            return False
        log.warning("%s: %s; asking %s", failed.model, failed.why, following.body["model"])
        turn.body, turn.warnings = following.body, following.warnings
        return True

    def _require_end(self, turn: Turn, reader: Reader) -> None:
        if not reader.done and not reader.seen.ended:
            name = upstream_for(self._upstream, turn.model)[0].name
            raise UpstreamError(
                f"The upstream {name} ended the stream in mid-answer.",
                param=name,
                remedy="Try again.",
            )

    def _require_content(self, turn: Turn, reply: UpstreamReply) -> None:
        # Clients take an empty stream for an empty answer, and try a 502 again.
        if reply.status < 400 and not reply.body.strip():
            name = upstream_for(self._upstream, turn.model)[0].name
            raise UpstreamError(
                f"The upstream {name} answered with nothing.",
                param=name,
                remedy="Try again.",
            )

    async def _whole(self, turn: Turn, reply: UpstreamReply, outcome: Outcome) -> Reply:
        await self._finish(turn, outcome)
        headers = reply_headers(turn, reply.headers)
        if turn.native and reply.native is not None:
            return Reply(reply.status, headers, reply.native, native=True)
        return Reply(reply.status, headers, reply.body)

    async def _failed(self, turn: Turn, error: UpstreamError, outcome: Outcome) -> Reply:
        await self._finish(turn, outcome)
        headers = reply_headers(turn, {"content-type": "application/json"})
        return Reply(error.http_status, headers, error_body(error))

    async def _finish(self, turn: Turn, outcome: Outcome) -> None:
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

    def _finish_later(self, turn: Turn, outcome: Outcome) -> None:
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

    def _measure(self, turn: Turn) -> Measure:
        model = turn.body["model"]
        return Measure(
            decision_id=turn.decision.id,
            sent=turn.body,
            prices=lambda tier: self._prices_of(model, tier),
            log_text=self._serving.log_text,
            began=turn.request.began,
        )

    def _prices_of(self, model: str, tier: str | None) -> Prices | None:
        return self._prices.lookup(model, self._serving.provider_url, tier)


def _with_failures(turn: Turn, outcome: Outcome) -> Outcome:
    return after_failures(outcome, turn.failed, turn.model, last_too=turn.all_failed)


async def _next(turn: Turn, chunks: AsyncIterator[bytes]) -> bytes | None:
    began = time.perf_counter()
    try:
        return await anext(chunks, None)
    finally:
        turn.waited_s += time.perf_counter() - began


async def _first(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _joined(
    first: asyncio.Task[bytes | None], rest: AsyncIterator[bytes]
) -> AsyncGenerator[bytes, None]:
    """The first chunk, for which a task waits, and those after it."""
    chunk = await first
    if chunk is None:
        return
    yield chunk
    async for one in rest:
        yield one


async def _drain(chunks: AsyncIterator[Any]) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            async for _ in chunks:
                pass
    except (TimeoutError, UpstreamError):
        pass
