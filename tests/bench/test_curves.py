"""The frontier: by hand, and against brute force over mixtures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import curves
from bench.recordings import Floats

COST = np.array([4.0, 100.0, 200.0])
QUALITY = np.array([0.2, 0.3, 0.6])

POINTS = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 20)), min_size=1, max_size=6).map(
    lambda pairs: (np.array([p[0] for p in pairs], float), np.array([p[1] / 20 for p in pairs]))
)


def at(value: float) -> Floats:
    return np.array(value)


def test_a_point_under_the_line_of_two_others_is_no_corner() -> None:
    # At 100 tokens, mixing the other two gives 0.2 + 0.4 * 96/196 = 0.396 > 0.3.
    x, y = curves.frontier(COST, QUALITY)
    assert x.tolist() == [4.0, 200.0]
    assert y.tolist() == [0.2, 0.6]


def test_a_dearer_point_that_is_no_better_is_no_corner() -> None:
    x, _ = curves.frontier(np.array([1.0, 2.0, 1.0]), np.array([0.5, 0.5, 0.4]))
    assert x.tolist() == [1.0]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(0.1, 4.0, id="less than the cheapest gives"),
        pytest.param(0.2, 4.0, id="what the cheapest gives"),
        pytest.param(0.4, 102.0, id="half of each of two"),
        pytest.param(0.6, 200.0, id="the best"),
        pytest.param(0.7, np.inf, id="out of reach"),
    ],
)
def test_the_cheapest_mixture_for_an_accuracy(target: float, expected: float) -> None:
    assert curves.cheapest(COST, QUALITY, at(target)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        pytest.param(3.0, np.nan, id="too little for any"),
        pytest.param(102.0, 0.4, id="half of each of two"),
        pytest.param(900.0, 0.6, id="more than can be spent"),
    ],
)
def test_the_best_mixture_for_a_budget(budget: float, expected: float) -> None:
    found = curves.best_within(COST, QUALITY, at(budget))
    assert found == pytest.approx(expected, nan_ok=True)


def test_the_ratio_at_equal_accuracy_and_beyond_the_best() -> None:
    ratio, beyond = curves.equal_quality_ratio(COST, QUALITY, at(4.0), at(0.4))
    assert ratio == pytest.approx(102 / 4)
    assert not beyond
    ratio, beyond = curves.equal_quality_ratio(COST, QUALITY, at(4.0), at(0.9))
    assert ratio == pytest.approx(200 / 4)
    assert beyond


def test_the_largest_ratio_is_found_between_the_ends() -> None:
    # The other side reaches 0.5 for 5 tokens and needs 100 for 0.6; the largest is at 0.5.
    largest = curves.largest_ratio(COST, QUALITY, np.array([5.0, 100.0]), np.array([0.5, 0.6]))
    assert largest == pytest.approx((4 + 196 * 0.75) / 5)


def test_the_area_of_one_strategy_is_its_accuracy() -> None:
    assert curves.mean_height(
        np.array([7.0]), np.array([0.35]), at(7.0), at(70.0)
    ) == pytest.approx(0.35)


def test_a_bootstrap_is_computed_row_by_row() -> None:
    cost = np.stack([COST, 2 * COST])
    quality = np.stack([QUALITY, QUALITY])
    found = curves.cheapest(cost, quality, np.array([0.4, 0.6]))
    assert found == pytest.approx([102.0, 400.0])


@given(POINTS)
def test_the_frontier_is_rising_concave_and_above_every_point(
    points: tuple[Floats, Floats],
) -> None:
    cost, quality = points
    x, y = curves.frontier(cost, quality)
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) > 0).all()
    slopes = np.diff(y) / np.diff(x)
    assert (np.diff(slopes) < 1e-12).all()
    assert (np.interp(cost, x, y) >= quality - 1e-12).all()
    corners = set(zip(x.tolist(), y.tolist(), strict=True))
    assert corners <= set(zip(cost.tolist(), quality.tolist(), strict=True))


@given(POINTS, st.floats(0, 1))
def test_cheapest_and_best_within_read_off_the_frontier(
    points: tuple[Floats, Floats], place: float
) -> None:
    cost, quality = points
    x, y = curves.frontier(cost, quality)
    budget = x[0] + place * (x[-1] - x[0])
    reached = np.interp(budget, x, y)
    assert curves.best_within(cost, quality, at(budget)) == pytest.approx(reached)
    target = y[0] + place * (y[-1] - y[0])
    assert curves.cheapest(cost, quality, at(target)) == pytest.approx(np.interp(target, y, x))


@given(POINTS, st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_no_mixture_beats_the_frontier(points: tuple[Floats, Floats], weights: list[float]) -> None:
    cost, quality = points
    share = np.array(weights[: len(cost)]) + 1e-9
    share /= share.sum()
    best = curves.best_within(cost, quality, at(float(share @ cost) + 1e-9))
    assert best >= share @ quality - 1e-9
