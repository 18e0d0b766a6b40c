r"""Intervals for a mean over rows that come in clusters: the queries on one context are alike.

``cluster_bootstrap`` and ``student_t`` are approximate: right for many contexts, too narrow for
few or where a rare strategy decides. ``empirical_bernstein`` holds for any number of contexts, if
they are independent and the given bounds are true; it is much wider.
``forethought.training.betting`` holds as well, and is hardly wider than the approximate ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from forethought.models.calibration import group_codes

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Groups = Sequence[Hashable] | NDArray[Any]
"""The context of each row; an array of integers is numbered a hundred times faster."""

CONFIDENCE: Final = 0.90
"""Two-sided; so either end alone is exceeded with 5% chance."""

APPROXIMATE: Final = "clustered bootstrap, approximate"
STUDENT: Final = "clustered Student-t, approximate"
EXACT: Final = "empirical Bernstein, any sample size"

_N_RESAMPLES: Final = 2000
_CHUNK_CELLS: Final = 4_000_000
"""Resamples times clusters held at once: 32 MB."""

_MOST_DRAWN: Final = 20_000
"""Clusters drawn one by one; of more, as many random groups: their sums vary as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate of a mean over ``n_rows`` rows in ``n_clusters`` contexts, and its bounds."""

    value: float
    low: float
    high: float
    method: str
    confidence: float
    n_rows: int
    n_clusters: int

    def negated(self) -> Interval:
        """Of the negative of what this is of."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)

    def rows_until_above(self, threshold: float) -> int | None:
        """About how many rows it takes until ``low`` is above ``threshold``.

        The half-width falls as one over the square root of the rows. None where the estimate
        itself is not above: more of the same would not help.
        """
        distance = self.value - threshold
        if not distance > 0:
            return None
        return int(np.ceil(self.n_rows * ((self.value - self.low) / distance) ** 2))


def cluster_bootstrap(
    numerator: ArrayLike,
    groups: Groups,
    *,
    denominator: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
    n_resamples: int = _N_RESAMPLES,
    seed: int = 0,
) -> Interval:
    r"""Percentile bootstrap of ``sum x_i / sum y_i``, whole contexts drawn with replacement.

    Args:
        numerator: ``x_i``, shape (n,).
        groups: The context of each row, shape (n,).
        denominator: ``y_i``, shape (n,); ones where None, for a mean. Give ``w_i r_i`` and
            ``w_i`` for SNIPS.
        confidence: Two-sided.
        n_resamples: How many times to draw.
        seed: Makes it reproducible.

    Of more than 20,000 clusters, as many random groups of them are drawn.

    Source: Efron and Tibshirani 1993, section 13.3; clusters as in Cameron, Gelbach and
    Miller 2008.
    """
    x = np.asarray(numerator, np.float64)
    y = np.ones_like(x) if denominator is None else np.asarray(denominator, np.float64)
    codes = _codes(x, groups)
    n_clusters = int(codes.max()) + 1
    sums = np.stack([np.bincount(codes, x), np.bincount(codes, y)], axis=1)
    rng = np.random.default_rng(seed)
    n_drawn = min(n_clusters, _MOST_DRAWN)
    if n_drawn < n_clusters:
        group = rng.permutation(n_clusters) % n_drawn
        sums = np.stack([np.bincount(group, column) for column in sums.T], axis=1)
    step = max(1, _CHUNK_CELLS // n_drawn)
    drawn = []
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        times = rng.multinomial(n_drawn, np.full(n_drawn, 1.0 / n_drawn), size=size)
        drawn.append(times @ sums)
    totals = np.concatenate(drawn)
    usable = totals[totals[:, 1] > 0]
    means = usable[:, 0] / usable[:, 1]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(
        value=float(x.sum() / y.sum()),
        low=float(low),
        high=float(high),
        method=APPROXIMATE,
        confidence=confidence,
        n_rows=len(x),
        n_clusters=n_clusters,
    )


def empirical_bernstein(
    terms: ArrayLike,
    groups: Groups,
    *,
    low: ArrayLike,
    high: ArrayLike,
    confidence: float = CONFIDENCE,
) -> Interval:
    r"""Bounds on the mean of ``terms`` that hold for any number of contexts.

    With C contexts, N rows, and ``y_c = (C / N) sum of the terms in c``, whose mean is the
    estimate, sample variance V and common range R, at each end with ``delta = (1 -
    confidence) / 2``:

        half-width = sqrt(2 V ln(2 / delta) / C) + 7 R ln(2 / delta) / (3 (C - 1))

    Args:
        terms: Shape (n,), such as ``dr_terms``.
        groups: The context of each row, shape (n,).
        low: The least each term can be, shape (n,) or a number: known before the draw.
        high: The greatest, likewise.
        confidence: Two-sided.

    Source: Maurer and Pontil 2009, theorem 11: for independent variables that need not be
    identically distributed.
    """
    found = clustered(terms, groups, low=low, high=high)
    n_rows, n_clusters = found.n_rows, len(found.sums)
    scale = n_clusters / n_rows
    sums, ends = scale * found.sums, (scale * found.low, scale * found.high)
    # Each context's mid-range is a constant: shifting by it leaves the common range smallest.
    spread = float((ends[1] - ends[0]).max())
    value = float(sums.mean())
    if n_clusters < 2:
        half = float("inf")
    else:
        log_term = np.log(2.0 / ((1.0 - confidence) / 2.0))
        centred = sums - (ends[0] + ends[1]) / 2.0
        half = float(
            np.sqrt(2.0 * centred.var(ddof=1) * log_term / n_clusters)
            + 7.0 * spread * log_term / (3.0 * (n_clusters - 1))
        )
    return Interval(
        value=value,
        low=max(value - half, float(ends[0].mean())),
        high=min(value + half, float(ends[1].mean())),
        method=EXACT,
        confidence=confidence,
        n_rows=n_rows,
        n_clusters=n_clusters,
    )


def student_t(terms: ArrayLike, groups: Groups, *, confidence: float = CONFIDENCE) -> Interval:
    r"""``mean +- t_(C-1) s``, with s the cluster-robust standard error. Approximate.

    Args:
        terms: Shape (n,); linearised ones (``SNIPS().fit(sample).terms_``) will do.
        groups: The context of each row, shape (n,).
        confidence: Two-sided.

    Source: Cameron and Miller 2015, section VI.D (t with C - 1 degrees of freedom).
    """
    x = np.asarray(terms, np.float64)
    codes = _codes(x, groups)
    n_clusters = int(codes.max()) + 1
    half = float("inf")
    if n_clusters > 1:
        quantile = float(stdtrit(n_clusters - 1, (1.0 + confidence) / 2.0))
        half = quantile * standard_error(x, codes)
    value = float(x.mean())
    return Interval(
        value=value,
        low=value - half,
        high=value + half,
        method=STUDENT,
        confidence=confidence,
        n_rows=len(x),
        n_clusters=n_clusters,
    )


def standard_error(terms: Floats, codes: Codes | None = None) -> float:
    r"""``sqrt(C / (C - 1) sum_c (sum of (x_i - mean) in c)^2) / n``; infinite for C = 1.

    Args:
        terms: Shape (n,).
        codes: Of ``cluster_codes``, shape (n,); None where each row is its own cluster.
    """
    centred = terms - terms.mean()
    sums = centred if codes is None else np.bincount(codes, centred)
    n_clusters = len(sums)
    if n_clusters < 2:
        return float("inf")
    return float(np.sqrt(n_clusters / (n_clusters - 1) * np.dot(sums, sums)) / len(terms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Sums, sizes and possible sums of C clusters, each of shape (C,)."""

    sums: Floats
    sizes: Floats
    low: Floats
    high: Floats
    n_rows: int

    def capped(self, max_rows: int) -> Clusters:
        """The same where no cluster counts for more than ``max_rows`` rows."""
        if max_rows < 1:
            message = f"max_rows must be at least 1, not {max_rows}"
            raise ValueError(message)
        scale = np.minimum(1.0, max_rows / self.sizes)
        return Clusters(
            sums=self.sums * scale,
            sizes=self.sizes * scale,
            low=self.low * scale,
            high=self.high * scale,
            n_rows=self.n_rows,
        )


def clustered(terms: ArrayLike, groups: Groups, *, low: ArrayLike, high: ArrayLike) -> Clusters:
    """Add up the terms and their bounds by cluster.

    Raises:
        ValueError: A term outside of its bounds, or shapes that disagree.
    """
    x = np.asarray(terms, np.float64)
    lows = np.broadcast_to(np.asarray(low, np.float64), x.shape)
    highs = np.broadcast_to(np.asarray(high, np.float64), x.shape)
    slack = 1e-9 * (1.0 + np.abs(x))
    outside = (x < lows - slack) | (x > highs + slack)
    if np.any(outside):
        row = int(np.argmax(outside))
        message = f"row {row}: {x[row]:g} is outside its bounds [{lows[row]:g}, {highs[row]:g}]"
        raise ValueError(message)
    codes = _codes(x, groups)
    return Clusters(
        sums=_sums(codes, x),
        sizes=np.bincount(codes).astype(np.float64),
        low=_sums(codes, lows),
        high=_sums(codes, highs),
        n_rows=len(x),
    )


def _sums(codes: Codes, values: Floats) -> Floats:
    return np.asarray(np.bincount(codes, values), np.float64)


def cluster_codes(groups: Groups) -> Codes:
    """Number the clusters 0, 1, ..., none left out; shape (n,)."""
    if not (isinstance(groups, np.ndarray) and groups.dtype.kind in "iu"):
        return group_codes(list(groups) if isinstance(groups, np.ndarray) else groups)
    if not len(groups):
        return np.zeros(0, np.intp)
    least, most = int(groups.min()), int(groups.max())
    if most - least >= 8 * len(groups):  # sparse: a table would be larger than sorting
        return np.asarray(np.unique(groups, return_inverse=True)[1], np.intp)
    shifted = np.asarray(groups - least, np.intp)
    present = np.zeros(most - least + 1, np.bool_)
    present[shifted] = True
    return np.asarray((np.cumsum(present) - 1)[shifted], np.intp)


def _codes(values: Floats, groups: Groups) -> Codes:
    if values.ndim != 1 or len(values) != len(groups) or not len(values):
        message = f"need as many groups as values, and one at least: {values.shape}, {len(groups)}"
        raise ValueError(message)
    return cluster_codes(groups)
