from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.training.betting import betting, betting_evidence, betting_sequence, ips_betting
from forethought.training.intervals import Interval, cluster_codes, empirical_bernstein, student_t
from forethought.training.ope import Codes, Floats

WEIGHT = 20.0
UNIT: dict[str, Any] = {"low": 0.0, "high": 1.0}


def _paired(seed: int, n_contexts: int, gain: float = 0.0) -> tuple[Floats, Codes]:
    """Paired DR terms where the rare action is drawn once in 20: mean ``gain``, mostly 0."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_contexts), np.minimum(rng.geometric(0.6, n_contexts), 4))
    easy = rng.beta(3, 2, n_contexts)[groups]
    taken = rng.random(len(groups)) < 1 / WEIGHT
    right = rng.random(len(groups)) < np.clip(easy + gain, 0, 1)
    return np.where(taken, WEIGHT * (right - 0.6), 0.0), groups


@pytest.mark.parametrize("make", [betting, betting_sequence], ids=["one look", "sequence"])
def test_bounds_hold_where_student_t_does_not(make: Callable[..., Interval]) -> None:
    """Ten contexts, each decided by a rare draw: a hard case for anything approximate."""
    held = approximate = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        terms = np.where(rng.random(10) < 0.1, 10.0, 0.0)  # mean 1
        held += make(terms, np.arange(10), low=0.0, high=10.0).high >= 1.0
        approximate += student_t(terms, np.arange(10)).high >= 1.0
    assert held >= 190
    assert approximate < 150  # claims 95%: a third of all logs have no draw at all


def test_false_alarms_are_within_the_level() -> None:
    level, low, high = 0.1, -WEIGHT * 0.6, WEIGHT * 0.4
    alarms = sum(
        betting_evidence(*_paired(seed, 150), low=low, high=high, level=level) > np.log(1 / level)
        for seed in range(300)
    )
    assert alarms <= 42  # P(more) is 1% at 30 expected


def test_with_many_contexts_the_bound_is_nearly_the_normal_one() -> None:
    """Stakes that do not look at the wealth reach 1.4 times its width at best."""
    ratios = []
    for seed in range(4):
        values = np.random.default_rng(seed).binomial(1, 0.6, size=4000).astype(float)
        found = betting(values, np.arange(4000), **UNIT, seed=seed)
        normal = student_t(values, np.arange(4000))
        ratios.append((found.high - found.low) / (normal.high - normal.low))
    assert 0.9 < np.mean(ratios) < 1.25


def test_betting_is_between_student_t_and_bernstein() -> None:
    terms, groups = _paired(1, 1500, gain=0.1)
    low, high = -WEIGHT * 0.6, WEIGHT * 0.4
    bet = betting(terms, groups, low=low, high=high, mean_range=(-1, 1))
    sequence = betting_sequence(terms, groups, low=low, high=high, mean_range=(-1, 1))
    normal = student_t(terms, groups)
    wide = empirical_bernstein(terms, groups, low=low, high=high)
    widths = [one.high - one.low for one in (normal, bet, sequence, wide)]
    assert widths == sorted(widths)
    assert widths[1] < 2.5 * widths[0]
    assert bet.n_rows == len(terms)
    assert bet.n_clusters == 1500


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_interval_has_the_estimate_within(seed: int) -> None:
    values = np.random.default_rng(seed).uniform(size=40)
    found = betting(values, np.arange(40), **UNIT, seed=seed)
    assert 0 <= found.low <= found.value <= found.high <= 1
    # In the same order: another one gives another interval.
    surer = betting(values, np.arange(40), **UNIT, confidence=0.99, seed=seed)
    assert surer.low <= found.low + 1e-9
    assert surer.high >= found.high - 1e-9


def test_the_interval_of_what_is_lacking_mirrors_the_interval() -> None:
    """Stakes follow what was won before, which differs by side: alike, not equal."""
    off = []
    for seed in range(60):
        values = np.random.default_rng(seed).uniform(size=40)
        found = betting(values, np.arange(40), **UNIT, seed=seed)
        mirrored = betting(1 - values, np.arange(40), **UNIT, seed=seed)
        off.append(mirrored.low - (1 - found.high))
    # Of a width of 0.2. No side has the wider bound.
    assert np.abs(off).max() < 0.03
    assert np.median(np.abs(off)) < 0.006
    assert abs(np.mean(off)) < 0.003


def test_a_sequence_holds_at_every_look_together() -> None:
    broken = 0
    for seed in range(30):
        values = np.random.default_rng(seed).binomial(1, 0.3, size=400).astype(float)
        broken += any(
            not (
                (b := betting_sequence(values[:n], np.arange(n), **UNIT, largest_loss=1.0)).low
                <= 0.3
                <= b.high
            )
            for n in (25, 50, 100, 200, 400)
        )
    assert broken <= 7  # 3 expected at most; P(more) is 1%


def test_a_sequence_does_not_depend_on_the_order() -> None:
    values = np.random.default_rng(0).uniform(size=50)
    one = betting_sequence(values, np.arange(50), **UNIT)
    other = betting_sequence(values[::-1], np.arange(50), **UNIT)
    assert one.low == pytest.approx(other.low)


def test_a_context_that_can_lose_more_than_was_said_is_refused() -> None:
    with pytest.raises(ValueError, match="a context can lose"):
        betting_sequence([0.5, 0.5, 0.5], [0, 0, 1], **UNIT, largest_loss=1.0)


def test_one_huge_context_does_not_decide_if_it_is_capped() -> None:
    rng = np.random.default_rng(1)
    values = rng.binomial(1, 0.7, size=900).astype(float)
    groups = np.r_[np.arange(400), np.full(500, 400)]
    free = betting(values, groups, **UNIT)
    capped = betting(values, groups, **UNIT, max_rows=2)
    assert capped.low > free.low + 0.1
    assert capped.low <= 0.7 <= capped.high
    with pytest.raises(ValueError, match="max_rows must be at least 1"):
        betting(values, groups, **UNIT, max_rows=0)


def test_ips_needs_no_bound_on_the_weights() -> None:
    rng = np.random.default_rng(2)
    n, truth = 4000, 0.3
    p = np.where(rng.random(n) < 0.01, 0.002, 0.5)  # a weight of 500 is possible
    taken = rng.random(n) < p
    w = np.where(taken, 1 / p, 0.0)
    reward = (rng.random(n) < truth).astype(float)
    found = ips_betting(reward, w, np.arange(n))
    assert found.low <= truth <= found.high
    assert found.high < 0.6
    bounded = ips_betting(reward, w, np.arange(n), largest_weight=500.0)
    assert bounded.low <= truth <= bounded.high
    scaled = ips_betting(2 * reward - 1, w, np.arange(n), reward_range=(-1.0, 1.0))
    assert scaled.low == pytest.approx(2 * found.low - 1)
    with pytest.raises(ValueError, match="rewards must be in"):
        ips_betting([2.0], [1.0], [0])


@pytest.mark.parametrize("n", [1, 2, 30])
@pytest.mark.parametrize("make", [betting, betting_sequence], ids=["one look", "sequence"])
def test_what_cannot_differ_is_known_for_certain(make: Callable[..., Interval], n: int) -> None:
    """So it is where two policies choose alike in every decision that judges them."""
    found = make(np.zeros(n), np.arange(n), low=0.0, high=0.0)
    assert (found.low, found.value, found.high) == (0.0, 0.0, 0.0)


def test_true_bounds_are_needed() -> None:
    with pytest.raises(ValueError, match="row 1: 2 is outside its bounds"):
        betting([0.5, 2.0], [0, 1], **UNIT)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=30))
def test_integers_are_numbered_as_any_groups_are(groups: list[int]) -> None:
    codes = cluster_codes(np.array(groups))
    assert sorted(set(codes.tolist())) == list(range(len(set(groups))))
    assert all(
        (codes[i] == codes[j]) == (groups[i] == groups[j])
        for i in range(len(groups))
        for j in range(len(groups))
    )
    sparse = cluster_codes(np.array(groups) * 1_000_000)
    assert len(set(sparse.tolist())) == len(set(groups))
