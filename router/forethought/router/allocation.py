"""How compute is allocated: the utility of an answer, and when sleep pays.

Per query: ``U = v * quality - m * cost - latency price``, the best strategy among those whose
predicted quality is not below that of ``direct`` by more than a margin, explored with known
propensities. One of three modes sets the numbers (``docs/budgets.md``): a worth ``v`` of a right
answer with ``m = 1``; a quality floor, where ``v = 0`` and the cheapest that holds it is taken; a
budget, where ``m`` is its shadow price (``pacing``). Per context: buying sleep is the ski-rental
problem, solved with the learning-augmented rule of Purohit, Svitkina and Kumar (NeurIPS 2018,
algorithm 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from forethought.router.exploration import (
    ExplorationKind,
    log_odds_sd,
    probability_best,
    softmax,
)
from forethought.router.records import Candidate

_NEVER: Final = 1e15
"""No context gets so many queries: what is to be bought then is not bought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What an answer is worth, and how much risk and exploration are wanted.

    ``value_usd``: worth of a right answer. ``latency_usd_per_s``: price of a second's wait.
    ``quality_margin``: how far below ``direct`` the predicted quality may be.
    ``quality_floor``: an absolute lower bound beside it. ``exploration``: probability of
    choosing uniformly among the admissible strategies; ``exploration_kind`` says how the rest is
    shared (``exploration``), ``temperature_usd``, above 0, is that of softmax, in utility.
    ``trust`` in (0, 1]: the ski-rental lambda; the smaller, the more the demand forecast is
    believed. ``cost_multiplier``: how many dollars of worth a dollar spent has to bring, 1 unless
    a budget says otherwise; above 0. ``max_latency_ms``: a strategy is admitted if nine answers in
    ten are expected within it; None: no limit.
    """

    value_usd: float = 0.002
    latency_usd_per_s: float = 0.00002
    quality_margin: float = 0.02
    quality_floor: float = 0.0
    exploration: float = 0.05
    trust: float = 0.5
    cost_multiplier: float = 1.0
    exploration_kind: ExplorationKind = "epsilon"
    temperature_usd: float = 0.0001
    max_latency_ms: float | None = None

    @classmethod
    def with_floor(cls, quality_floor: float, **others: Any) -> Preferences:
        """Preferences for the cheapest strategy that holds ``quality_floor``, its wait priced in.

        ``direct`` sets no bound beside it: one that holds the floor may be worse than ``direct``.
        """
        return cls(value_usd=0.0, quality_floor=quality_floor, quality_margin=1.0, **others)


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepPlan:
    """Whether to sleep on a context now, and the numbers behind it.

    ``break_even`` is the number of queries from which sleep pays (None: it never does);
    ``buy_at`` the number of seen queries at which the ski-rental rule buys.
    """

    buy: bool
    reason: str
    n_queries: int
    expected_queries: float
    sleep_cost_usd: float
    saving_per_query_usd: float
    break_even: float | None
    buy_at: int | None


def utility(
    quality: float, *, cost_usd: float | None, latency_ms: float, preferences: Preferences
) -> float:
    """``v * quality - m * cost - latency price`` in USD; an unknown cost is left out."""
    return (
        preferences.value_usd * quality
        - preferences.cost_multiplier * (cost_usd or 0.0)
        - preferences.latency_usd_per_s * latency_ms / 1000.0
    )


def acceptable(candidates: Sequence[Candidate], preferences: Preferences) -> list[Candidate]:
    """The admissible candidates that hold the quality bound; never empty if any is admissible.

    Where none holds it, the one with the highest predicted quality is left.
    """
    admissible = [c for c in candidates if c.excluded is None and c.quality is not None]
    if not admissible:
        return []
    bound = quality_bound(admissible, preferences)
    holding = [c for c in admissible if (c.quality or 0.0) >= bound]
    return holding or [max(admissible, key=lambda c: c.quality or 0.0)]


def quality_bound(candidates: Sequence[Candidate], preferences: Preferences) -> float:
    """The least predicted quality: the floor, and that of ``direct`` less the margin."""
    direct = [
        c.quality
        for c in candidates
        if c.strategy == "direct" and c.excluded is None and c.quality is not None
    ]
    within = [quality - preferences.quality_margin for quality in direct]
    return max([preferences.quality_floor, *within])


def preferred(candidates: Sequence[Candidate], preferences: Preferences) -> str:
    """The policy's own choice: the best utility within the quality bound.

    Raises:
        ValueError: There is nothing to choose from.
    """
    held = acceptable(candidates, preferences)
    if held:
        return max(held, key=_utility).strategy
    return _admissible(candidates)[0].strategy


def with_propensities(
    candidates: Sequence[Candidate], preferences: Preferences
) -> tuple[Candidate, ...]:
    """The candidates with their ``propensities``."""
    found = propensities(candidates, preferences)
    return tuple(c.with_propensity(p) for c, p in zip(candidates, found, strict=True))


def propensities(candidates: Sequence[Candidate], preferences: Preferences) -> list[float]:
    """Each candidate's propensity: a floor for the admissible, more within the quality bound.

    The floor is ``exploration`` shared evenly, the rest is shared by ``exploration_kind``. They
    sum to 1 over the admissible candidates; an excluded one has 0.
    """
    admissible = _admissible(candidates)
    shares = _shares(acceptable(candidates, preferences) or admissible[:1], preferences)
    floor, rest = preferences.exploration / len(admissible), 1.0 - preferences.exploration
    return [
        0.0 if c.excluded is not None else floor + rest * shares.get(c.strategy, 0.0)
        for c in candidates
    ]


def _admissible(candidates: Sequence[Candidate]) -> list[Candidate]:
    admissible = [c for c in candidates if c.excluded is None]
    if not admissible:
        message = "no admissible candidate; direct always is"
        raise ValueError(message)
    return admissible


def _shares(held: Sequence[Candidate], preferences: Preferences) -> dict[str, float]:
    """How ``held`` share what is not explored evenly, by strategy; one left out has nothing."""
    kind, value = preferences.exploration_kind, preferences.value_usd
    # Without a worth of quality nothing about a utility is uncertain.
    if len(held) == 1 or kind == "epsilon" or (kind == "thompson" and not value):
        return {max(held, key=_utility).strategy: 1.0}
    utilities = [_utility(c) for c in held]
    if kind == "softmax":
        found = softmax(utilities, preferences.temperature_usd)
    else:
        qualities = [c.quality or 0.0 for c in held]
        sds = [log_odds_sd(c.quality or 0.0, c.quality_low, c.quality_high) for c in held]
        found = probability_best(utilities, qualities, sds, value)
    return {c.strategy: share for c, share in zip(held, found, strict=True)}


def plan_sleep(
    *,
    n_queries: int,
    expected_more: float,
    saving_per_query_usd: float,
    sleep_cost_usd: float,
    trust: float,
) -> SleepPlan:
    """Learning-augmented ski rental: rent (answer at test time) until buying sleep pays.

    With ``b = sleep cost / saving per query`` the rule buys after ``ceil(trust * b)`` queries
    where at least ``b`` are forecast in all, and after ``ceil(b / trust)`` where fewer are.
    Its cost is within ``1 + 1 / trust`` of the optimum whatever the forecasts, and within
    ``1 + trust`` of it where they are right; both but for the saving of one query, as only whole
    queries can be waited for.
    """
    expected = n_queries + expected_more

    def plan(buy: bool, reason: str, break_even: float | None, buy_at: int | None) -> SleepPlan:
        return SleepPlan(
            buy=buy,
            reason=reason,
            n_queries=n_queries,
            expected_queries=expected,
            sleep_cost_usd=sleep_cost_usd,
            saving_per_query_usd=saving_per_query_usd,
            break_even=break_even,
            buy_at=buy_at,
        )

    saves = saving_per_query_usd > 0
    break_even = sleep_cost_usd / saving_per_query_usd if saves else math.inf
    # Too far off to count is never, and NaN is no saving.
    if not break_even / trust < _NEVER:
        return plan(
            buy=False,
            reason="a learned context is not expected to save anything on these queries",
            break_even=None,
            buy_at=None,
        )
    likely = expected >= break_even
    buy_at = math.ceil(trust * break_even if likely else break_even / trust)
    forecast = f"{expected:.1f} queries are expected and sleep breaks even at {break_even:.1f}"
    if n_queries >= buy_at:
        return plan(True, f"{forecast}; {n_queries} came: buy", break_even, buy_at)
    return plan(
        False, f"{forecast}; it is bought at {buy_at}, {n_queries} came", break_even, buy_at
    )


def _utility(candidate: Candidate) -> float:
    return -math.inf if candidate.utility is None else candidate.utility
