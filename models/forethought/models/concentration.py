r"""How far contexts with the same prediction lie apart: a beta distribution around the mean.

A context of predicted mean m has its own share p ~ Beta(k m, k (1 - m)) of right answers; the
concentration k is what the log says of all contexts: large where equal predictions mean equal
contexts. Of n queries s are then right with the beta-binomial probability (Skellam 1948), from
which k is estimated by maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forethought.models.calibration import CONFIDENCE, Floats, group_codes

_GRID: Final = np.logspace(-0.5, 3.0, 141)
_EDGE: Final = 1e-4


def fit_concentration(mean: Floats, quality: Floats, groups: Sequence[Hashable]) -> float:
    """The likeliest concentration, between 0.3 and 1,000.

    Args:
        mean: Out-of-fold predictions, shape (n,).
        quality: In [0, 1], shape (n,); right is 0.5 or more, as a count needs whole numbers.
        groups: The context of each row, shape (n,).
    """
    right, asked, centre = _by_context(mean, quality, groups)
    likelihood = [log_likelihood(right, asked, centre, k).sum() for k in _GRID]
    return float(_GRID[int(np.argmax(likelihood))])


def log_likelihood(right: Floats, asked: Floats, mean: Floats, concentration: float) -> Floats:
    r"""``ln B(k m + s, k (1 - m) + n - s) - ln B(k m, k (1 - m))`` of each context, (n,).

    The probability of one order of s right among n; without the binomial coefficient, which
    knows nothing of k.
    """
    from scipy.special import betaln  # noqa: PLC0415 - serving never fits

    a, b = _shape(mean, concentration)
    return np.asarray(betaln(a + right, b + asked - right) - betaln(a, b))


def bounds(mean: Floats, concentration: float) -> tuple[Floats, Floats]:
    """The ends of the central 90% of the shares of contexts with these means, each (n,)."""
    from scipy.special import betaincinv  # noqa: PLC0415 - serving never fits

    a, b = _shape(mean, concentration)
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = betaincinv(a, b, tail), betaincinv(a, b, 1.0 - tail)
    # A very skewed distribution can have its mean outside.
    return np.asarray(np.minimum(low, mean)), np.asarray(np.maximum(high, mean))


def covered(
    mean: Floats, concentration: float, right: NDArray[np.intp], asked: NDArray[np.intp]
) -> Floats:
    """By context, shape (n,): how much of its count of right answers is in the central 90%.

    Counts are whole, so no set of them has exactly 90%: a count that straddles an end is covered
    in part, which is the expectation of the randomised test (Czado, Gneiting and Held 2009).
    The mean over contexts is 0.90 where the predicted distribution is true.
    """
    from scipy.special import comb  # noqa: PLC0415 - for judging only

    tail = (1.0 - CONFIDENCE) / 2.0
    found = np.empty(len(mean))
    for i, (m, s, n) in enumerate(zip(mean, right, asked, strict=True)):
        counts = np.arange(n + 1.0)
        each = np.full(n + 1, m)
        logs = log_likelihood(counts, np.full(n + 1, float(n)), each, concentration)
        p = comb(n, counts) * np.exp(logs)
        below = p[:s].sum()
        inside = min(below + p[s], 1.0 - tail) - max(below, tail)
        found[i] = max(inside, 0.0) / p[s] if p[s] else 0.0
    return found


def _by_context(
    mean: Floats, quality: Floats, groups: Sequence[Hashable]
) -> tuple[Floats, Floats, Floats]:
    codes = group_codes(groups)
    asked = np.bincount(codes).astype(np.float64)
    right = np.bincount(codes, quality >= 0.5).astype(np.float64)
    return right, asked, np.bincount(codes, mean) / asked


def _shape(mean: Floats, concentration: float) -> tuple[Floats, Floats]:
    m = np.clip(mean, _EDGE, 1.0 - _EDGE)
    return np.asarray(concentration * m), np.asarray(concentration * (1.0 - m))
