"""Whether a log can tell what a policy would earn, before anyone believes the estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from forethought.training.ope import (
    Floats,
    check_support,
    effective_sample_size,
    importance_weights,
    largest_possible_weight,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PropensityCalibration:
    """Whether actions were taken as often as their logged propensities say.

    Attributes:
        expected: ``sum_i p_i(a)``, shape (k,).
        observed: How often each action was taken, shape (k,).
        z: ``(observed - expected) / sqrt(sum_i p_i(a)(1 - p_i(a)))``, shape (k,); 0 where an
            action was always or never possible, infinite where it then happened otherwise.
        error: Mean over bins of propensity of the absolute difference between the share taken
            and the mean propensity, weighted by decisions times actions.
    """

    expected: Floats
    observed: Floats
    z: Floats
    error: float

    @property
    def worst(self) -> int:
        """The action whose propensities are the least true."""
        return int(np.argmax(np.abs(self.z)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostics:
    """What a log says of its own worth for one target policy.

    Attributes:
        effective_sample_size: Kish's, of the weights that were drawn.
        largest_weight: Of all that could have been drawn.
        mean_weight: 1 in expectation.
        calibration: Of the logged propensities.
    """

    effective_sample_size: float
    largest_weight: float
    mean_weight: float
    calibration: PropensityCalibration


def diagnose(
    action: ArrayLike,
    propensities: ArrayLike,
    target: ArrayLike,
    *,
    names: Sequence[str] | None = None,
) -> Diagnostics:
    """Check the support, then measure.

    Args:
        action: Index of the action taken, shape (n,).
        propensities: Logged probability of every action, shape (n, k).
        target: The target policy's, shape (n, k).
        names: What the k actions are called in an error.

    Raises:
        SupportError: The target may do what the log gave no chance; it names each such action.
    """
    check_support(propensities, target, names=names)
    w = importance_weights(action, propensities, target)
    return Diagnostics(
        effective_sample_size=effective_sample_size(w),
        largest_weight=largest_possible_weight(propensities, target),
        mean_weight=float(w.mean()),
        calibration=propensity_calibration(action, propensities),
    )


def propensity_calibration(
    action: ArrayLike, propensities: ArrayLike, *, n_bins: int = 20
) -> PropensityCalibration:
    """Compare how often each action was taken with what its propensities promise.

    Args:
        action: Index of the action taken, shape (n,).
        propensities: Logged probability of every action, shape (n, k).
        n_bins: Of equal width, from 0 to 1.
    """
    p, a = np.asarray(propensities, np.float64), np.asarray(action, np.intp)
    k = p.shape[1]
    expected = p.sum(axis=0)
    observed = np.bincount(a, minlength=k).astype(np.float64)
    spread = np.sqrt(np.maximum(expected - np.einsum("ij,ij->j", p, p), 0.0))
    off = observed - expected
    # Summing n rounded probabilities is exact to about n times 1e-16.
    same = np.abs(off) <= 1e-9 * max(1, len(p))
    z = np.where(same, 0.0, np.divide(off, spread, out=np.full(k, np.inf), where=spread > 0))
    sums, taken = np.zeros(n_bins), np.zeros(n_bins)
    for one in range(k):
        bins = np.minimum((p[:, one] * n_bins).astype(np.intp), n_bins - 1)
        sums += np.bincount(bins, p[:, one], minlength=n_bins)
        taken += np.bincount(bins, a == one, minlength=n_bins)
    return PropensityCalibration(
        expected=expected,
        observed=observed,
        z=z,
        error=float(np.abs(taken - sums).sum() / p.size) if p.size else 0.0,
    )
