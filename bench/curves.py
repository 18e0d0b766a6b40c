"""The frontier of accuracy against cost when strategies may be mixed.

Sending a share p of the queries to one strategy and the rest to another costs, and scores, the
mean of both. So what can be reached is the convex hull of the strategies' points, and its upper
left edge, rising and concave, is the frontier. It is never worse than the paper's curves, which
join the points (arXiv 2504.13171, figures 3 and 4); both sides of every comparison here may mix.

Costs are in any unit (tokens or money). A function takes the points in its last axis, and any
number of axes before it: one for the repeats of a bootstrap, usually.
"""

from __future__ import annotations

import numpy as np

from bench.recordings import Floats


def frontier(cost: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """The corners of the frontier of points (A,), from the cheapest to the best."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(zip(cost.tolist(), quality.tolist(), strict=True), key=_cheap_and_good):
        if kept and y <= kept[-1][1]:
            continue
        while len(kept) > 1 and _below(kept[-2], kept[-1], (x, y)):
            kept.pop()
        kept.append((x, y))
    corners = np.array(kept).reshape(-1, 2)
    return corners[:, 0], corners[:, 1]


def cheapest(cost: Floats, quality: Floats, target: Floats) -> Floats:
    """The least cost at which a mixture reaches ``target``; infinite where none does.

    Args:
        cost: Shape (..., A).
        quality: Shape (..., A).
        target: Shape (...).

    A linear programme with two constraints (shares sum to one, quality is at least the
    target): its optimum mixes at most two points, so all pairs are tried.
    """
    wanted = target[..., None]
    alone = np.where(quality >= wanted, cost, np.inf).min(axis=-1)
    under, over = quality[..., :, None], quality[..., None, :]
    share = _share(under, over, target[..., None, None])
    mixed = cost[..., :, None] * (1 - share) + cost[..., None, :] * share
    best = np.where(np.isnan(mixed), np.inf, mixed).min(axis=(-1, -2))
    return np.asarray(np.minimum(alone, best))


def best_within(cost: Floats, quality: Floats, budget: Floats) -> Floats:
    """The best mean quality of a mixture that costs at most ``budget``; NaN if all cost more.

    Shapes as in ``cheapest``.
    """
    alone = np.where(cost <= budget[..., None], quality, -np.inf).max(axis=-1)
    share = _share(cost[..., :, None], cost[..., None, :], budget[..., None, None])
    mixed = quality[..., :, None] * (1 - share) + quality[..., None, :] * share
    best = np.maximum(alone, np.where(np.isnan(mixed), -np.inf, mixed).max(axis=(-1, -2)))
    return np.where(np.isfinite(best), best, np.nan)


def mean_height(cost: Floats, quality: Floats, low: Floats, high: Floats) -> Floats:
    """The area under the frontier over log cost from ``low`` to ``high``, by its width.

    In the unit of quality: the mean accuracy at a budget drawn evenly on a log scale. Money
    left over counts for nothing, so beyond its last corner a frontier is flat.
    """
    places = (np.arange(32) + 0.5) / 32
    budgets = [np.exp(np.log(low) * (1 - p) + np.log(high) * p) for p in places]
    # A last-bit error must not make the budget ``low`` too small for the point that costs it.
    heights = [best_within(cost, quality, np.maximum(budget, low)) for budget in budgets]
    return np.asarray(np.mean(heights, axis=0))


def mean_quality(cost: Floats, quality: Floats, low: Floats, high: Floats) -> Floats:
    """AIQ, the average improvement in quality of RouterBench (arXiv 2403.12031, section 3).

    The area under the frontier over cost from ``low`` to ``high``, by its width. Shapes as in
    ``cheapest``.
    """
    places = (np.arange(32) + 0.5) / 32
    heights = [best_within(cost, quality, low + (high - low) * p) for p in places]
    return np.asarray(np.mean(heights, axis=0))


def equal_quality_ratio(
    cost: Floats, quality: Floats, other_cost: Floats, target: Floats
) -> tuple[Floats, Floats]:
    """How many times ``other_cost`` the points cost at the quality ``target``.

    Where ``target`` is beyond the best point, that point's quality is taken: the ratio then
    understates, since the other side is better too. Returns the ratios and where that was so.
    """
    beyond = target > quality.max(axis=-1)
    reached = np.minimum(target, quality.max(axis=-1))
    return cheapest(cost, quality, reached) / other_cost, beyond


def largest_ratio(
    cost: Floats, quality: Floats, other_cost: Floats, other_quality: Floats
) -> Floats:
    """The largest ratio of the two frontiers' costs over all qualities that both reach.

    Between two corners both costs are linear in quality and their ratio is monotone, so the
    largest is at a corner. Optimistic: it is chosen after seeing the data.
    """
    top = np.minimum(quality.max(axis=-1), other_quality.max(axis=-1))
    corners = np.concatenate([quality, other_quality], axis=-1)
    ratios = []
    for i in range(corners.shape[-1]):
        at = np.minimum(corners[..., i], top)
        ratios.append(cheapest(cost, quality, at) / cheapest(other_cost, other_quality, at))
    return np.asarray(np.max(ratios, axis=0))


def _share(under: Floats, over: Floats, target: Floats) -> Floats:
    """The share of the second point at which a mixture is at ``target``; NaN where none is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (target - under) / (over - under)
    return np.where((under < target) & (over >= target), share, np.nan)


def _cheap_and_good(point: tuple[float, float]) -> tuple[float, float]:
    return point[0], -point[1]


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether ``b`` lies on or under the line from ``a`` to ``c``."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])
