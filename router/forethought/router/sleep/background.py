"""Plan sleep after replies, off their path, and no more often than it can change anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Final, Literal

from forethought.router.allocation import SleepPlan
from forethought.router.decision import Decider
from forethought.router.known import Known
from forethought.router.records import Context, SleepLevel
from forethought.router.sleep.planner import SleepPlanner
from forethought.router.sleep.starting import StartingSleeper

log = logging.getLogger(__name__)

SleepMode = Literal["auto", "off", "always"]

MAX_PLANNING: Final = 64
"""Plans under way at most; what is left out is planned after a later query."""

GROWTH: Final = 1.5
"""A plan that did not buy is made anew when the queries have grown by this factor, or where it
said it would buy."""


class BackgroundSleep:
    """Decides after each reply whether to plan, and plans in a thread."""

    def __init__(
        self,
        *,
        mode: SleepMode,
        planner: SleepPlanner,
        sleeper: StartingSleeper,
        decider: Decider,
        level: SleepLevel,
        executor: Executor,
    ) -> None:
        self._mode = mode
        self._planner = planner
        self._sleeper = sleeper
        self._decider = decider
        self._level = level
        self._executor = executor
        self._planning: set[asyncio.Future[SleepPlan | None]] = set()

    def consider(self, known: Known | None) -> None:
        """Plan the sleep of a context that was just asked about, if it is time to."""
        if known is None or not known.context.text:
            return
        if known.learned is not None and self._mode != "auto":
            return  # auto may sleep more on a context that queries keep coming on
        if not known.context.auto_sleep:
            return
        policy = self._decider.policy_version if self._mode == "auto" else self._mode
        n = known.context.n_queries
        due = n >= known.plan_at or known.planned_by != policy
        if not due or len(self._planning) >= MAX_PLANNING:
            return
        if self._mode == "auto" and (self._decider.bundle is None or known.features is None):
            return
        known.planned_by, known.plan_at = policy, max(n + 1, int(n * GROWTH))
        plan = asyncio.ensure_future(self._in_thread(known.context, known.features or {}))
        self._planning.add(plan)
        plan.add_done_callback(lambda done: self._planned(known, done))

    async def _in_thread(self, context: Context, features: Mapping[str, float]) -> SleepPlan | None:
        try:
            await self._sleeper.started()  # here: requests need the executor's threads
        except Exception:  # noqa: BLE001 - it was logged when it happened
            return None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._plan, context, features)

    def _plan(self, context: Context, features: Mapping[str, float]) -> SleepPlan | None:
        if self._mode == "auto":
            return self._planner.after_reply(context, features)
        try:
            self._sleeper.enqueue_first(context, self._level)
        except Exception:
            log.exception("sleep on %s could not be queued", context.id)
        return None

    def _planned(self, known: Known, done: asyncio.Future[SleepPlan | None]) -> None:
        self._planning.discard(done)
        plan = None if done.cancelled() else done.result()
        if plan is not None and plan.buy_at is not None and not plan.buy:
            known.plan_at = min(known.plan_at, max(plan.buy_at, plan.n_queries + 1))
