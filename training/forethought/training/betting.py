r"""Betting intervals for a mean over clusters: as narrow as the data allow, at any sample size.

To doubt that the mean is at most ``m``, bet against it: a wealth of 1 is multiplied by
``1 + lambda_c (x_c - m n_c)`` for each context c, with ``x_c`` the sum of its terms and ``n_c``
their number. If the mean per row, ``E[x_c] / E[n_c]``, is ``m`` or less, no bet grows in
expectation, and the wealth ever exceeds ``1 / alpha`` with probability alpha at most (Ville).
All ``m`` that cost the bettor's opponent that much lie below the interval.

The range of the terms limits the stakes only, so that, unlike Bernstein's, these bounds follow
the variance: a rare but possible large weight hardly widens them.

Both hold if contexts are independent and alike in distribution and if ``low`` and ``high`` are
true bounds, known before the draw. ``betting`` looks once, at this sample size;
``betting_sequence`` may be looked at after every context, forever.

Sources: Waudby-Smith and Ramdas 2023 (JRSS B), section 4 (hedged capital, predictable plug-in
stakes for a fixed time); Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro 2022, arXiv
2210.10768 (off-policy); Ryu, Kwon, Koppe and Jun 2025, arXiv 2502.10826 (a mixture over stakes
instead of one, as in Cover's universal portfolio).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forethought.training.intervals import CONFIDENCE, Clusters, Groups, Interval, clustered
from forethought.training.ope import column

Floats = NDArray[np.float64]
LogWealth = Callable[[float], float]
"""The log of the wealth after betting against a mean of m or less."""

BETTING: Final = "betting, any sample size"
SEQUENCE: Final = "betting sequence, any sample size and any number of looks"

_MOST_STAKED: Final = 0.9
"""Share of the wealth that one context may cost: all of it would end the game on one draw."""

_N_STAKES: Final = 16
"""Stakes of the mixture, each half of the one before: down to 1/32768 of the largest."""

_N_GRID: Final = 17
_BISECTIONS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """C contexts seen from one side: their sums, sizes and the least their sums can be."""

    sums: Floats
    sizes: Floats
    least: Floats
    half_ranges: Floats
    floor: float
    ceiling: float
    """What the mean can be at least, and at most: known before the draw."""


def betting(
    terms: ArrayLike,
    groups: Groups,
    *,
    low: ArrayLike,
    high: ArrayLike,
    mean_range: tuple[float, float] | None = None,
    max_rows: int | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    r"""Bounds on the mean of ``terms`` from one look at a sample of any size.

    Contexts are taken in a random order. With ``delta = (1 - confidence) / 2`` at each end, and
    ``y_c`` and ``s_c^2`` the mean and the variance of ``x - m n`` among the contexts before the
    c-th, the stake on it is the best for a narrow bound at C contexts, or, where the mean is
    surely larger than such a bound needs, the best for growth:

        lambda_c = min(max(sqrt(2 ln(1 / delta) / (C s_c^2)), g_c / (s_c^2 + g_c^2)),
                       0.9 / largest possible loss),     g_c = y_c - 2 s_c / sqrt(c)

    Args:
        terms: Shape (n,), such as ``dr_terms``.
        groups: The context of each row, shape (n,).
        low: The least each term can be, shape (n,) or a number: known before the draw.
        high: The greatest, likewise.
        mean_range: What the mean can be, where that is less than the terms can be: weighted
            terms vary more than the rewards whose mean they estimate. Bounds end there.
        max_rows: No context counts for more rows than this: the sum of a larger one is scaled
            down to it. One context of a thousand queries would otherwise limit all stakes. To be
            set from other data than these.
        confidence: Two-sided.
        seed: Of the order.

    Raises:
        ValueError: A term outside of its bounds, or shapes that disagree.
    """
    found = clustered(terms, groups, low=low, high=high)
    found = found if max_rows is None else found.capped(max_rows)
    delta = (1.0 - confidence) / 2.0
    order = np.random.default_rng(seed).permutation(len(found.sums))

    def bound(side: _Side) -> float:
        return _lower(side, lambda: _plug_in(side, order, delta), delta)

    return _interval(found, bound, mean_range, BETTING, confidence)


def betting_evidence(
    terms: ArrayLike,
    groups: Groups,
    *,
    low: ArrayLike,
    high: ArrayLike,
    level: float,
    mean: float = 0.0,
    max_rows: int | None = None,
    seed: int = 0,
) -> float:
    r"""The natural log of the wealth that ``betting`` wins against "the mean is ``mean`` or less".

    If that is true, the chance of ``ln(1 / level)`` or more is at most ``level``: one test, for a
    thirtieth of the time of an interval.

    Args:
        terms: Shape (n,), such as ``dr_terms``.
        groups: The context of each row, shape (n,).
        low: The least each term can be, shape (n,) or a number: known before the draw.
        high: The greatest, likewise.
        level: For which the stakes are best; above 0 and below 1.
        mean: What is doubted.
        max_rows: As of ``betting``.
        seed: Of the order.
    """
    found = clustered(terms, groups, low=low, high=high)
    found = found if max_rows is None else found.capped(max_rows)
    order = np.random.default_rng(seed).permutation(len(found.sums))
    return _plug_in(_sides(found, None)[0], order, level)(mean)


def betting_sequence(
    terms: ArrayLike,
    groups: Groups,
    *,
    low: ArrayLike,
    high: ArrayLike,
    mean_range: tuple[float, float] | None = None,
    largest_loss: float | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    r"""Bounds on the mean of ``terms`` that hold at all looks together, however many.

    The wealth is a mixture over stakes ``lambda_j = 2^-j / largest_loss``, equally weighted:

        W(m) = mean_j prod_c (1 + lambda_j (x_c - m n_c))

    It does not depend on the order, and rows may be added to old contexts.

    Args:
        terms: Shape (n,), such as ``dr_terms``.
        groups: The context of each row, shape (n,).
        low: The least each term can be, shape (n,) or a number.
        high: The greatest, likewise.
        mean_range: What the mean can be, where that is less than the terms can be.
        largest_loss: The most by which any context that may ever come can fall short of (or
            exceed) any mean in ``mean_range``: the same number at each look. None for that of
            the contexts at hand, which is the same at each look only if they stay as extreme.
        confidence: Two-sided.

    Raises:
        ValueError: A term outside of its bounds, a context that can lose more than
            ``largest_loss``, or shapes that disagree.
    """
    found = clustered(terms, groups, low=low, high=high)
    delta = (1.0 - confidence) / 2.0

    def bound(side: _Side) -> float:
        return _lower(side, lambda: _mixture(side, largest_loss), delta)

    return _interval(found, bound, mean_range, SEQUENCE, confidence)


def ips_betting(
    reward: ArrayLike,
    weights: ArrayLike,
    groups: Groups,
    *,
    reward_range: tuple[float, float] = (0.0, 1.0),
    largest_weight: float | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    r"""``betting`` around the IPS estimate, for one policy; no bound on the weights is needed.

    With rewards in [0, 1], ``w_i r_i`` is never below 0, whatever the weight: its mean is bounded
    from below. So is that of ``w_i (1 - r_i)``, whose expectation is 1 less the policy's value
    because weights are 1 in expectation: the policy's value is bounded from above. Where
    ``largest_weight`` is known and small, ``w_i r_i`` bounds both ends, which is narrower for
    rewards that are rarely above 0.

    Args:
        reward: What each decision earned, shape (n,).
        weights: Of ``importance_weights`` for one policy, shape (n,).
        groups: The context of each row, shape (n,).
        reward_range: What a reward can be.
        largest_weight: That could have been drawn (``largest_possible_weight``).
        confidence: Two-sided.
        seed: Of the order.

    Source: Waudby-Smith et al. 2022, arXiv 2210.10768, section 3.
    """
    least, most = reward_range
    w = np.asarray(weights, np.float64)
    r = (column("reward", reward, w) - least) / (most - least)
    if np.any((r < 0) | (r > 1)):
        message = f"rewards must be in [{least:g}, {most:g}]"
        raise ValueError(message)
    high = np.inf if largest_weight is None else largest_weight

    def bet(terms: Floats) -> Interval:
        return betting(
            terms, groups, low=0.0, high=high, mean_range=(0.0, 1.0), confidence=confidence,
            seed=seed,
        )  # fmt: skip

    below = bet(w * r)
    upper = below.high if largest_weight is not None else 1.0 - bet(w * (1.0 - r)).low
    return replace(
        below,
        value=least + (most - least) * below.value,
        low=least + (most - least) * below.low,
        high=least + (most - least) * upper,
    )


def _interval(
    found: Clusters,
    lower_bound: Callable[[_Side], float],
    mean_range: tuple[float, float] | None,
    method: str,
    confidence: float,
) -> Interval:
    below, above = _sides(found, mean_range)
    return Interval(
        value=float(found.sums.sum() / found.sizes.sum()),
        low=lower_bound(below),
        high=-lower_bound(above),
        method=method,
        confidence=confidence,
        n_rows=found.n_rows,
        n_clusters=len(found.sums),
    )


def _sides(found: Clusters, mean_range: tuple[float, float] | None) -> tuple[_Side, _Side]:
    """As seen from below, and from above with all signs changed."""
    n_rows = float(found.sizes.sum())
    floor = max(-np.inf if mean_range is None else mean_range[0], found.low.sum() / n_rows)
    ceiling = min(np.inf if mean_range is None else mean_range[1], found.high.sum() / n_rows)
    half = (found.high - found.low) / 2.0
    below = _Side(
        sums=found.sums,
        sizes=found.sizes,
        least=found.low,
        half_ranges=half,
        floor=floor,
        ceiling=ceiling,
    )
    above = _Side(
        sums=-found.sums,
        sizes=found.sizes,
        least=-found.high,
        half_ranges=half,
        floor=-ceiling,
        ceiling=-floor,
    )
    return below, above


def _lower(side: _Side, bets: Callable[[], LogWealth], delta: float) -> float:
    """The least mean that is not doubted, of a grid, and then between its neighbours."""
    if not np.all(np.isfinite(side.least)):  # no stake is safe
        return side.floor
    log_wealth = bets()
    needed = float(np.log(1.0 / delta))
    low, high = side.floor, side.ceiling
    if log_wealth(low) < needed:
        return low
    # Stakes change with m, so that wealth need not fall at every step: take the first that does.
    grid = np.linspace(low, high, _N_GRID)
    for middle in grid[1:].tolist():
        if log_wealth(middle) < needed:
            high = middle
            break
        low = middle
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if log_wealth(middle) >= needed:
            low = middle
        else:
            high = middle
    return low


def _plug_in(side: _Side, order: NDArray[np.intp], delta: float) -> LogWealth:
    x, size = side.sums[order], side.sizes[order]
    n = len(x)
    count = np.arange(1, n + 1)
    before = np.r_[0.0, np.cumsum(x)[:-1]] / np.maximum(np.r_[0.0, np.cumsum(size)[:-1]], 1.0)
    # A pseudo-context first: half the range, or the largest loss where the range is not known.
    loss = float((side.ceiling * side.sizes - side.least).max())
    prior = float(np.mean(side.half_ranges**2))
    prior = prior if np.isfinite(prior) else loss**2
    # Around the mean of the contexts before: stakes may not depend on what is being doubted.
    spread = (prior + np.cumsum((x - before * size) ** 2)) / (count + 1.0)
    known = np.r_[prior, spread[:-1]]
    known = np.maximum(known, np.finfo(float).tiny)
    needed = np.sqrt(2.0 * np.log(1.0 / delta) / (n * known))
    number = np.arange(n)
    mean_x = np.r_[0.0, np.cumsum(x)[:-1]] / np.maximum(number, 1)
    mean_size = np.r_[0.0, np.cumsum(size)[:-1]] / np.maximum(number, 1)
    doubt = 2.0 * np.sqrt(known / np.maximum(number, 1))

    def log_wealth(mean: float) -> float:
        gain = np.maximum(mean_x - mean * mean_size - doubt, 0.0)
        stakes = np.maximum(needed, gain / (known + gain**2))
        loss = float((mean * side.sizes - side.least).max())
        if loss > 0:
            np.minimum(stakes, _MOST_STAKED / loss, out=stakes)
        return float(np.log1p(stakes * (x - mean * size)).sum())

    return log_wealth


def _mixture(side: _Side, largest_loss: float | None) -> LogWealth:
    loss = float((side.ceiling * side.sizes - side.least).max())
    if largest_loss is not None:
        if loss > largest_loss * (1 + 1e-9):
            message = f"a context can lose {loss:g}, more than largest_loss {largest_loss:g}"
            raise ValueError(message)
        loss = largest_loss
    stakes = _MOST_STAKED / max(loss, np.finfo(float).tiny) * 0.5 ** np.arange(_N_STAKES)

    def log_wealth(mean: float) -> float:
        won = side.sums - mean * side.sizes
        logs = np.array([np.log1p(stake * won).sum() for stake in stakes])
        return float(np.logaddexp.reduce(logs) - np.log(_N_STAKES))

    return log_wealth
