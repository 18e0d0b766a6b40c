"""Gaps: how long after a query the next one on its context comes, if one comes at all.

A histogram on log-spaced bins, that is a discrete-time hazard (Singer and Willett, "It's About
Time", Journal of Educational Statistics 1993), shrunken to a prior. Within a bin the gap is
uniform in the logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EDGES_S: Final = (0.0, *(2.0 ** (i / 2) for i in range(43)))
"""Edges of the bins in seconds: two an octave, from 1 s to 24 days."""

N_BINS: Final = len(EDGES_S) - 1
N_POINTS: Final = 256

_EDGES: Final[Floats] = np.array(EDGES_S)
_LOG_EDGES: Final[Floats] = np.log(np.maximum(_EDGES, 0.5))
"""The first bin, below a second, counts as going from half a second."""


@dataclass(frozen=True, slots=True)
class GapDistribution:
    """P(gap in each bin of ``EDGES_S`` | another query comes); what is longer is in the last bin.

    Raises ValueError where ``mass`` is not a distribution over the bins.
    """

    mass: tuple[float, ...]

    def __post_init__(self) -> None:
        whole = math.isclose(math.fsum(self.mass), 1.0, abs_tol=1e-6)
        if len(self.mass) != N_BINS or min(self.mass) < 0 or not whole:
            message = f"gaps need {N_BINS} shares that sum to 1, not {self.mass!r}"
            raise ValueError(message)

    @classmethod
    def lognormal(cls, *, median_s: float, sigma: float) -> GapDistribution:
        """A log-normal gap; ``sigma`` is the standard deviation of its natural logarithm."""
        below = [_normal_cdf(math.log(e / median_s) / sigma) if e else 0.0 for e in EDGES_S]
        below[-1] = 1.0
        return cls(tuple(b - a for a, b in pairwise(below)))

    @classmethod
    def fit(cls, counts: Floats, *, prior: GapDistribution, prior_weight: float) -> GapDistribution:
        """Dirichlet posterior mean: ``counts`` (N_BINS,) and the prior as ``prior_weight`` gaps."""
        found = counts + max(prior_weight, 1e-9) * np.array(prior.mass)
        return cls(tuple((found / found.sum()).tolist()))

    def survival(self, after_s: float) -> float:
        """P(gap > ``after_s``)."""
        if after_s <= 0:
            return 1.0
        return float(np.interp(_log(after_s), _LOG_EDGES, self._survivals()))

    def hazard(self) -> tuple[float, ...]:
        """P(gap in the bin | it is no shorter than the bin's start), by bin."""
        left = self._survivals()[:-1]
        return tuple(
            min(1.0, m / s) if s > 1e-12 else 1.0
            for m, s in zip(self.mass, left.tolist(), strict=True)
        )

    def points_s(self) -> Floats:
        """Gaps at evenly spaced quantiles, shape (N_POINTS,), rising; each stands for as many."""
        return _points(self)

    def beyond(self, after_s: float) -> Floats:
        """P(gap in each bin | gap > ``after_s``), shape (N_BINS,)."""
        edges = np.maximum(_EDGES, after_s)
        survivals = np.interp(_log_all(edges), _LOG_EDGES, self._survivals())
        survivals[-1] = 0.0
        left = survivals[:-1] - survivals[1:]
        total = left.sum()
        if total <= 0:  # after all that was ever seen: the last bin has no end
            return np.asarray(np.arange(N_BINS) == N_BINS - 1, dtype=np.float64)
        return np.asarray(left / total, dtype=np.float64)

    def _survivals(self) -> Floats:
        return _survivals(self)


def count_gaps(gaps_s: Sequence[float]) -> Floats:
    """How many of ``gaps_s`` are in each bin. Raises ValueError for a negative gap."""
    gaps = np.asarray(gaps_s, dtype=np.float64)
    if gaps.size and not gaps.min() >= 0:
        message = f"the gap between two queries cannot be {gaps.min():g} s"
        raise ValueError(message)
    places = np.clip(np.searchsorted(_EDGES, gaps, side="right") - 1, 0, N_BINS - 1)
    return np.bincount(places, minlength=N_BINS).astype(np.float64)


@lru_cache(maxsize=64)
def _survivals(gaps: GapDistribution) -> Floats:
    left = 1.0 - np.concatenate([[0.0], np.cumsum(gaps.mass)])
    left[-1] = 0.0
    return np.clip(left, 0.0, 1.0)


@lru_cache(maxsize=64)
def _points(gaps: GapDistribution) -> Floats:
    below = np.concatenate([[0.0], np.cumsum(gaps.mass)])
    share = (np.arange(N_POINTS) + 0.5) / N_POINTS * below[-1]
    # np.interp needs rising x: an empty bin is skipped.
    kept = np.concatenate([[True], np.diff(below) > 0])
    return np.asarray(np.exp(np.interp(share, below[kept], _LOG_EDGES[kept])))


def _log(seconds: float) -> float:
    return math.log(max(seconds, 0.5))


def _log_all(seconds: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(seconds, 0.5)))


def _normal_cdf(x: float) -> float:
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))
