"""Sleep decisions as a bandit: one action a context, rewarded by the queries that come later.

Whether and how deeply to think about a context is decided once; what it was worth shows in the
utilities of the queries that follow. With one reward a context, the same estimators and
intervals apply, and each context is its own cluster:

    found = sleep_rewards(utility_usd, context, asked_at, decided_at=..., sleep_cost_usd=...)
    DR().fit(Sample.of(found.reward_usd, level, propensity, target, predicted))

The policy that answers the queries is held as it was when they were logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forethought.training.ope import Codes, Floats, column

Flags = NDArray[np.bool_]
Reduction = Literal["sum", "mean"]

_REDUCTIONS: Final = ("sum", "mean")


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepRewards:
    """What each of C sleep decisions earned.

    Attributes:
        reward_usd: Later queries' utilities, less the cost of sleep, shape (C,).
        n_queries: How many later queries counted, shape (C,); without any, sleep only cost.
    """

    reward_usd: Floats
    n_queries: Codes


def sleep_rewards(
    utility_usd: ArrayLike,
    context: ArrayLike,
    asked_at: ArrayLike,
    *,
    decided_at: ArrayLike,
    sleep_cost_usd: ArrayLike,
    horizon_s: float = float("inf"),
    max_queries: int | None = None,
    reduction: Reduction = "sum",
) -> SleepRewards:
    r"""``R_c = sum (or mean) of U_i over the later queries i on c, minus C_sleep(c)``.

    Later are those asked after the decision and within ``horizon_s`` of it; the first
    ``max_queries`` of them where that is given: a bound on the sum needs a bound on its number.

    Args:
        utility_usd: U of each query, shape (n,).
        context: Which of the C decisions each query's context has, shape (n,), in 0..C-1.
        asked_at: Unix seconds of each query, shape (n,).
        decided_at: Unix seconds of each sleep decision, shape (C,).
        sleep_cost_usd: What each decision's sleep cost, shape (C,); 0 where it did not sleep.
        horizon_s: Seconds after the decision that count.
        max_queries: The most queries that count for one decision.
        reduction: ``sum``: what the decision earned in all; ``mean``: a query.

    Raises:
        ValueError: Shapes that disagree, a context outside 0..C-1, NaN, or an unknown reduction.
    """
    if reduction not in _REDUCTIONS:
        message = f"reduction must be one of {', '.join(_REDUCTIONS)}, not {reduction!r}"
        raise ValueError(message)
    codes = np.asarray(context, np.intp)
    u, asked = column("utility_usd", utility_usd, codes), column("asked_at", asked_at, codes)
    cost = np.asarray(sleep_cost_usd, np.float64)
    cost = column("sleep_cost_usd", cost, cost)
    decided = column("decided_at", decided_at, cost)
    n_contexts = len(cost)
    if len(codes) and not (codes.min() >= 0 and codes.max() < n_contexts):
        message = f"context must be in 0..{n_contexts - 1}, one for each sleep decision"
        raise ValueError(message)
    since = asked - decided[codes]
    counted = (since > 0) & (since <= horizon_s)
    if max_queries is not None:
        counted &= _rank_within(codes, asked, counted) < max_queries
    n_queries = np.bincount(codes[counted], minlength=n_contexts)
    gained = np.bincount(codes[counted], u[counted], minlength=n_contexts)
    if reduction == "mean":
        gained = np.divide(gained, n_queries, out=np.zeros(n_contexts), where=n_queries > 0)
    return SleepRewards(reward_usd=gained - cost, n_queries=n_queries)


def _rank_within(codes: Codes, asked_at: Floats, counted: Flags) -> Codes:
    """How many counted queries on the same context come before each, shape (n,)."""
    order = np.lexsort((asked_at, codes))
    before: Codes = np.cumsum(counted[order]) - counted[order]
    first = np.r_[True, codes[order][1:] != codes[order][:-1]] if len(order) else counted
    start = np.maximum.accumulate(np.where(first, before, 0))
    rank = np.empty(len(codes), np.intp)
    rank[order] = before - start
    return rank
