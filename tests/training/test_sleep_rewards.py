from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.training.betting import betting
from forethought.training.estimators import DR, IPS, Sample
from forethought.training.sleep_rewards import sleep_rewards

UTILITY = [1.0, 2.0, 4.0, 8.0, 16.0]
CONTEXT = [0, 0, 1, 0, 0]
ASKED_AT = [5.0, 20.0, 20.0, 30.0, 100.0]
DECIDED: dict[str, Any] = {"decided_at": [10.0, 10.0, 10.0], "sleep_cost_usd": [0.5, 0.25, 0.125]}


@pytest.mark.parametrize(
    ("given_", "expected", "counts"),
    [
        pytest.param({}, [25.5, 3.75, -0.125], [3, 1, 0], id="what comes later, less the cost"),
        pytest.param({"horizon_s": 20.0}, [9.5, 3.75, -0.125], [2, 1, 0], id="within a horizon"),
        pytest.param({"max_queries": 1}, [1.5, 3.75, -0.125], [1, 1, 0], id="the first only"),
        pytest.param({"reduction": "mean"}, [26 / 3 - 0.5, 3.75, -0.125], [3, 1, 0], id="mean"),
    ],
)
def test_a_sleep_decision_earns_what_comes_later(
    given_: dict[str, Any], expected: list[float], counts: list[int]
) -> None:
    found = sleep_rewards(UTILITY, CONTEXT, ASKED_AT, **DECIDED, **given_)
    assert found.reward_usd == pytest.approx(expected)
    assert found.n_queries.tolist() == counts


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_queries_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    u, c, at = rng.normal(size=50), rng.integers(6, size=50), rng.permutation(50).astype(float)
    decided: dict[str, Any] = {
        "decided_at": rng.uniform(0, 30, 6),
        "sleep_cost_usd": rng.uniform(size=6),
    }
    order = rng.permutation(50)
    one = sleep_rewards(u, c, at, **decided, max_queries=3)
    other = sleep_rewards(u[order], c[order], at[order], **decided, max_queries=3)
    assert one.reward_usd == pytest.approx(other.reward_usd)
    for context in range(6):
        later = np.sort(at[(c == context) & (at > decided["decided_at"][context])])[:3]
        total = sum(float(u[at == when][0]) for when in later)
        assert one.reward_usd[context] == pytest.approx(total - decided["sleep_cost_usd"][context])


def test_the_value_of_always_sleeping_is_estimated_from_sleeping_sometimes() -> None:
    rng = np.random.default_rng(1)
    n_contexts = 3000
    slept = (rng.random(n_contexts) < 0.3).astype(int)
    n_queries = rng.integers(0, 4, n_contexts)
    context = np.repeat(np.arange(n_contexts), n_queries)
    # Asleep, an answer is right with 0.9 instead of 0.5; sleep costs 0.3.
    right = rng.random(len(context)) < np.where(slept[context] == 1, 0.9, 0.5)
    found = sleep_rewards(
        right,
        context,
        np.ones(len(context)),
        decided_at=np.zeros(n_contexts),
        sleep_cost_usd=0.3 * slept,
        max_queries=3,
    )
    p = np.tile([0.7, 0.3], (n_contexts, 1))
    always = np.tile([0.0, 1.0], (n_contexts, 1))
    q = np.tile([0.75, 1.05], (n_contexts, 1))
    sample = Sample.of(found.reward_usd, slept, p, always, q)
    truth = 1.5 * 0.9 - 0.3
    assert IPS().estimate(sample) == pytest.approx(truth, abs=0.12)
    assert DR().estimate(sample) == pytest.approx(truth, abs=0.08)
    bound = betting(
        DR().terms(sample), np.arange(n_contexts), low=-4.0, high=8.0, mean_range=(-0.3, 3.0)
    )
    assert bound.low <= truth <= bound.high


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"context must be in 0\.\.2"):
        sleep_rewards([1.0], [3], [1.0], **DECIDED)
    with pytest.raises(ValueError, match="sleep_cost_usd has NaN"):
        sleep_rewards([1.0], [0], [1.0], decided_at=[0.0], sleep_cost_usd=[np.nan])
    with pytest.raises(ValueError, match="reduction must be one of sum, mean"):
        sleep_rewards([1.0], [0], [1.0], **DECIDED, reduction="max")  # type: ignore[arg-type]
