"""The budget of a running server: opened with what the log says was spent; sleep is held to it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from forethought.api.settings import Settings
from forethought.router.budget import Budget, Event, ceiling_usd
from forethought.router.calls import parsed
from forethought.router.decision import Decider
from forethought.router.errors import BudgetSpent, ConfigError
from forethought.router.known import Known
from forethought.router.log import LogReader
from forethought.router.pricing import Prices, PriceTable, cost
from forethought.router.replies import error_body
from forethought.router.serving import Serving
from forethought.router.sleep.background import BackgroundSleep
from forethought.router.sse import tier_of, usage_of
from forethought.router.upstream import Upstream, UpstreamReply

log = logging.getLogger(__name__)


def open_budget(
    settings: Settings, *, serving: Serving, prices: PriceTable, decider: Decider, reader: LogReader
) -> Budget | None:
    """The budget that the settings ask for; its multiplier enters every decision. Blocks.

    Raises:
        ConfigError: No price of the model is known, so that its spending could not be counted.
        StoreError: The log cannot be read.
    """
    if settings.budget_usd is None:
        return None
    if settings.shares_its_store:
        log.warning(
            "the budget is of this server alone: others on %s count their own", settings.shown_store
        )
    for model in (serving.model, *serving.fallbacks):
        if model is not None and prices.lookup(model, serving.provider_url) is None:
            raise ConfigError(
                f"A budget needs prices, and none of {model!r} is known.",
                param="budget_usd",
                remedy="Give them in the setting prices.",
            )

    def steer(multiplier: float) -> None:
        decider.preferences = replace(decider.preferences, cost_multiplier=multiplier)

    budget = Budget(
        budget_usd=settings.budget_usd,
        period_s=settings.budget_period_s,
        hard=settings.budget_hard,
        reserve_tokens=settings.budget_reserve_tokens,
        on_multiplier=steer,
    )
    budget.resume(past_of(reader, budget.history_since))
    return budget


def past_of(reader: LogReader, since: float) -> list[Event]:
    """What was asked, answered and slept since ``since``, as a budget plays it back."""
    past = [Event(at, "slept", usd) for at, usd in reader.sleep_spending(since)]
    for asked_at, answered_at, usd in reader.spending(since):
        past.append(Event(asked_at, "asked"))
        if answered_at is not None and usd is not None:
            past.append(Event(answered_at, "answered", usd))
    return past


def while_affordable(
    background: BackgroundSleep, budget: Budget | None
) -> Callable[[Known | None], None]:
    """Consider sleep after a reply, unless the budget is spent."""

    def consider(known: Known | None) -> None:
        if budget is None or not budget.is_spent():
            background.consider(known)

    return consider


async def asked_within(
    budget: Budget,
    upstream: Upstream,
    body: Mapping[str, Any],
    prices_at: Callable[[str | None], Prices | None],
) -> UpstreamReply:
    """One call of sleep, under the same cap as requests. One refused is not made again.

    Args:
        budget: What may be spent.
        upstream: Who is asked.
        body: The chat completion.
        prices_at: The prices at a service tier.
    """
    key = f"sleep_{secrets.token_hex(8)}"
    most = ceiling_usd(body, prices_at(None), reserve_tokens=budget.reserve_tokens)
    try:
        budget.reserve(key, most)
    except BudgetSpent as error:
        return UpstreamReply(402, {}, error_body(error))
    try:
        reply = await upstream.complete(body, {})
    except BaseException:
        budget.release(key)
        raise
    said = parsed(reply)
    used = usage_of(said.get("usage"))
    if used is not None:
        spent = cost(used, prices_at(tier_of(said)))
    else:  # a reply that hides its usage counts as the dearest that it can have been
        spent = most if reply.status < 400 else 0.0
    budget.settle_sleep(key, spent or 0.0)
    return reply
