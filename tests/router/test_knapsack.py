from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forethought.router.knapsack import Allocation, Floats, allocate

money = st.one_of(st.just(0.0), st.floats(0.001, 5))
worths = st.one_of(st.just(0.0), st.floats(-1, 5))


@st.composite
def instances(draw: st.DrawFn, *, contexts: int = 5) -> tuple[Floats, Floats, float]:
    n, m = draw(st.integers(0, contexts)), draw(st.integers(1, 3))

    def matrix(values: st.SearchStrategy[float]) -> Floats:
        row = st.lists(values, min_size=m, max_size=m)
        return np.array(draw(st.lists(row, min_size=n, max_size=n)), float).reshape(n, m)

    return matrix(money), matrix(worths), draw(st.floats(0, 10))


def best_of_all(costs: Floats, gains: Floats, budget: float) -> float:
    n, m = costs.shape
    found = 0.0
    for choice in itertools.product(range(-1, m), repeat=n):
        taken = [(i, j) for i, j in enumerate(choice) if j >= 0]
        if math.fsum(costs[i, j] for i, j in taken) <= budget:
            found = max(found, math.fsum(gains[i, j] for i, j in taken))
    return found


def recount(found: Allocation, costs: Floats, gains: Floats) -> tuple[float, float]:
    taken = [(i, j) for i, j in enumerate(found.choice.tolist()) if j >= 0]
    return math.fsum(costs[i, j] for i, j in taken), math.fsum(gains[i, j] for i, j in taken)


@settings(deadline=None, max_examples=200)
@given(instance=instances())
# Spends the budget to the last cent, which a sum of differences misses.
@example((np.array([[0, 0, 4.0], [0, 0, 0.2067737]]), np.array([[0, 0, 2.0], [0, 0, 1.0]]), 4.0))
def test_the_best_choice_lies_between_the_gain_and_the_bound(
    instance: tuple[Floats, Floats, float],
) -> None:
    costs, gains, budget = instance
    found = allocate(costs, gains, budget)
    spent, gain = recount(found, costs, gains)
    best = best_of_all(costs, gains, budget)
    assert spent == found.spent <= budget
    assert gain == pytest.approx(found.gain)
    assert found.gain <= best * (1 + 1e-9) <= found.bound * (1 + 1e-9) + 1e-9
    # So few contexts are all in the core, which tries every level.
    assert found.gain == pytest.approx(best, rel=2e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1), n=st.integers(100, 400))
def test_many_contexts_stay_within_the_budget_and_near_the_bound(
    seed: int, share: float, n: int
) -> None:
    rng = np.random.default_rng(seed)
    costs = np.sort(rng.lognormal(0, 1, (n, 3)), axis=1)
    gains = rng.lognormal(0, 1, (n, 1)) * (1 - np.exp(-costs))
    budget = share * float(costs.max(axis=1).sum())
    found = allocate(costs, gains, budget)
    assert found.spent == recount(found, costs, gains)[0] <= budget
    assert found.gain <= found.bound * (1 + 1e-9)
    # Less than one step is left over, whatever the bound: Kellerer et al., section 11.2.
    assert found.bound - found.gain <= gains.max() * (1 + 1e-9)


def test_the_same_input_gives_the_same_choice() -> None:
    rng = np.random.default_rng(0)
    costs, gains = rng.integers(1, 4, (500, 4)), rng.integers(1, 4, (500, 4))
    first, second = (allocate(costs, gains, 200) for _ in range(2))
    assert first.choice.tolist() == second.choice.tolist()


@pytest.mark.parametrize(
    ("costs", "gains", "budget", "choice"),
    [
        pytest.param([[1, 2]], [[1, 3]], 5, [1], id="all that pays where money is no matter"),
        pytest.param([[1, 2]], [[3, 1]], 5, [0], id="not the dearer level that gains less"),
        pytest.param([[1], [1]], [[1], [2]], 1, [-1, 0], id="the better context"),
        pytest.param([[9], [1]], [[99], [1]], 5, [-1, 0], id="what the budget cannot pay is out"),
        pytest.param([[1], [2]], [[1], [0]], 5, [0, -1], id="what gains nothing is not bought"),
        pytest.param([[0, 0]], [[1, 2]], 0, [1], id="what is free needs no budget"),
        pytest.param([[1, np.inf]], [[1, 9]], 99, [0], id="a level that is lacking"),
        pytest.param([[2], [2], [3]], [[2], [2], [3.5]], 4, [0, 0, -1], id="against the ratio"),
        pytest.param([[0.1], [0.2]], [[1], [1]], 0.1 + 0.2, [0, 0], id="the budget to the cent"),
    ],
)
def test_a_choice(costs: Any, gains: Any, budget: float, choice: list[int]) -> None:
    assert allocate(costs, gains, budget).choice.tolist() == choice


def test_the_price_is_what_a_dollar_more_brings() -> None:
    costs, gains = np.ones((10, 1)), np.arange(10.0)[:, None]
    found = allocate(costs, gains, 3)
    assert (found.gain, found.price) == (9 + 8 + 7, 6)
    assert allocate(costs, gains, 4).gain - found.gain == found.price
    assert allocate(costs, gains, 100).price == 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_choose_from_costs_nothing(shape: tuple[int, int]) -> None:
    found = allocate(np.zeros(shape), np.zeros(shape), 1)
    assert (found.choice.tolist(), found.spent, found.gap) == ([-1] * shape[0], 0, 0)


@pytest.mark.parametrize(
    ("costs", "gains", "budget", "named"),
    [
        pytest.param([[1]], [[1, 2]], 1, "shape", id="two shapes"),
        pytest.param([1], [1], 1, "shape", id="no matrix"),
        pytest.param([[-1]], [[1]], 1, "costs", id="a negative cost"),
        pytest.param([[math.nan]], [[1]], 1, "costs", id="no cost"),
        pytest.param([[1]], [[math.inf]], 1, "gains", id="an endless gain"),
        pytest.param([[1]], [[math.nan]], 1, "gains", id="no gain"),
        pytest.param([[1]], [[1]], -1, "budget", id="a negative budget"),
        pytest.param([[1]], [[1]], math.nan, "budget", id="no budget"),
    ],
)
def test_bad_input_is_named(costs: Any, gains: Any, budget: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        allocate(costs, gains, budget)
