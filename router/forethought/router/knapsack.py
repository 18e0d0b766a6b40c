"""Share a sleep budget between contexts: the multiple-choice knapsack, by one price.

Each context takes at most one of its sleep levels; level ``j`` of context ``i`` costs ``c_ij``
and is expected to gain ``g_ij``. Wanted is ``max sum g`` with ``sum c <= budget``.

1. *One price.* On the upper concave hull of a context's levels the gain per further dollar
   falls, so the linear relaxation is solved by taking the hulls' steps in falling order of that
   slope until the budget is spent (Sinha and Zoltners, "The multiple-choice knapsack problem",
   Operations Research 27, 1979, section 2; Kellerer, Pferschy and Pisinger, "Knapsack Problems",
   2004, section 11.2). The slope where it runs out is the price ``p`` of a dollar, found by
   partitioning, without sorting. The relaxation's optimum, ``p * budget + sum_i max_j
   (g_ij - p * c_ij)``, bounds every choice from above, so that the gap is certified.
2. *Fill.* What is left is less than one step. Greedily, the best further gain that fits is taken.
3. *Core.* Where the bound leaves room, the levels that lose least at the price are tried
   together: dynamic programming over the contexts nearest to the price (the core of Pisinger,
   "A minimal algorithm for the multiple-choice knapsack problem", European Journal of
   Operational Research 83, 1995), with at most ``_STATES`` states, so its time has a limit.

A million contexts with four levels take well under a second (``bench/knapsack.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FILLS: Final = 2_000
"""Contexts tried in a round of the fill, the best per dollar first: a round takes some ms."""

_CORE: Final = 64
"""Contexts in the core. Pisinger's instances needed 10 to 50."""

_STATES: Final = 3_000
"""States of the core that are kept at each context: together some 50 ms."""

_GOOD_ENOUGH: Final = 1e-6
"""A gap at which the core is left out."""

_BLOCK: Final = 8_192
"""Contexts at a time, so that they stay in the processor's cache."""

_SAMPLE: Final = 20_000
"""Steps by which the price is guessed: to within two hundredths of their number, nearly always."""

_ROUNDING: Final = 1e-12
"""Relative; numpy's sum of a million doubles is off by less than 1e-14."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Which level each context gets.

    ``choice`` has shape (n,): a level's index, or -1 for none. ``spent`` is in the unit of the
    costs and never above the budget, ``gain`` in that of the gains. ``price`` is the gain that a
    dollar more would bring (0: the budget suffices for all), ``bound`` what no choice exceeds.
    """

    choice: Ints
    spent: float
    gain: float
    price: float
    bound: float

    @property
    def gap(self) -> float:
        """The share of ``bound`` that a better choice could still add, at most."""
        return 0.0 if self.bound <= 0 else max(0.0, 1.0 - self.gain / self.bound)


def allocate(costs: ArrayLike, gains: ArrayLike, budget: float) -> Allocation:
    """At most one level a context, within ``budget``; the same input gives the same choice.

    Args:
        costs: Of each level, shape (n, m), not negative; ``inf`` where a context lacks a level.
        gains: Expected from each level, shape (n, m); a level without a gain is never taken.
        budget: In the unit of ``costs``.

    Raises:
        ValueError: A shape or a value cannot be used; the message names the argument.
    """
    costs, gains = _checked(costs, gains, budget)
    n = costs.shape[1]
    if costs.size == 0:
        return Allocation(choice=np.full(n, -1), spent=0.0, gain=0.0, price=0.0, bound=0.0)
    # A level that the whole budget cannot pay is none: the bound is the tighter for it.
    usable = (costs <= budget) & (gains > 0)
    costs, gains = np.where(usable, costs, 0.0), np.where(usable, gains, 0.0)
    price, choice = _relaxed(costs, gains, budget)
    worth = np.zeros(n)
    for cost, gain in zip(costs, gains, strict=True):
        np.maximum(worth, gain - price * cost, out=worth)
    bound = float(worth.sum()) + price * budget
    choice = _filled(costs, gains, choice, budget)
    if price > 0 and _chosen(gains, choice).sum() < bound * (1 - _GOOD_ENOUGH):
        choice = _cored(costs, gains, choice, price, budget)
    gained = _chosen(gains, choice)
    choice = np.where(gained > 0, choice, -1)
    return Allocation(
        choice=choice,
        spent=math.fsum(_chosen(costs, choice).tolist()),
        gain=float(gained.sum()),
        price=price,
        bound=bound,
    )


def _checked(costs: ArrayLike, gains: ArrayLike, budget: float) -> tuple[Floats, Floats]:
    """The arrays, turned to shape (m, n): a level at a time is what numpy is fast at."""
    costs, gains = np.asarray(costs, float), np.asarray(gains, float)
    if costs.ndim != 2 or costs.shape != gains.shape:
        message = f"costs and gains need one shape (n, m), not {costs.shape} and {gains.shape}"
        raise ValueError(message)
    costs, gains = np.ascontiguousarray(costs.T), np.ascontiguousarray(gains.T)
    if not (costs >= 0).all():
        message = "costs must not be negative or NaN"
        raise ValueError(message)
    if not (gains < np.inf).all():
        message = "gains must be finite (or -inf) and not NaN"
        raise ValueError(message)
    if not 0 <= budget < math.inf:
        message = f"budget must be finite and not negative, not {budget}"
        raise ValueError(message)
    return costs, gains


def _chosen(values: Floats, choice: Ints) -> Floats:
    """What was chosen of ``values`` (m, n), shape (n,); 0 where nothing was."""
    found = np.zeros(len(choice))
    for level, row in enumerate(values):
        np.copyto(found, row, where=choice == level)
    return found


def _fits(costs: Floats, budget: float) -> bool:
    """Whether the sum is within the budget, exactly, whatever the order of adding."""
    roughly = float(costs.sum())
    if abs(roughly - budget) > _ROUNDING * budget:
        return roughly < budget
    return math.fsum(costs.ravel().tolist()) <= budget


def _relaxed(costs: Floats, gains: Floats, budget: float) -> tuple[float, Ints]:
    """The price of the linear relaxation, and each context's last whole step above it."""
    slopes, steps, levels = _hulls(costs, gains)
    price = _critical(slopes.ravel(), steps.ravel(), budget)
    while True:
        choice = np.full(costs.shape[1], -1)
        for slope, level in zip(slopes, levels, strict=True):
            np.copyto(choice, level, where=slope > price)
        if _fits(_chosen(costs, choice), budget):
            return price, choice
        price = float(slopes[slopes > price].min())  # the sum came out too low by rounding


def _hulls(costs: Floats, gains: Floats) -> tuple[Floats, Floats, Ints]:
    """The concave hulls, by walking each from (0, 0) along its steepest step.

    Returns the steps' slopes (0: no more), their costs and the levels they lead to, each (m, n).
    """
    m, n = costs.shape
    slopes, steps, levels = np.zeros((m, n)), np.zeros((m, n)), np.full((m, n), -1, np.int64)
    for start in range(0, n, _BLOCK):
        own = np.s_[:, start : start + _BLOCK]
        _walk(costs[own], gains[own], slopes[own], steps[own], levels[own])
    return slopes, steps, levels


def _walk(costs: Floats, gains: Floats, slopes: Floats, steps: Floats, levels: Ints) -> None:
    """Fill in ``slopes``, ``steps`` and ``levels``."""
    at_cost, at_gain = np.zeros(costs.shape[1]), np.zeros(costs.shape[1])
    for step in range(len(costs)):
        best, to_cost, to_gain = slopes[step], at_cost.copy(), at_gain.copy()
        for level in range(len(costs)):
            more_cost, more_gain = costs[level] - at_cost, gains[level] - at_gain
            # What is free comes first, and of that what gains most.
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = more_gain / more_cost
            further = (more_gain > 0) & (more_cost >= 0)
            further &= (slope > best) | ((slope == best) & (gains[level] > to_gain))
            np.copyto(best, slope, where=further)
            np.copyto(to_cost, costs[level], where=further)
            np.copyto(to_gain, gains[level], where=further)
            np.copyto(levels[step], level, where=further)
        if not (best > 0).any():
            return
        if step:  # rounding must not turn the order of two steps of one context
            np.minimum(best, slopes[step - 1], out=best)
        np.subtract(to_cost, at_cost, out=steps[step])
        at_cost, at_gain = to_cost, to_gain


def _critical(slopes: Floats, steps: Floats, budget: float) -> float:
    """The slope of the step at which the budget runs out; 0 where all steps fit."""
    if _fits(steps, budget):
        return 0.0
    left = budget
    high, low = _bracket(slopes, steps, budget)
    middle = (slopes > low) & (slopes <= high)
    cost_above = float(steps[slopes > high].sum())
    if cost_above <= left < cost_above + float(steps[middle].sum()):
        left -= cost_above
    else:  # the guess was wrong
        middle = slopes > 0
    slopes, steps = slopes[middle], steps[middle]
    while slopes.size:
        # The median of some: as good a pivot as that of all.
        sample = slopes[:: max(1, slopes.size // 1001)]
        pivot = float(np.partition(sample, sample.size // 2)[sample.size // 2])
        above = slopes > pivot
        cost_above = float(steps[above].sum())
        if cost_above > left:
            slopes, steps = slopes[above], steps[above]
            continue
        below = slopes < pivot
        cost_same = float(steps[~(above | below)].sum())
        if cost_above + cost_same > left:
            return pivot
        left -= cost_above + cost_same
        slopes, steps = slopes[below], steps[below]
    return 0.0


def _bracket(slopes: Floats, steps: Floats, budget: float) -> tuple[float, float]:
    """Two slopes between which the budget most likely runs out, by a part of the steps."""
    part = np.s_[:: max(1, slopes.size // _SAMPLE)]
    some, costs = slopes[part], steps[part]
    order = np.argsort(-some)
    some, spent = some[order], np.cumsum(costs[order])
    at = int(np.searchsorted(spent, budget * len(some) / slopes.size))
    first, last = at - len(some) // 50 - 1, at + len(some) // 50 + 1
    return (
        math.inf if first < 0 else float(some[first]),
        0.0 if last >= len(some) else float(some[last]),
    )


def _filled(costs: Floats, gains: Floats, choice: Ints, budget: float) -> Ints:
    """Take the best further gains per dollar that fit, until none does."""
    filled = choice.copy()
    spent, gained = _chosen(costs, choice), _chosen(gains, choice)
    left = budget - float(spent.sum())
    while (own := _worth_raising(costs - spent, gains - gained, left)).size:
        raised = np.zeros(len(own), bool)
        more_cost, more_gain = (costs[:, own] - spent[own]).T, (gains[:, own] - gained[own]).T
        rows, columns = np.nonzero((more_gain > 0) & (more_cost <= left))
        ratio = _per_dollar(more_gain[rows, columns], more_cost[rows, columns])
        for i in np.argsort(-ratio, kind="stable").tolist():
            row, column = rows[i], columns[i]
            if not raised[row] and more_cost[row, column] <= left:
                raised[row] = True
                filled[own[row]] = column
                left -= float(more_cost[row, column])
        spent[own], gained[own] = (
            _chosen(costs[:, own], filled[own]),
            _chosen(gains[:, own], filled[own]),
        )
    return filled if _fits(spent, budget) else choice


def _worth_raising(more_cost: Floats, more_gain: Floats, left: float) -> Ints:
    """The contexts with the best further gains per dollar that fit, some thousand at most."""
    best = np.zeros(more_cost.shape[1])
    for cost, gain in zip(more_cost, more_gain, strict=True):
        fits = (gain > 0) & (cost <= left)
        np.maximum(best, np.where(fits, _per_dollar(gain, cost), 0.0), out=best)
    found = np.flatnonzero(best > 0)
    if found.size > _FILLS:
        least = np.partition(best[found], found.size - _FILLS)[found.size - _FILLS]
        found = found[best[found] >= least][: 2 * _FILLS]
    return found


def _per_dollar(gain: Floats, cost: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(cost > 0, gain / cost, np.inf))


def _cored(costs: Floats, gains: Floats, choice: Ints, price: float, budget: float) -> Ints:
    """Try the levels that lose least at the price together; ``choice`` where nothing is better.

    With ``loss_ij = max_k (g_ik - p c_ik) - (g_ij - p c_ij) >= 0`` any choice falls short of the
    bound by its losses plus ``p`` times what it leaves of the budget: that sum is made small.
    """
    # The last level is none at all. One that cannot be used is no choice.
    m, n = costs.shape
    none = np.zeros((1, n))
    all_costs, all_gains = np.vstack([costs, none]), np.vstack([gains, none])
    loss = all_gains - price * all_costs
    loss = loss.max(axis=0) - loss
    loss[:-1][gains <= 0] = np.inf
    base, each = loss.argmin(axis=0), np.arange(n)
    other = loss.copy()
    other[base, each] = np.inf
    core = np.argsort(other.min(axis=0), kind="stable")[:_CORE]
    now = np.where(choice >= 0, choice, m)
    base_cost = all_costs[base, each]
    left = budget - float(base_cost.sum())
    to_beat = float((loss[now, each] - price * all_costs[now, each]).sum()) + price * budget
    more_cost, core_loss = (all_costs[:, core] - base_cost[core]).T, loss[:, core].T
    # A choice that spends the budget to the last cent may miss it by rounding: first try with
    # that allowed for, since whether it fits is counted exactly in the end.
    for slack in (_ROUNDING * budget, 0.0):
        found = _best_of_core(more_cost, core_loss, left=left + slack, price=price, to_beat=to_beat)
        if found is None:
            continue
        tried = base.copy()
        tried[core[: len(found)]] = found
        tried = np.where(tried < m, tried, -1)
        if _fits(_chosen(costs, tried), budget):
            better = _filled(costs, gains, tried, budget)
            improved = _chosen(gains, better).sum() > _chosen(gains, choice).sum()
            return better if improved else choice
    return choice


def _best_of_core(
    more_cost: Floats, loss: Floats, *, left: float, price: float, to_beat: float
) -> list[int] | None:
    """The columns of the first contexts of the core that together lose least, None above
    ``to_beat``.

    ``more_cost`` is against the present level; ``left`` of the budget may be negative.
    """
    gives_back = np.minimum(np.where(np.isfinite(loss), more_cost, 0.0), 0.0).min(axis=1)
    can_give = np.append(np.cumsum(gives_back[::-1])[::-1], 0.0)
    cost, lost = np.zeros(1), np.zeros(1)
    path: list[tuple[Ints, Ints]] = []
    best: tuple[int, int] | None = None
    for i in range(len(loss)):
        new_cost = (cost[:, None] + more_cost[i]).ravel()
        new_lost = (lost[:, None] + loss[i]).ravel()
        origin = np.flatnonzero((new_lost < to_beat) & (new_cost + can_give[i + 1] <= left))
        # Of two states the one that costs no more and gains no less dominates.
        order = origin[np.lexsort((new_lost[origin], new_cost[origin]))]
        gained = price * new_cost[order] - new_lost[order]
        best_before = np.maximum.accumulate(np.append(-np.inf, gained))[:-1]
        order = order[gained > best_before]
        if len(order) > _STATES:
            order = order[np.sort(np.argsort(new_lost[order], kind="stable")[:_STATES])]
        if not len(order):
            break
        cost, lost = new_cost[order], new_lost[order]
        path.append((order // loss.shape[1], order % loss.shape[1]))
        short = np.where(cost <= left, lost + price * (left - cost), np.inf)
        at = int(short.argmin())
        if short[at] < to_beat:
            to_beat, best = float(short[at]), (i, at)
    return None if best is None else _walked_back(path, *best)


def _walked_back(path: list[tuple[Ints, Ints]], i: int, at: int) -> list[int]:
    columns: list[int] = []
    for parents, chosen in reversed(path[: i + 1]):
        columns.append(int(chosen[at]))
        at = int(parents[at])
    return columns[::-1]
