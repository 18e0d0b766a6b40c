from __future__ import annotations

import numpy as np
import pytest

from forethought.training.diagnostics import diagnose, propensity_calibration
from forethought.training.errors import SupportError


def _drawn(p: list[float], n: int = 4000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(p), size=n, p=p)


def test_true_propensities_are_calibrated() -> None:
    p = np.tile([0.7, 0.25, 0.05], (4000, 1))
    found = propensity_calibration(_drawn([0.7, 0.25, 0.05]), p)
    assert np.abs(found.z).max() < 3.5
    assert found.error < 0.02
    assert found.expected == pytest.approx([2800, 1000, 200])


def test_false_propensities_are_found_out() -> None:
    p = np.tile([0.7, 0.05, 0.25], (4000, 1))
    found = propensity_calibration(_drawn([0.7, 0.25, 0.05]), p)
    assert found.worst in {1, 2}
    assert np.abs(found.z).max() > 20
    assert found.error == pytest.approx(2 * 0.2 / 3, abs=0.02)


def test_certain_actions_are_no_surprise_and_impossible_ones_are() -> None:
    sure = propensity_calibration([0, 0], [[1.0, 0.0], [1.0, 0.0]])
    assert sure.z.tolist() == [0.0, 0.0]
    assert sure.error == 0.0
    assert np.isinf(propensity_calibration([1], [[1.0, 0.0]]).z[1])


def test_a_log_is_judged_for_one_policy() -> None:
    p = np.tile([0.5, 0.5], (1000, 1))
    found = diagnose(_drawn([0.5, 0.5], n=1000), p, np.tile([0.0, 1.0], (1000, 1)))
    assert found.largest_weight == 2.0
    assert found.mean_weight == pytest.approx(1.0, abs=0.1)
    assert found.effective_sample_size == pytest.approx(500, abs=60)
    with pytest.raises(SupportError, match="it gave no chance to high"):
        diagnose([0], [[1.0, 0.0]], [[0.5, 0.5]], names=["low", "high"])
