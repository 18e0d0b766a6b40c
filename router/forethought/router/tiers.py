"""Which sleep to buy for a context, at which price tier, and when: ski rental with a forecast.

Options are (sleep level, price tier) pairs. With ``b = cost / saving per query`` of an option, n
queries seen and trust parameter ``t`` (the lambda of Purohit, Svitkina and Kumar, NeurIPS 2018):

- It may be bought from ``n >= t * b`` on, if the forecast is for it: what the queries that come
  after it is ready save in expectation is more than ``1 + CAUTION`` times its cost, and buying one
  query later would not gain more in expectation (one-step look-ahead).
- It is bought at ``n >= b / t`` whatever the forecast says, but not on a context that came once.
- Of the options that may be bought, the one of the largest expected gain is.

So, counting in queries' savings, with k queries before the purchase, D between the purchase and
its being ready, and n in all, the cost ``k + b + D`` is at most ``(1 + 1/t) * n``, that is
``1 + 1/t`` times never sleeping, and at most ``(1 + 1/t) * min(n, b) + 1 + D``: whatever the
forecast, ``1 + 1/t`` times hindsight, but for the one query (two, where ``b < t``) that has to come
before anything is known and for those that waiting costs. With right forecasts and no delay it is
at most ``(1 + t + CAUTION) * min(n, b) + 1`` for ``t`` up to 0.5. tests/router/test_tiers.py holds
these.

It departs from the paper's algorithm 2, which buys as soon as ``b`` queries are forecast *in all*:
those that have come already are not served by what is bought now.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from forethought.router.allocation import SleepPlan
from forethought.router.records import SleepLevel

LEVELS: Final = (SleepLevel(drafts=1), SleepLevel(drafts=3), SleepLevel(drafts=10))
"""The levels that were measured (bench/recorded); a second round gained nothing over k3r1."""

CAUTION: Final = 0.5
"""What sleep saves is an estimate, what it costs is paid, and the best-looking of several estimates
is too good. Of 0, 0.25, 0.5 and 1 it cost least over t = 2, 4 and 10 on the first half of the trace
with the recorded train contexts, of which ``bench.traffic``'s figures are not."""

FORCED_FROM: Final = 2
"""Queries from which the worst case is insured against the forecast. Most contexts come once."""

_NEVER: Final = 1e15
"""No context gets so many queries: what is to be bought then is not bought."""

_LOOK_AHEAD: Final = 64
"""Further queries for which a plan that waits says when it will buy; after them, at the latest."""


class Forecast(Protocol):
    """What has to be known of the queries to come; ``DemandModel`` does."""

    def p_another(self, n_seen: int, *, idle_s: float = 0.0) -> float: ...

    def expected_more(self, n_seen: int, *, idle_s: float = 0.0) -> float: ...

    def expected_after(self, n_seen: int, delay_s: float, *, idle_s: float = 0.0) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A price tier in the provider's word.

    ``price_multiplier`` is of the standard tier's price; ``wait_s`` is how much later than at the
    standard tier a sleep is ready.
    """

    name: str
    price_multiplier: float
    wait_s: float


STANDARD: Final = Tier(name="standard", price_multiplier=1.0, wait_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a sleep level costs at the standard tier, saves per query, and how long it takes."""

    level: SleepLevel
    cost_usd: float
    saving_per_query_usd: float
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A sleep level at a price tier; ``ready_s`` is from its purchase until it can be used."""

    level: SleepLevel
    tier: str
    cost_usd: float
    saving_per_query_usd: float
    ready_s: float

    @property
    def break_even(self) -> float:
        """From how many served queries it pays; infinite where it saves nothing."""
        if not self.saving_per_query_usd > 0:
            return math.inf
        return max(0.0, self.cost_usd) / self.saving_per_query_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredPlan(SleepPlan):
    """A plan that names the level and the tier: bought now, or the likeliest to be bought later.

    ``expected_served``: queries that are expected after it would be ready. ``expected_gain_usd``:
    what they save, less its cost.
    """

    level: str | None
    tier: str | None
    ready_s: float | None
    expected_served: float | None
    expected_gain_usd: float | None


def options(offers: Iterable[Offer], tiers: Sequence[Tier]) -> list[Option]:
    """Every level at every tier."""
    return [
        Option(
            level=offer.level,
            tier=tier.name,
            cost_usd=offer.cost_usd * tier.price_multiplier,
            saving_per_query_usd=offer.saving_per_query_usd,
            ready_s=offer.duration_s + tier.wait_s,
        )
        for offer in offers
        for tier in tiers
    ]


def choose(
    candidates: Sequence[Option],
    forecast: Forecast,
    *,
    n_queries: int,
    trust: float,
    idle_s: float = 0.0,
) -> Option | None:
    """The option to buy now, after ``n_queries``, the last one ``idle_s`` ago; None: wait."""
    open_to = [o for o in candidates if _reached(n_queries, trust * o.break_even)]
    if not open_to:
        return None
    gains = {o: _gain(o, forecast, n_queries, idle_s) for o in open_to}
    best = max(open_to, key=lambda o: gains[o])
    if gains[best] > 0:
        later = max(_gain(o, forecast, n_queries + 1, 0.0) for o in candidates)
        if gains[best] >= forecast.p_another(n_queries, idle_s=idle_s) * max(0.0, later):
            return best
    forced = any(_reached(n_queries, o.break_even / trust) for o in open_to)
    return best if forced and n_queries >= FORCED_FROM else None


def plan(
    candidates: Sequence[Option],
    forecast: Forecast,
    *,
    n_queries: int,
    trust: float,
    idle_s: float = 0.0,
) -> TieredPlan:
    """What ``choose`` says, with the numbers behind it and when it will buy if not now."""
    expected = n_queries + forecast.expected_more(n_queries, idle_s=idle_s)
    useful = [o for o in candidates if o.break_even / trust < _NEVER]
    if not useful:
        return TieredPlan(
            buy=False,
            reason="a learned context is not expected to save anything on these queries",
            n_queries=n_queries,
            expected_queries=expected,
            sleep_cost_usd=min((o.cost_usd for o in candidates), default=0.0),
            saving_per_query_usd=max((o.saving_per_query_usd for o in candidates), default=0.0),
            break_even=None,
            buy_at=None,
            level=None,
            tier=None,
            ready_s=None,
            expected_served=None,
            expected_gain_usd=None,
        )
    bought = choose(useful, forecast, n_queries=n_queries, trust=trust, idle_s=idle_s)
    shown = bought or max(useful, key=lambda o: _gain(o, forecast, n_queries, idle_s))
    served = forecast.expected_after(n_queries, shown.ready_s, idle_s=idle_s)
    if bought is None:
        buy_at = _buy_at(useful, forecast, n_queries + 1, trust)
        then = f"it is bought at {buy_at}, {n_queries} came"
    else:
        buy_at = n_queries
        then = f"{n_queries} came: buy"
    return TieredPlan(
        buy=bought is not None,
        reason=(
            f"{expected:.1f} queries are expected, {served:.1f} of them after {shown.level.name} "
            f"at {shown.tier} prices is ready, and sleep breaks even at {shown.break_even:.1f}; "
            f"{then}"
        ),
        n_queries=n_queries,
        expected_queries=expected,
        sleep_cost_usd=shown.cost_usd,
        saving_per_query_usd=shown.saving_per_query_usd,
        break_even=shown.break_even,
        buy_at=buy_at,
        level=shown.level.name,
        tier=shown.tier,
        ready_s=shown.ready_s,
        expected_served=served,
        expected_gain_usd=served * shown.saving_per_query_usd - shown.cost_usd,
    )


def _gain(option: Option, forecast: Forecast, n_queries: int, idle_s: float) -> float:
    """What the option is expected to gain, with caution, if it is bought now."""
    served = forecast.expected_after(n_queries, option.ready_s, idle_s=idle_s)
    return served * option.saving_per_query_usd - (1.0 + CAUTION) * option.cost_usd


def _reached(n_queries: int, threshold: float) -> bool:
    # NaN and infinity never are.
    return n_queries >= threshold


def _buy_at(candidates: Sequence[Option], forecast: Forecast, start: int, trust: float) -> int:
    insured = math.ceil(min(o.break_even for o in candidates) / trust)
    latest = max(start, insured, FORCED_FROM)
    for n in range(start, min(latest, start + _LOOK_AHEAD)):
        if choose(candidates, forecast, n_queries=n, trust=trust) is not None:
            return n
    return latest
