r"""Choose an estimator's parameter from the log itself.

``slope`` takes the least varying candidate that does not contradict those that vary more (and
are less biased); ``estimated_mse`` the one with the least squared bias plus variance, both
estimated. Both are heuristics for one log: intervals around a tuned estimate are approximate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from forethought.training.estimators import OffPolicyEstimator, ReweightedDR, Sample
from forethought.training.intervals import Groups, cluster_codes, standard_error
from forethought.training.ope import Floats

Rule = Literal["slope", "mse"]

_DEVIATIONS: Final = 1.0
"""Standard errors in SLOPE's CNF, which it doubles: together an interval of about 95%."""


def slope(values: ArrayLike, widths: ArrayLike) -> int:
    r"""The index that Lepski's principle chooses among estimates of one number.

    Ordered from the widest to the narrowest, the last i for which the intervals
    ``value_j +- 2 width_j``, j = 1..i, have a point in common. If bias grows as width falls, its
    error is within a constant of the best candidate's.

    Args:
        values: The candidates' estimates, shape (m,).
        widths: Half-widths of their confidence intervals, shape (m,).

    Source: Su, Srinath and Krishnamurthy 2020, section 4 ("SLOPE").
    """
    v, half = np.asarray(values, np.float64), np.asarray(widths, np.float64)
    order = np.argsort(-half, kind="stable")
    low = np.maximum.accumulate((v - 2 * half)[order])
    high = np.minimum.accumulate((v + 2 * half)[order])
    agreeing = low <= high
    last = len(order) - 1 if agreeing.all() else int(np.argmin(agreeing)) - 1
    return int(order[last])


def estimated_mse(bias: ArrayLike, variance: ArrayLike) -> int:
    r"""The index of the least ``bias^2 + variance``; both of shape (m,).

    Source: Su, Dimakopoulou, Krishnamurthy and Dudik 2020, section 5 (direct bias estimate).
    """
    return int(np.argmin(np.asarray(bias) ** 2 + np.asarray(variance)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One value of the parameter, its estimate, standard error and estimated bias."""

    parameter: float
    value: float
    standard_error: float
    bias: float


class Tuned(OffPolicyEstimator):
    """An estimator whose parameter is chosen from the sample.

    Args:
        estimator: ``ClippedIPS()``, ``SwitchDR()`` or ``DRos()``; its own parameter is ignored.
        by: ``slope``, or ``mse`` (estimated).
        grid: Values to try; None for sixteen between "hardly trusts a weight" and unbiased.

    Attributes:
        best_estimator_: The estimator with the chosen parameter, fitted.
        candidates_: What was tried, in the order of the grid.
        value_, terms_: As of ``best_estimator_``.
    """

    best_estimator_: ReweightedDR
    candidates_: list[Candidate]

    def __init__(
        self,
        estimator: ReweightedDR,
        *,
        by: Rule = "slope",
        grid: Sequence[float] | None = None,
    ) -> None:
        self.estimator = estimator
        self.by = by
        self.grid = grid

    def fit(self, sample: Sample, groups: Groups | None = None) -> Self:
        """Choose and estimate. ``groups``: the context of each row, shape (n,)."""
        if self.by not in {"slope", "mse"}:
            message = f"by must be 'slope' or 'mse', not {self.by!r}"
            raise ValueError(message)
        codes = None if groups is None else cluster_codes(groups)
        grid = self.estimator.grid(sample) if self.grid is None else list(self.grid)
        self.candidates_ = []
        for value in grid:
            one = self._with(value)
            terms = one.terms(sample)
            self.candidates_.append(
                Candidate(
                    parameter=value,
                    value=float(terms.mean()),
                    standard_error=standard_error(terms, codes),
                    bias=float(one.bias_terms(sample).mean()),
                )
            )
        errors = np.array([one.standard_error for one in self.candidates_])
        best = (
            slope([one.value for one in self.candidates_], _DEVIATIONS * errors)
            if self.by == "slope"
            else estimated_mse([one.bias for one in self.candidates_], errors**2)
        )
        self.best_estimator_ = self._with(grid[best]).fit(sample)
        self.terms_, self.value_ = self.best_estimator_.terms_, self.best_estimator_.value_
        return self

    def terms(self, sample: Sample) -> Floats:
        return self.fit(sample).terms_

    def _with(self, value: float) -> ReweightedDR:
        found = cast("ReweightedDR", clone(self.estimator))
        found.set_params(**{self.estimator.parameter: value})
        return found
