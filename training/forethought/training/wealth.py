r"""How the wealth of one who bets against a mean grows: by which stakes.

A stake on a context may depend on all contexts before it, and on nothing else of what was earned:
then wealth has an expectation of at most 1 if the mean is m or less, whatever the stakes are. They
only decide how fast it grows if the mean is more.

- ``plug_in``: so large that the bound is narrow at this many contexts if nothing went wrong before.
- ``hedged``: so large as the wealth still needs. Who has to reach ``1 / delta`` by the last context
  does so most often by holding what an option would cost that pays ``1 / delta`` if the sum ends
  high enough, and stops when it is there. With many contexts the bound is a normal one: nothing
  that holds is narrower.
- ``both``: four fifths of the wealth on ``hedged``, the rest on ``plug_in``, which does better
  where a few rare draws decide.
- ``mixture``: fixed stakes of all sizes, for any number of looks.

Sources: Waudby-Smith and Ramdas 2023 (JRSS B), section 4 (plug-in); Browne 1999 (Advances in
Applied Probability 31: a goal by a deadline is a digital option), and for intervals Voracek and
Orabona 2025, arXiv 2505.22422 (targets recalculated); Ryu et al. 2025, arXiv 2502.10826 (mixture).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Order = NDArray[np.intp]
LogWealth = Callable[[float], float]
"""The log of the wealth after betting against a mean of m or less."""

_MOST_STAKED: Final = 0.9
"""Share of the wealth that one context may cost: all of it would end the game on one draw."""

_LEAST_VARIANCE: Final = 1e-200
"""Where nothing varies: stakes are its inverse, and have to be finite numbers."""

_HEDGED_SHARE: Final = 0.8

_RECALCULATED: Final = 128
"""So often ``hedged`` looks at its wealth: at 4,000 contexts a bound is 5% wider than normal."""

_N_STAKES: Final = 16
"""Stakes of the mixture, each half of the one before: down to 1/32768 of the largest."""

_NORMAL: Final = NormalDist()
_SHARES: Final = (1e-300, 1.0 - 1e-12)
"""Of what is needed; outside, the normal quantile is infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """C contexts seen from one side: their sums, sizes and the least their sums can be."""

    sums: Floats
    sizes: Floats
    least: Floats
    half_ranges: Floats
    floor: float
    ceiling: float
    """What the mean can be at least, and at most: known before the draw."""
    stage: Order | None = None
    """In which stage each context is judged, shape (C,), from 0; what a context of a later one can
    lose may depend on what earlier ones brought. None: all at once."""

    def largest_stakes(self, mean: float) -> Floats:
        """What keeps the wealth above 0 whatever one context brings, shape (C,) or ().

        It is the same for all contexts of a stage: a stake must not depend on the context itself.
        """
        loss = np.asarray(mean * self.sizes - self.least)
        worst = np.asarray(loss.max()) if self.stage is None else _worst_so_far(loss, self.stage)
        with np.errstate(divide="ignore"):
            return np.asarray(np.where(worst > 0, _MOST_STAKED / np.maximum(worst, 0.0), np.inf))


def _worst_so_far(loss: Floats, stage: Order) -> Floats:
    by_stage = np.full(int(stage.max()) + 1, -np.inf)
    np.maximum.at(by_stage, stage, loss)
    return np.asarray(np.maximum.accumulate(by_stage)[stage])


def plug_in(side: Side, order: Order, delta: float) -> LogWealth:
    """Bet on the contexts in ``order``, for a bound at the level ``delta``."""
    x, size = side.sums[order], side.sizes[order]
    n = len(x)
    known = _known_variance(side, x, size)
    needed = np.sqrt(2.0 * np.log(1.0 / delta) / (n * known))
    number = np.arange(n)
    mean_x = np.r_[0.0, np.cumsum(x)[:-1]] / np.maximum(number, 1)
    mean_size = np.r_[0.0, np.cumsum(size)[:-1]] / np.maximum(number, 1)
    doubt = 2.0 * np.sqrt(known / np.maximum(number, 1))

    def log_wealth(mean: float) -> float:
        gain = np.maximum(mean_x - mean * mean_size - doubt, 0.0)
        stakes = np.maximum(needed, gain / (known + gain**2))
        np.minimum(stakes, _in_order(side.largest_stakes(mean), order), out=stakes)
        return float(np.log1p(stakes * (x - mean * size)).sum())

    return log_wealth


def hedged(side: Side, order: Order, delta: float) -> LogWealth:
    r"""Bet on the contexts in ``order`` so as to reach ``1 / delta`` by the last of them.

    With the wealth ``W`` so far, ``z = Phi^-1(delta W)``, ``n`` contexts to come and ``s^2`` the
    variance of ``x - m n`` among those before, the stake is ``phi(z) / (delta W s sqrt(n))``, and 0
    once the wealth is there.
    """
    x, size = side.sums[order], side.sizes[order]
    n = len(x)
    deviation = np.sqrt(_known_variance(side, x, size))
    ends = np.unique(np.linspace(0, n, min(n, _RECALCULATED) + 1).astype(np.intp)).tolist()
    # A hair more, so that who is there is there in spite of rounding.
    target = math.log(1.0 / delta) + 1e-9

    def log_wealth(mean: float) -> float:
        largest = np.broadcast_to(_in_order(side.largest_stakes(mean), order), x.shape)
        gains = x - mean * size
        log_w = 0.0
        for start, end in itertools.pairwise(ends):
            share = min(max(math.exp(log_w - target), _SHARES[0]), _SHARES[1])
            density = _NORMAL.pdf(_NORMAL.inv_cdf(share)) / share
            needed = density / (float(deviation[start]) * math.sqrt(n - start))
            stakes = np.minimum(needed, largest[start:end])
            grown = log_w + np.cumsum(np.log1p(stakes * gains[start:end]))
            if grown.max() >= target:
                return target
            log_w = float(grown[-1])
        return log_w

    return log_wealth


def both(side: Side, order: Order, delta: float) -> LogWealth:
    """Four fifths of the wealth on ``hedged``, one on ``plug_in``."""
    one = hedged(side, order, delta * _HEDGED_SHARE)
    other = plug_in(side, order, delta)

    def log_wealth(mean: float) -> float:
        return float(
            np.logaddexp(
                math.log(_HEDGED_SHARE) + one(mean), math.log(1.0 - _HEDGED_SHARE) + other(mean)
            )
        )

    return log_wealth


def mixture(side: Side, largest_loss: float | None) -> LogWealth:
    """Stakes of all sizes, equally weighted; ``largest_loss`` as of ``betting_sequence``."""
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


def _in_order(values: Floats, order: Order) -> Floats:
    return np.asarray(values[order]) if values.ndim else values


def _known_variance(side: Side, x: Floats, size: Floats) -> Floats:
    """Of ``x - m n`` among the contexts before each, shape (C,); never 0, nor next to it."""
    count = np.arange(1, len(x) + 1)
    before = np.r_[0.0, np.cumsum(x)[:-1]] / np.maximum(np.r_[0.0, np.cumsum(size)[:-1]], 1.0)
    # A pseudo-context first: half the range, or the largest loss where the range is not known.
    first = slice(None) if side.stage is None else side.stage == 0
    loss = float((side.ceiling * side.sizes - side.least)[first].max())
    prior = float(np.mean(side.half_ranges[first] ** 2))
    prior = prior if np.isfinite(prior) else loss**2
    # Around the mean of the contexts before: stakes may not depend on what is being doubted.
    spread = (prior + np.cumsum((x - before * size) ** 2)) / (count + 1.0)
    return np.asarray(np.maximum(np.r_[prior, spread[:-1]], _LEAST_VARIANCE))
