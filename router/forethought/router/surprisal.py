"""How surprising queries are, asked of the upstream: ahead of the decision, or after the reply.

Ahead, a request waits for one more call, and its own decision knows. After, nobody waits, and the
next decisions on the context know how surprising its queries have been. Either way the call reads
the context again, and no budget counts it: so it is off until it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from typing import Final

from forethought.router.errors import UpstreamError
from forethought.router.experience import Experience, Scored
from forethought.router.log import LogWriter
from forethought.router.records import Decision, QuerySurprisal
from forethought.router.upstream.scoring import CannotScore, Scorer

log = logging.getLogger(__name__)

PATIENCE_S: Final = 2.0
"""A decision waits no longer: it can do without."""

MAX_WAITING: Final = 100
"""Queries to be scored after their replies; more are left out."""


class Surprisals:
    """Scores queries, and tells the log and this process's memory.

    Args:
        scorer: The language model that is asked.
        ahead: Whether decisions wait for it.
        writer: The log.
        experience: What later decisions know.
    """

    def __init__(
        self, *, scorer: Scorer, ahead: bool, writer: LogWriter, experience: Experience
    ) -> None:
        self._scorer: Scorer | None = scorer
        self._ahead = ahead
        self._writer = writer
        self._experience = experience
        self._waiting: asyncio.Queue[tuple[Decision, str]] = asyncio.Queue(MAX_WAITING)
        self._task: asyncio.Task[None] | None = None

    async def ahead(self, context: str, query: str) -> float:
        """The surprisal of a query that is to be decided on, in nats a token; NaN: unknown."""
        if not self._ahead or not context or not query:
            return math.nan
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._score(context, query)
        except TimeoutError:
            log.warning("a query's surprisal took more than %.0f s", PATIENCE_S)
            return math.nan

    def answered(self, decision: Decision, context: str) -> None:
        """Keep the surprisal of a query that was answered, or have it measured."""
        if decision.context_id is None or not decision.query:
            return
        known = decision.features.get("q_surprisal", math.nan)
        if not math.isnan(known):
            self._keep(decision, known)
        elif not self._ahead and self._scorer is not None and not self._waiting.full():
            self._waiting.put_nowait((decision, context))
            self._task = self._task or asyncio.create_task(self._work(), name="surprisal")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        while True:
            decision, context = await self._waiting.get()
            nats_per_token = await self._score(context, decision.query)
            if not math.isnan(nats_per_token):
                self._keep(decision, nats_per_token)

    async def _score(self, context: str, query: str) -> float:
        scorer = self._scorer
        if scorer is None:
            return math.nan
        try:
            return (await scorer.score(context, query)).nats_per_token
        except CannotScore as error:
            self._scorer = None
            log.warning("no more queries are scored: %s", error)
        except UpstreamError as error:
            log.warning("a query could not be scored: %s", error)
        except Exception:
            log.exception("a query could not be scored")
        return math.nan

    def _keep(self, decision: Decision, nats_per_token: float) -> None:
        scorer, now = self._scorer, time.time()
        if scorer is None or decision.context_id is None:
            return
        self._writer.post(
            QuerySurprisal(
                decision_id=decision.id,
                scored_at=now,
                nats_per_token=nats_per_token,
                model=scorer.model,
            )
        )
        self._experience.heard(
            Scored(at=now, context_id=decision.context_id, nats_per_token=nats_per_token)
        )
