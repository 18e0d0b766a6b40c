"""The scores of ``bench.predictor``, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from bench.judging import aurocs, judge
from bench.predictor import nearest
from bench.resampling import draws


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), n=st.integers(4, 40))
def test_the_area_under_the_curve_is_scikit_learns_in_every_row(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    codes = np.sort(generator.integers(0, 4, n))
    codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    predicted = generator.integers(0, 5, n) / 4
    actual = np.append([0.0, 1.0], generator.integers(0, 2, n - 2)).astype(float)
    drawn = draws(int(codes.max()) + 1, repeats=5)
    found = aurocs(drawn, codes, predicted, actual)
    for row, area in zip(drawn, found, strict=True):
        weight = row[codes]
        if len(set(actual[weight > 0])) == 2:
            assert area == pytest.approx(roc_auc_score(actual, predicted, sample_weight=weight))
        else:
            assert np.isnan(area)


def test_a_perfect_and_an_opposite_prediction() -> None:
    actual = np.array([0.0, 0.0, 1.0, 1.0])
    found = judge(actual, actual, ["a", "b", "c", "d"])
    assert (found.spearman.value, found.auroc.value, found.calibration_error) == (1, 1, 0)
    opposite = judge(1 - actual, actual, ["a", "b", "c", "d"])
    assert (opposite.spearman.value, opposite.auroc.value) == (-1, 0)
    assert opposite.calibration_error == 1


def test_a_rule_that_gives_no_probability_has_no_calibration() -> None:
    found = judge(np.array([-1.0, 2.0]), np.array([0.0, 1.0]), ["a", "b"])
    assert np.isnan(found.calibration_error)


def test_the_neighbours_are_taken_from_what_was_seen_only() -> None:
    vectors = np.array([[1.0, 0.0]] * 20 + [[0.0, 1.0]] * 20)
    y = np.array([1.0] * 20 + [0.0] * 20)
    seen = np.arange(40) % 2 == 0
    found = nearest(vectors, seen, ~seen, y)
    # Of 15 neighbours ten are alike; the other five are of the other kind.
    assert found.tolist() == pytest.approx([2 / 3] * 10 + [1 / 3] * 10)
