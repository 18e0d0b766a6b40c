"""Intervals come from whole contexts, and row 0 is the data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from bench.resampling import Estimate, correlation, draws, estimate, means


def test_row_0_is_the_data_and_every_repeat_draws_as_many_contexts() -> None:
    drawn = draws(7, repeats=50)
    assert (drawn[0] == 1).all()
    assert (drawn.sum(axis=1) == 7).all()
    assert (drawn == draws(7, repeats=50)).all()


def test_a_mean_is_over_queries_not_over_contexts() -> None:
    context = np.array([0, 0, 0, 1])
    found = means(draws(2), context, np.array([1.0, 1.0, 1.0, 0.0]))
    assert found[0] == pytest.approx(0.75)
    # Two contexts drawn from two: both the first, one of each, or both the second.
    assert set(np.round(found[1:], 6)) == {0.0, 0.75, 1.0}


def test_queries_of_one_context_count_as_one_when_they_agree() -> None:
    rng = np.random.default_rng(1)
    by_context = rng.integers(0, 2, 100).astype(float)
    alone = estimate(means(draws(100), np.arange(100), by_context))
    fourfold = estimate(means(draws(100), np.repeat(np.arange(100), 4), np.repeat(by_context, 4)))
    assert fourfold == alone
    # The binomial's half width, 1.96 sqrt(p (1 - p) / n).
    p = by_context.mean()
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 100), rel=0.1)


def test_repeats_without_a_query_leave_no_trace() -> None:
    found = means(draws(2), np.array([0]), np.array([0.5]))
    assert np.isnan(found).any()
    assert estimate(found) == Estimate(0.5, 0.5, 0.5)


def test_spearman_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 60).astype(float), rng.normal(size=60)
    found = correlation(draws(60), np.arange(60), x, y)
    assert found[0] == pytest.approx(spearmanr(x, y)[0])


def test_what_does_not_vary_has_no_correlation() -> None:
    found = correlation(draws(3), np.arange(3), np.ones(3), np.arange(3.0))
    assert np.isnan(found).all()
    assert estimate(found).show() == "-"
