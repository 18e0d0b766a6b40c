from __future__ import annotations

import numpy as np
import pytest

from forethought.training.estimators import DR, ClippedIPS, DRos, Sample, SwitchDR
from forethought.training.selection import Tuned, estimated_mse, slope


@pytest.mark.parametrize(
    ("values", "widths", "expected"),
    [
        pytest.param([1.0, 1.1, 0.9], [0.5, 0.3, 0.1], 2, id="all agree: the narrowest"),
        pytest.param([1.0, 1.1, 5.0], [0.5, 0.3, 0.1], 1, id="the narrowest contradicts"),
        pytest.param([5.0, 1.1, 1.0], [0.1, 0.3, 0.5], 1, id="whatever their order"),
        pytest.param([1.0], [0.0], 0, id="one"),
        # 0 to 2, 1.5 to 3.5 and 0.9 to 1.1: the first and the last agree, all three do not.
        pytest.param([1.0, 2.5, 1.0], [0.5, 0.5, 0.05], 1, id="a point common to all before"),
    ],
)
def test_slope_takes_the_narrowest_that_agrees(
    values: list[float], widths: list[float], expected: int
) -> None:
    assert slope(values, widths) == expected


def test_the_least_estimated_error_is_bias_squared_plus_variance() -> None:
    assert estimated_mse([0.0, 0.3, 1.0], [1.0, 0.2, 0.01]) == 1


def _sample(weight_of_rare: float, model_error: float, seed: int = 0, n: int = 4000) -> Sample:
    """The target only takes action 1, which the log took with 1 / weight; it always earns 1."""
    rng = np.random.default_rng(seed)
    rare = rng.random(n) < 1 / weight_of_rare
    predicted = 1.0 - model_error
    return Sample(
        reward=np.where(rare, 1.0, 0.0) + rng.normal(size=n),
        weight=np.where(rare, weight_of_rare, 0.0),
        predicted=np.full(n, predicted),
        direct=np.full(n, predicted),
    )


@pytest.mark.parametrize("by", ["slope", "mse"])
@pytest.mark.parametrize("estimator", [SwitchDR(), DRos()], ids=["switch", "dros"])
def test_a_true_model_is_trusted_and_a_false_one_corrected(
    by: str, estimator: SwitchDR | DRos
) -> None:
    trusting = Tuned(estimator, by=by).fit(_sample(50.0, 0.0))  # type: ignore[arg-type]
    # The estimated bias is as uncertain as the weights: only SLOPE sees that it may be none.
    assert trusting.value_ == pytest.approx(1.0, abs=0.02 if by == "slope" else 0.25)
    false = _sample(50.0, 5.0)
    corrected = Tuned(estimator, by=by).fit(false)  # type: ignore[arg-type]
    assert corrected.value_ == pytest.approx(DR().estimate(false), abs=0.35)
    assert abs(corrected.value_ - 1.0) < 1.5  # the model alone is off by 5


def test_the_grid_ends_unbiased_and_is_kept() -> None:
    sample = _sample(20.0, 0.5)
    found = Tuned(ClippedIPS()).fit(sample)
    assert found.candidates_[-1].parameter == np.inf
    assert found.candidates_[-1].bias == 0.0
    assert [one.parameter for one in Tuned(ClippedIPS(), grid=[1.0]).fit(sample).candidates_] == [
        1.0
    ]
    assert found.best_estimator_.get_params()["clip"] in [c.parameter for c in found.candidates_]


def test_rows_of_one_context_make_its_errors_larger() -> None:
    sample = _sample(20.0, 0.5, n=400)
    apart = Tuned(DRos(), grid=[np.inf]).fit(sample)
    doubled = Sample.concatenate([sample, sample])
    groups = np.r_[np.arange(400), np.arange(400)]
    together = Tuned(DRos(), grid=[np.inf]).fit(doubled, groups)
    expected = apart.candidates_[0].standard_error
    assert together.candidates_[0].standard_error == pytest.approx(expected, rel=0.01)


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ValueError, match="by must be 'slope' or 'mse', not 'luck'"):
        Tuned(DRos(), by="luck").fit(_sample(2.0, 0.0))  # type: ignore[arg-type]
