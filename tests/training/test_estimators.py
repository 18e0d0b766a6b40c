from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone

from forethought.training.estimators import (
    DR,
    IPS,
    SNDR,
    SNIPS,
    ClippedIPS,
    DirectMethod,
    DRos,
    OffPolicyEstimator,
    Sample,
    SwitchDR,
)

Floats = NDArray[np.float64]
SEEDS = st.integers(0, 10_000)
ALL = [DirectMethod(), IPS(), SNIPS(), DR(), SNDR(), ClippedIPS(), SwitchDR(), DRos()]


class Problem:
    """n decisions over k actions whose every reward is known."""

    def __init__(self, seed: int, n: int = 4, k: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.p = rng.dirichlet(np.ones(k), size=n) * 0.9 + 0.1 / k
        self.t = rng.dirichlet(np.full(k, 0.5), size=n)
        self.reward = rng.normal(size=(n, k))
        self.q = rng.normal(size=(n, k))

    @property
    def truth(self) -> float:
        return float((self.t * self.reward).sum(axis=1).mean())

    def sample(self, action: Floats | list[int]) -> Sample:
        a = np.asarray(action, int)
        return Sample.of(self.reward[np.arange(len(a)), a], a, self.p, self.t, self.q)

    def expected(self, estimator: OffPolicyEstimator) -> float:
        """Over every log that could have been drawn, by its probability."""
        n, k = self.p.shape
        total = 0.0
        for actions in product(range(k), repeat=n):
            chance = float(np.prod(self.p[np.arange(n), list(actions)]))
            total += chance * estimator.estimate(self.sample(list(actions)))
        return total


def _drawn(seed: int, n: int = 40) -> Sample:
    problem = Problem(seed, n=n)
    rng = np.random.default_rng(seed)
    return problem.sample([int(rng.choice(3, p=p)) for p in problem.p])


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_ips_and_dr_are_unbiased_over_all_logs(seed: int) -> None:
    problem = Problem(seed)
    assert problem.expected(IPS()) == pytest.approx(problem.truth)
    assert problem.expected(DR()) == pytest.approx(problem.truth)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_every_estimator_is_exact_where_the_model_is(seed: int) -> None:
    problem = Problem(seed)
    problem.q = problem.reward
    for one in (DirectMethod(), DR(), SNDR(), SwitchDR(tau=1.0), DRos(shrinkage=1.0)):
        assert one.estimate(problem.sample([0, 1, 2, 0])) == pytest.approx(problem.truth), one


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize(
    ("special", "general"),
    [
        pytest.param(SwitchDR(tau=np.inf), DR(), id="SWITCH with tau infinite is DR"),
        pytest.param(SwitchDR(tau=0.0), DirectMethod(), id="SWITCH with tau 0 is DM"),
        pytest.param(DRos(shrinkage=np.inf), DR(), id="DRos with lambda infinite is DR"),
        pytest.param(DRos(shrinkage=0.0), DirectMethod(), id="DRos with lambda 0 is DM"),
        pytest.param(ClippedIPS(clip=np.inf), IPS(), id="IPS without a clip"),
    ],
)
def test_special_cases_are_equal(
    seed: int, special: OffPolicyEstimator, general: OffPolicyEstimator
) -> None:
    sample = _drawn(seed)
    assert special.terms(sample) == pytest.approx(general.terms(sample))


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_dros_tends_to_its_limits(seed: int) -> None:
    sample = _drawn(seed)
    assert DRos(shrinkage=1e12).estimate(sample) == pytest.approx(DR().estimate(sample), abs=1e-6)
    near = DRos(shrinkage=1e-12).estimate(sample)
    assert near == pytest.approx(DirectMethod().estimate(sample), abs=1e-4)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_without_a_model_dr_is_ips_and_sndr_is_snips(seed: int) -> None:
    drawn = _drawn(seed)
    zero = np.zeros(len(drawn))
    bare = Sample(reward=drawn.reward, weight=drawn.weight, predicted=zero, direct=zero)
    assert DR().terms(bare) == pytest.approx(IPS().terms(bare))
    assert SNDR().terms(bare) == pytest.approx(SNIPS().terms(bare))


@given(SEEDS, st.floats(-5, 5))
@settings(max_examples=30, deadline=None)
def test_self_normalised_estimates_move_with_the_rewards(seed: int, shift: float) -> None:
    drawn = _drawn(seed)
    moved = Sample(
        reward=drawn.reward + shift,
        weight=drawn.weight,
        predicted=drawn.predicted,
        direct=drawn.direct,
    )
    for one in (SNIPS(), SNDR()):
        assert one.estimate(moved) == pytest.approx(one.estimate(drawn) + shift)


@pytest.mark.parametrize("one", ALL, ids=lambda one: type(one).__name__)
def test_the_mean_of_the_terms_is_the_estimate(one: OffPolicyEstimator) -> None:
    sample = _drawn(3)
    fitted = cast("OffPolicyEstimator", clone(one)).fit(sample)
    assert fitted.terms_.shape == (len(sample),)
    assert fitted.value_ == pytest.approx(float(fitted.terms_.mean()))
    assert fitted.value_ == one.estimate(sample)


def test_snips_by_hand() -> None:
    sample = Sample.of([1.0, 0.0], [0, 1], [0.5, 0.25], [[0.5, 0.5], [0.5, 0.5]])
    assert sample.weight.tolist() == [1.0, 2.0]
    assert SNIPS().estimate(sample) == pytest.approx(1 / 3)
    assert IPS().estimate(sample) == pytest.approx(0.5)


def test_parts_of_a_log_make_the_whole() -> None:
    problem = Problem(5, n=10)
    action = np.arange(10) % 3
    rewards = problem.reward[np.arange(10), action]
    parts = [
        Sample.of(rewards[s], action[s], problem.p[s], problem.t[s], problem.q[s])
        for s in (slice(0, 4), slice(4, 10))
    ]
    for one in ALL:
        whole = one.estimate(problem.sample(action.tolist()))
        assert one.estimate(Sample.concatenate(parts)) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda: Sample.of([1.0], [0], [0.0], [[1.0, 0.0]]), r"row 0.*is 0, not in \(0, 1\]",
            id="propensity 0",
        ),
        pytest.param(
            lambda: Sample.of([1.0], [2], [0.5], [[1.0, 0.0]]), r"actions must be in 0\.\.1",
            id="unknown action",
        ),
        pytest.param(
            lambda: Sample.of([np.nan], [0], [0.5], [[1.0, 0.0]]), "NaN in row 0", id="NaN"
        ),
        pytest.param(
            lambda: Sample.of([1.0], [0], [0.5], [[1.0, 0.0]], [[0.0]]), "predicted has shape",
            id="predictions",
        ),
        pytest.param(
            lambda: ClippedIPS(clip=0).estimate(_drawn(0)), "clip must be above 0", id="clip"
        ),
        pytest.param(
            lambda: SwitchDR(tau=-1).estimate(_drawn(0)), "tau must be at least 0", id="tau"
        ),
        pytest.param(
            lambda: SNIPS().estimate(Sample.of([1.0], [0], [0.5], [[0.0, 1.0]])),
            "no logged action is one of the policy's",
            id="no weight",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
