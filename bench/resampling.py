"""95% bootstrap intervals by context, for any statistic that is made of means.

Queries on one context are alike, so whole contexts are drawn with replacement (Efron and
Tibshirani 1993, section 13.3). Everything is computed for all repeats at once: row 0 of every
array stands for the data themselves, the other rows for the resampled ones, and a statistic is a
function of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import rankdata

from bench.recordings import Floats, Ints

REPEATS: Final = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95% interval. NaN where the data do not allow one."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def show(self, digits: int = 2, *, sign: bool = False) -> str:
        if np.isnan(self.value):
            return "-"
        form = f"{'+' if sign else ''}.{digits}f"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


def draws(n_contexts: int, *, repeats: int = REPEATS, seed: int = 0) -> Floats:
    """How often each context counts, shape (1 + repeats, n_contexts); once each in row 0."""
    if n_contexts == 0:
        return np.ones((1 + repeats, 0))
    even = np.full(n_contexts, 1.0 / n_contexts)
    drawn = np.random.default_rng(seed).multinomial(n_contexts, even, size=repeats)
    return np.vstack([np.ones(n_contexts), drawn.astype(float)])


def means(drawn: Floats, context: Ints, values: Floats) -> Floats:
    """The mean over queries in every row of ``drawn``; NaN where no query was drawn.

    Args:
        drawn: From ``draws``, shape (R, C).
        context: The context of each query, shape (Q,).
        values: Shape (Q,) or (Q, A).

    Returns:
        Shape (R,) or (R, A).
    """
    n_contexts = drawn.shape[1]
    sums = np.zeros((n_contexts, *values.shape[1:]))
    np.add.at(sums, context, values)
    counts = drawn @ np.bincount(context, minlength=n_contexts).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((drawn @ sums) / counts.reshape(-1, *(1,) * (values.ndim - 1)))


def context_means(drawn: Floats, values: Floats) -> Floats:
    """The mean over contexts in every row of ``drawn``; ``values`` has shape (C,) or (C, A)."""
    return means(drawn, np.arange(drawn.shape[1]), values)


def estimate(rows: Floats) -> Estimate:
    """The figure of row 0, and the middle 95% of the others that have one."""
    usable = rows[1:][np.isfinite(rows[1:])]
    if not len(usable) or not np.isfinite(rows[0]):
        return Estimate(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(usable, [0.025, 0.975])
    return Estimate(float(rows[0]), float(low), float(high))


def correlation(drawn: Floats, context: Ints, x: Floats, y: Floats) -> Floats:
    """Spearman's rank correlation in every row; NaN where one of the two does not vary.

    The ranks are those in the data themselves: ranking anew within each repeat changes little.
    """
    a, b = _ranks(x), _ranks(y)
    moments = means(drawn, context, np.stack([a, b, a * a, b * b, a * b], axis=1))
    mean_a, mean_b, square_a, square_b, product = moments.T
    spread = (square_a - mean_a**2) * (square_b - mean_b**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(
            spread > 1e-12, (product - mean_a * mean_b) / np.sqrt(np.abs(spread)), np.nan
        )


def _ranks(values: Floats) -> Floats:
    """Ranks from -1 to 1, ties at their mean."""
    return np.asarray(2 * rankdata(values) / (len(values) + 1) - 1)
