"""How well predictions sort outcomes, and meet them: rank correlation, AUROC, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.recordings import Floats, Ints
from bench.resampling import Estimate, correlation, draws, estimate
from forethought.models.calibration import expected_calibration_error, group_codes

REPEATS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How well predictions sort and meet what happened; intervals by context.

    ``calibration_error`` is NaN for a rule that gives no probability.
    """

    n: int
    contexts: int
    spearman: Estimate
    auroc: Estimate
    calibration_error: float

    def cells(self) -> list[str]:
        error = self.calibration_error
        return [
            f"{self.n} on {self.contexts}", self.spearman.show(2, sign=True), self.auroc.show(2),
            "-" if np.isnan(error) else f"{error:.3f}",
        ]  # fmt: skip


def judge(predicted: Floats, actual: Floats, groups: Sequence[str]) -> Judgement:
    """Compare predictions with outcomes, both of shape (n,); a group is a context."""
    codes = group_codes(groups).astype(np.int64)
    n_groups = int(codes.max()) + 1
    drawn = draws(n_groups, repeats=REPEATS)
    probable = bool(np.all((predicted >= 0) & (predicted <= 1)))
    return Judgement(
        n=len(actual),
        contexts=n_groups,
        spearman=estimate(correlation(drawn, codes, predicted, actual)),
        auroc=estimate(aurocs(drawn, codes, predicted, actual)),
        calibration_error=(
            expected_calibration_error(predicted, actual) if probable else float("nan")
        ),
    )


def aurocs(drawn: Floats, codes: Ints, predicted: Floats, actual: Floats) -> Floats:
    """The area under the ROC curve in every row of ``drawn``; right is 0.5 or more.

    The share of pairs of a right and a wrong answer that the prediction sorts, ties by half.
    """
    right, wrong = np.flatnonzero(actual >= 0.5), np.flatnonzero(actual < 0.5)
    sorts = np.sign(predicted[right][:, None] - predicted[wrong][None, :]) / 2 + 0.5
    of_right, of_wrong = drawn[:, codes[right]], drawn[:, codes[wrong]]
    pairs = of_right.sum(axis=1) * of_wrong.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            np.einsum("ri,ij,rj->r", of_right, sorts, of_wrong, optimize=True) / pairs
        )
