from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.models.calibration import Floats
from forethought.models.concentration import bounds, covered, fit_concentration

Drawn = tuple[Floats, Floats, list[int]]


def drawn(concentration: float, *, contexts: int = 1500, queries: int = 4, seed: int = 0) -> Drawn:
    """Means, answers and contexts of queries whose contexts are drawn around the mean."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(0.2, 0.8, contexts)
    own = rng.beta(concentration * mean, concentration * (1 - mean))
    right = (rng.random((contexts, queries)) < own[:, None]).astype(float)
    return np.repeat(mean, queries), right.ravel(), np.repeat(np.arange(contexts), queries).tolist()


@pytest.mark.parametrize("true", [2.0, 10.0])
def test_the_concentration_that_contexts_were_drawn_with_is_found(true: float) -> None:
    assert fit_concentration(*drawn(true)) == pytest.approx(true, rel=0.35)


def test_contexts_that_are_alike_have_the_largest() -> None:
    assert fit_concentration(*drawn(1e6)) > 100


def test_nine_in_ten_contexts_are_covered_where_the_distribution_is_true() -> None:
    mean, right, groups = drawn(5.0, seed=1)
    counts = np.bincount(groups, right).astype(np.intp)
    asked = np.bincount(groups).astype(np.intp)
    centre = mean[::4]
    assert covered(centre, 5.0, counts, asked).mean() == pytest.approx(0.9, abs=0.02)
    assert covered(centre, 1e3, counts, asked).mean() < 0.85  # too sure
    assert covered(centre, 0.5, counts, asked).mean() > 0.95  # not sure enough


@given(st.floats(0.0, 1.0), st.floats(0.3, 1000.0))
def test_bounds_hold_the_mean(mean: float, concentration: float) -> None:
    low, high = bounds(np.array([mean]), concentration)
    assert 0.0 <= low[0] <= mean <= high[0] <= 1.0


def test_bounds_hold_nine_in_ten_contexts() -> None:
    own = np.random.default_rng(0).beta(3.0, 7.0, 20_000)
    low, high = bounds(np.array([0.3]), 10.0)
    assert np.mean((own >= low) & (own <= high)) == pytest.approx(0.9, abs=0.01)
