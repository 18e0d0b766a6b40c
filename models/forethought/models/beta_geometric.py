"""Maximum likelihood of the beta-geometric: P(N = n) = B(a + 1, b + n - 1) / B(a, b)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forethought.models.gaps import Floats

_MIN_ALPHA: Final = 1.05
"""At alpha <= 1 the expected number of queries is infinite."""

_MAX_COUNT: Final = 200
"""The prior's pseudo-counts end here (it leaves 1e-6 of them out)."""


def most_likely(
    n: Floats,
    is_end: NDArray[np.bool_],
    weights: Floats,
    *,
    prior: tuple[float, float],
    prior_weight: float,
) -> tuple[float, float]:
    """The (alpha, beta) of counts ``n``, each an end or an "at least", and of pseudo-counts.

    ``n``, ``is_end`` and ``weights`` have one shape; the pseudo-counts are those that ``prior``
    expects of ``prior_weight`` contexts.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - serving never fits
    from scipy.special import betaln  # noqa: PLC0415 - likewise

    pseudo = np.arange(1.0, _MAX_COUNT + 1)
    chances = np.exp(betaln(prior[0] + 1, prior[1] + pseudo - 1) - betaln(*prior))
    rows = np.stack(
        [np.concatenate([n, pseudo]), np.concatenate([is_end, np.ones(len(pseudo))])], axis=1
    )
    kinds, place = np.unique(rows, axis=0, return_inverse=True)
    every = np.concatenate([weights, prior_weight * chances])
    weight = np.bincount(place.ravel(), every, minlength=len(kinds))

    def parameters(point: Floats) -> tuple[float, float]:
        # Wide bounds: identical counts would send both to infinity.
        log_alpha, log_beta = np.clip(point, -10.0, 7.0)
        return _MIN_ALPHA + math.exp(log_alpha), math.exp(log_beta)

    def loss(point: Floats) -> float:
        alpha, beta = parameters(point)
        # log P(N = n) where the context ended, log P(N >= n) where it may go on.
        logs = betaln(alpha + kinds[:, 1], beta + kinds[:, 0] - 1) - betaln(alpha, beta)
        return float(-(weight * logs).sum() / weight.sum())

    first = np.log([max(prior[0] - _MIN_ALPHA, 1e-3), prior[1]])
    found = minimize(loss, first, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    return parameters(found.x)
