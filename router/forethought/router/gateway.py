"""One request's path: decide, call the upstream, reply.

Where a prediction or sleep fails, the request still goes through. What is written down on the way
is the matter of ``bookkeeping``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from forethought.router.bookkeeping import Bookkeeping
from forethought.router.calls import Calls, with_usage
from forethought.router.errors import UpstreamError
from forethought.router.fallbacks import fails
from forethought.router.incoming import ChatRequest
from forethought.router.known import Known
from forethought.router.outcomes import Measure
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
from forethought.router.turns import Turn, Turns
from forethought.router.upstream.base import Upstream, UpstreamReply, UpstreamStream
from forethought.router.upstream.several import upstream_for

log = logging.getLogger(__name__)

DRAIN_S: Final = 0.5
"""After the last event the upstream has this long to end its reply, so that its connection can
be used again."""


FIRST_EVENT_PATIENCE_S: Final = 10.0
"""The client waits no longer for a stream's headers: until they are sent, an error has a status of
its own, but proxies on the way close what is silent for a minute."""


class Gateway:
    """Serves chat requests.

    Args:
        upstream: Who answers.
        turns: Who decides.
        books: Where it is written down.
        prices: What answers cost.
        serving: What is served.
    """

    def __init__(
        self,
        *,
        upstream: Upstream,
        turns: Turns,
        books: Bookkeeping,
        prices: PriceTable,
        serving: Serving,
    ) -> None:
        self._upstream = upstream
        self._turns = turns
        self._books = books
        self._prices = prices
        self._serving = serving

    async def decide(self, request: ChatRequest) -> Turn:
        """Choose how to answer; the decision is on its way to the disk when this returns.

        Raises:
            BudgetSpent: What is left of the budget does not pay for the answer.
        """
        self._books.check_budget()
        turn = await self._turns.make(request)
        self._books.begin(turn)
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
                self._books.finish_later(turn, measure.cancelled())
                raise
            except Exception as error:
                self._books.finish_later(turn, measure.broken(error))
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
                self._books.finish_later(turn, measure.cancelled())
                raise
            except Exception as error:
                self._books.finish_later(turn, measure.broken(error))
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
            self._books.finish_later(turn, billed(measure.cancelled()))
            raise
        except Exception as error:
            self._books.finish_later(turn, billed(measure.broken(error)))
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
            await self._books.finish(turn, measure.streamed(reader.seen, upstream.status))
            yield last
            if reader.done:
                await _drain(chunks)
        except UpstreamError as error:
            if not begun.is_set():
                raise
            await self._books.finish(turn, measure.failed(error, reader.seen))
            yield reader.failure(error)
        except (asyncio.CancelledError, GeneratorExit):
            self._books.finish_later(turn, measure.cancelled(reader.seen))
            raise
        except Exception as error:
            self._books.finish_later(turn, measure.broken(error, reader.seen))
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
        await self._books.finish(turn, outcome)
        headers = reply_headers(turn, reply.headers)
        if turn.native and reply.native is not None:
            return Reply(reply.status, headers, reply.native, native=True)
        return Reply(reply.status, headers, reply.body)

    async def _failed(self, turn: Turn, error: UpstreamError, outcome: Outcome) -> Reply:
        await self._books.finish(turn, outcome)
        headers = reply_headers(turn, {"content-type": "application/json"})
        return Reply(error.http_status, headers, error_body(error))

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
