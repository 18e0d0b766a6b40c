from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from forethought.training import ope
from forethought.training.errors import SupportError

Floats = NDArray[np.float64]
SEEDS = st.integers(0, 10_000)


def _table(seed: int, n: int = 6, k: int = 3) -> tuple[Floats, Floats, Floats, Floats]:
    """Full feedback: logged and target probabilities, true and predicted rewards, all (n, k)."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), size=n) * 0.9 + 0.1 / k
    t = rng.dirichlet(np.full(k, 0.3), size=n)
    return p, t, rng.normal(size=(n, k)), rng.normal(size=(n, k))


def _expected(estimate_for: Floats, p: Floats) -> float:
    """The mean of an estimator's terms over every draw of the log: (n, k) terms, weighted by p."""
    return float((p * estimate_for).sum(axis=1).mean())


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_ips_and_dr_are_unbiased_over_all_logs_whatever_was_predicted(seed: int) -> None:
    p, t, reward, predicted = _table(seed)
    truth = float((t * reward).sum(axis=1).mean())
    ips, dr = np.empty_like(p), np.empty_like(p)
    for action in range(p.shape[1]):
        taken = np.full(len(p), action)
        weights = ope.importance_weights(taken, p, t)
        ips[:, action] = ope.ips_terms(reward[:, action], weights)
        dr[:, action] = ope.dr_terms(reward[:, action], taken, p, t, predicted)
    assert _expected(ips, p) == pytest.approx(truth, abs=1e-9)
    assert _expected(dr, p) == pytest.approx(truth, abs=1e-9)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_dr_of_a_difference_is_the_difference_of_drs(seed: int) -> None:
    p, t, reward, predicted = _table(seed)
    action = np.arange(len(p)) % p.shape[1]
    r = reward[np.arange(len(p)), action]
    both = ope.dr_terms(r, action, p, t, predicted) - ope.dr_terms(r, action, p, p, predicted)
    assert ope.dr_terms(r, action, p, t - p, predicted) == pytest.approx(both)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_no_possible_draw_leaves_the_bounds_of_dr(seed: int) -> None:
    p, t, reward, predicted = _table(seed)
    reward, predicted = np.clip(reward, -1, 1), np.clip(predicted, -1, 1)
    low, high = ope.dr_term_bounds(p, t - p, predicted, reward_range=(-1.0, 1.0))
    for action in range(p.shape[1]):
        terms = ope.dr_terms(reward[:, action], np.full(len(p), action), p, t - p, predicted)
        assert np.all(terms >= low - 1e-12)
        assert np.all(terms <= high + 1e-12)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_snips_stays_within_the_rewards_and_clipping_never_raises_a_positive_one(
    seed: int,
) -> None:
    p, t, reward, _ = _table(seed)
    action = np.arange(len(p)) % p.shape[1]
    weights = ope.importance_weights(action, p, t) + 1e-12
    r = np.abs(reward[np.arange(len(p)), action])
    assert r.min() - 1e-9 <= ope.snips(r, weights) <= r.max() + 1e-9
    clipped = ope.clipped_ips_terms(r, weights, clip=1.0)
    assert clipped.sum() <= ope.ips_terms(r, weights).sum()


def test_a_log_of_the_target_policy_itself_gives_the_plain_mean() -> None:
    p, _, reward, predicted = _table(0)
    action = np.zeros(len(p), dtype=int)
    weights = ope.importance_weights(action, p, p)
    assert weights == pytest.approx(1.0)
    assert ope.snips(reward[:, 0], weights) == pytest.approx(reward[:, 0].mean())
    assert ope.effective_sample_size(weights) == pytest.approx(len(p))
    assert ope.largest_possible_weight(p, p) == pytest.approx(1.0)
    assert predicted.shape == p.shape


def test_missing_support_names_the_strategies() -> None:
    p = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    t = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    with pytest.raises(SupportError, match=r"low \(in 1 of 2 decisions\), high") as raised:
        ope.check_support(p, t, names=["direct", "low", "high"])
    assert raised.value.strategies == ("low", "high")
    ope.check_support(p, p)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"propensities": [[0.5, 0.6]]}, "row 0.*sum to 1", id="no probabilities"),
        pytest.param({"target": [[0.5, 0.25, 0.25]]}, "shapes differ", id="other shape"),
        pytest.param({"propensities": [0.5, 0.5]}, r"shape \(n, k\)", id="one dimension"),
    ],
)
def test_bad_probabilities_are_named(change: dict[str, object], message: str) -> None:
    given_: dict[str, object] = {"propensities": [[0.5, 0.5]], "target": [[0.5, 0.5]]} | change
    with pytest.raises(ValueError, match=message):
        ope.check_support(given_["propensities"], given_["target"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda: ope.ips_terms([1.0, np.nan], [1.0, 1.0]), "NaN in row 1", id="unknown reward"
        ),
        pytest.param(
            lambda: ope.ips_terms([1.0], [1.0, 1.0]), "reward has shape", id="length"
        ),
        pytest.param(
            lambda: ope.importance_weights([1], [[1.0, 0.0]], [[0.0, 1.0]]),
            "row 0: the action taken has propensity 0",
            id="impossible action",
        ),
        pytest.param(lambda: ope.snips([1.0], [0.0]), "must not all be 0", id="no weight"),
        pytest.param(
            lambda: ope.clipped_ips_terms([1.0], [1.0], clip=0), "above 0", id="clip"
        ),
    ],
)  # fmt: skip
def test_bad_arrays_are_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
