r"""Betting intervals for a mean over clusters: as narrow as the data allow, at any sample size.

To doubt that the mean is at most ``m``, bet against it: a wealth of 1 is multiplied by
``1 + lambda_c (x_c - m n_c)`` for each context c, with ``x_c`` the sum of its terms and ``n_c``
their number. If the mean per row, ``E[x_c] / E[n_c]``, is ``m`` or less, no bet grows in
expectation, and the wealth ever exceeds ``1 / alpha`` with probability alpha at most (Ville).
All ``m`` that cost the bettor's opponent that much lie below the interval.

The range of the terms limits the stakes only, so that, unlike Bernstein's, these bounds follow
the variance: a rare but possible large weight hardly widens them.

How large the stakes are is said in ``forethought.training.wealth``.

Both hold if contexts are independent and alike in distribution and if ``low`` and ``high`` are
true bounds, known before the draw. ``betting`` looks once, at this sample size;
``betting_sequence`` may be looked at after every context, forever.

Sources: Waudby-Smith and Ramdas 2023 (JRSS B; betting); Waudby-Smith, Wu, Ramdas, Karampatziakis
and Mineiro 2022, arXiv 2210.10768 (off-policy).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forethought.training.intervals import (
    CONFIDENCE,
    Clusters,
    Groups,
    Interval,
    cluster_codes,
    clustered,
)
from forethought.training.ope import column
from forethought.training.wealth import LogWealth, Order, Side, both, mixture

Floats = NDArray[np.float64]

BETTING: Final = "betting, any sample size"
SEQUENCE: Final = "betting sequence, any sample size and any number of looks"

_N_GRID: Final = 17
_BISECTIONS: Final = 20


def betting(
    terms: ArrayLike,
    groups: Groups,
    *,
    low: ArrayLike,
    high: ArrayLike,
    mean_range: tuple[float, float] | None = None,
    max_rows: int | None = None,
    stage: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    r"""Bounds on the mean of ``terms`` from one look at a sample of any size.

    Contexts are taken in a random order. With ``delta = (1 - confidence) / 2`` at each end, four
    fifths of the wealth are staked so as to reach ``1 / delta`` at the last of C contexts: with
    the wealth ``W_c`` so far and the variance ``s_c^2`` of ``x - m n`` before the c-th,

        lambda_c = min(phi(z) / (delta W_c s_c sqrt(C - c)), 0.9 / largest possible loss),
        z = Phi^-1(delta W_c),

    the rest so as to grow without regard to it (``wealth.plug_in``). An end never goes beyond the
    mean of the sample: a bound that was reached early is not taken back by what came later.

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
        stage: In which stage each row was judged, shape (n,), from 0; all rows of a context in the
            same one. What is judged in a stage, and within which bounds, may depend on all that
            was earned in earlier stages (``forethought.training.progressive``): these come first.
            An interval is then for means that are alike in all stages; a lower bound above m says
            that in some stage the mean was above m.
        confidence: Two-sided.
        seed: Of the order, within a stage.

    Raises:
        ValueError: A term outside of its bounds, a context in two stages, or shapes that disagree.
    """
    found = clustered(terms, groups, low=low, high=high)
    found = found if max_rows is None else found.capped(max_rows)
    stages = _stages(stage, groups, len(found.sums))
    delta = (1.0 - confidence) / 2.0
    order = _order(stages, len(found.sums), seed)

    def bound(side: Side) -> float:
        return _lower(side, lambda: both(side, order, delta), delta)

    return _interval(found, bound, mean_range, BETTING, confidence, stages)


def betting_evidence(
    terms: ArrayLike,
    groups: Groups,
    *,
    low: ArrayLike,
    high: ArrayLike,
    level: float,
    mean: float = 0.0,
    max_rows: int | None = None,
    stage: ArrayLike | None = None,
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
        stage: Likewise.
        seed: Of the order.
    """
    found = clustered(terms, groups, low=low, high=high)
    found = found if max_rows is None else found.capped(max_rows)
    stages = _stages(stage, groups, len(found.sums))
    order = _order(stages, len(found.sums), seed)
    return both(_sides(found, None, stages)[0], order, level)(mean)


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

    def bound(side: Side) -> float:
        return _lower(side, lambda: mixture(side, largest_loss), delta)

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
    lower_bound: Callable[[Side], float],
    mean_range: tuple[float, float] | None,
    method: str,
    confidence: float,
    stages: Order | None = None,
) -> Interval:
    below, above = _sides(found, mean_range, stages)
    value = float(found.sums.sum() / found.sizes.sum())
    return Interval(
        value=value,
        low=min(lower_bound(below), value),
        high=max(-lower_bound(above), value),
        method=method,
        confidence=confidence,
        n_rows=found.n_rows,
        n_clusters=len(found.sums),
    )


def _stages(stage: ArrayLike | None, groups: Groups, n_clusters: int) -> Order | None:
    """The stage of each context, numbered from 0 without a gap, shape (C,)."""
    if stage is None:
        return None
    codes = cluster_codes(groups)
    each = np.unique(column("stage", stage, codes), return_inverse=True)[1]
    found = np.zeros(n_clusters, np.intp)
    found[codes] = each
    if np.any(found[codes] != each):
        message = "a context has rows in two stages"
        raise ValueError(message)
    return found


def _order(stages: Order | None, n_clusters: int, seed: int) -> Order:
    """Contexts at random, those of earlier stages first."""
    shuffled = np.random.default_rng(seed).permutation(n_clusters)
    return shuffled if stages is None else shuffled[np.argsort(stages[shuffled], kind="stable")]


def _sides(
    found: Clusters, mean_range: tuple[float, float] | None, stages: Order | None = None
) -> tuple[Side, Side]:
    """As seen from below, and from above with all signs changed."""
    n_rows = float(found.sizes.sum())
    floor = max(-np.inf if mean_range is None else mean_range[0], found.low.sum() / n_rows)
    ceiling = min(np.inf if mean_range is None else mean_range[1], found.high.sum() / n_rows)
    half = (found.high - found.low) / 2.0
    below = Side(
        sums=found.sums,
        sizes=found.sizes,
        least=found.low,
        half_ranges=half,
        floor=floor,
        ceiling=ceiling,
        stage=stages,
    )
    above = Side(
        sums=-found.sums,
        sizes=found.sizes,
        least=-found.high,
        half_ranges=half,
        floor=-ceiling,
        ceiling=-floor,
        stage=stages,
    )
    return below, above


def _lower(side: Side, bets: Callable[[], LogWealth], delta: float) -> float:
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
    # Stakes follow the wealth, which need not fall with every step of the mean. Whether the mean is
    # above 0, which a gate asks, is answered by the bet against 0 itself.
    return low if low <= 0 or log_wealth(0.0) >= needed else 0.0
