from __future__ import annotations

import numpy as np
import pytest

from forethought.training.intervals import cluster_bootstrap, empirical_bernstein, student_t


def _clusters(
    rng: np.random.Generator, n: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], list[int]]:
    """Values in [0, 1] with mean 0.5, alike within clusters of 1 to 5."""
    sizes = rng.integers(1, 6, size=n)
    groups = np.repeat(np.arange(n), sizes)
    own = rng.uniform(0, 0.8, size=n)[groups]
    return own + rng.uniform(0, 0.2, size=len(groups)), groups.tolist()


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    boot = exact = 0
    for seed in range(150):
        values, groups = _clusters(rng, 60)
        found = cluster_bootstrap(values, groups, n_resamples=300, seed=seed)
        boot += found.low <= 0.5 <= found.high
        bound = empirical_bernstein(values, groups, low=0.0, high=1.0)
        exact += bound.low <= 0.5 <= bound.high
    assert 0.83 <= boot / 150 <= 0.96
    assert exact == 150


def test_many_contexts_are_drawn_in_groups_that_vary_as_much() -> None:
    values = np.random.default_rng(3).exponential(size=50_000)
    found = cluster_bootstrap(values, np.arange(50_000), n_resamples=300)
    expected = student_t(values, np.arange(50_000))
    width = expected.high - expected.low
    assert found.high - found.low == pytest.approx(width, rel=0.2)
    assert found.value == pytest.approx(expected.value)


def test_student_t_is_robust_to_clusters() -> None:
    own = np.random.default_rng(4).normal(size=30)
    once = student_t(own, np.arange(30))
    again = student_t(np.repeat(own, 4), np.repeat(np.arange(30), 4))
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    assert student_t([1.0, 2.0], ["a", "a"]).high == np.inf


def test_rows_of_one_context_count_for_less_than_rows_of_many() -> None:
    rng = np.random.default_rng(1)
    own = rng.uniform(size=40)
    values = np.repeat(own, 5)
    together = cluster_bootstrap(values, np.repeat(np.arange(40), 5).tolist())
    apart = cluster_bootstrap(values, list(range(200)))
    assert together.high - together.low > 1.8 * (apart.high - apart.low)


def test_bernstein_needs_true_bounds() -> None:
    with pytest.raises(ValueError, match="row 1: 2 is outside its bounds"):
        empirical_bernstein([0.5, 2.0], [0, 1], low=0.0, high=1.0)


def test_bernstein_knows_nothing_from_one_context() -> None:
    found = empirical_bernstein([0.5, 0.7], ["a", "a"], low=0.0, high=1.0)
    assert (found.low, found.high) == (0.0, 1.0)


def test_bernstein_narrows_with_more_contexts() -> None:
    rng = np.random.default_rng(2)
    widths = []
    for n in (50, 500, 5000):
        found = empirical_bernstein(rng.uniform(size=n), list(range(n)), low=0.0, high=1.0)
        widths.append(found.high - found.low)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.05


@pytest.mark.parametrize(
    ("value", "low", "expected"),
    [
        pytest.param(1.0, -1.0, 400, id="twice too wide takes four times as many"),
        pytest.param(1.0, 0.5, 25, id="already enough"),
        pytest.param(0.0, -1.0, None, id="nothing to gain"),
        pytest.param(-1.0, -2.0, None, id="a loss"),
    ],
)
def test_how_many_rows_it_would_take(value: float, low: float, expected: int | None) -> None:
    found = cluster_bootstrap([0.0] * 100, list(range(100)), n_resamples=2)
    from dataclasses import replace

    assert replace(found, value=value, low=low).rows_until_above(0.0) == expected


def test_snips_gets_an_interval_by_its_denominator() -> None:
    found = cluster_bootstrap([2.0, 0.0, 4.0], ["a", "b", "c"], denominator=[1.0, 1.0, 2.0])
    assert found.value == pytest.approx(1.5)
    assert 0.0 <= found.low <= 1.5 <= found.high <= 2.0
