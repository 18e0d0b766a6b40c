from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.models.demand import DemandModel

MODELS = st.builds(DemandModel, alpha=st.floats(1.2, 20), beta=st.floats(0.05, 20))


def draw(model: DemandModel, n: int, *, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(rng.geometric(s)) for s in rng.beta(model.alpha, model.beta, size=n)]


def test_the_default_is_the_production_trace() -> None:
    model = DemandModel()
    assert 1 - model.p_another(1) == pytest.approx(0.694, abs=0.005)
    at_least_five = math.prod(model.p_another(n) for n in range(1, 5))
    assert at_least_five == pytest.approx(0.039, abs=0.005)
    assert 1 + model.expected_more(1) == pytest.approx(1.63, abs=0.02)


@given(MODELS)
def test_expected_more_is_the_sum_of_survival(model: DemandModel) -> None:
    for n in range(5):  # one step ahead, then what is expected from there
        step = model.p_another(n) * (1 + model.expected_more(n + 1))
        assert model.expected_more(n) == pytest.approx(step, rel=1e-9)


@given(MODELS, st.integers(1, 1000))
def test_each_query_makes_another_likelier(model: DemandModel, n: int) -> None:
    assert 0 < model.p_another(n) < model.p_another(n + 1) < 1
    assert model.expected_more(n) < model.expected_more(n + 1)


def test_maximum_likelihood_finds_the_truth() -> None:
    truth = DemandModel(alpha=5.0, beta=8.0)
    fitted = DemandModel.fit(draw(truth, 20_000, seed=0), prior_weight=0)
    for n in (1, 3, 10):
        assert fitted.p_another(n) == pytest.approx(truth.p_another(n), abs=0.02)


def test_no_counts_leave_the_prior_as_it_is() -> None:
    fitted = DemandModel.fit([])
    assert fitted.p_another(1) == pytest.approx(DemandModel().p_another(1), abs=1e-3)
    assert fitted.expected_more(4) == pytest.approx(DemandModel().expected_more(4), rel=0.01)


def test_a_busy_tenant_moves_the_prior_by_as_much_as_it_has_shown() -> None:
    prior = DemandModel().expected_more(1)
    little = DemandModel.fit([12] * 5).expected_more(1)
    much = DemandModel.fit([12] * 500).expected_more(1)
    assert prior < little < much
    assert much > 7


def test_contexts_still_open_count_as_at_least() -> None:
    counts = [2] * 200
    closed = DemandModel.fit(counts)
    still_open = DemandModel.fit(counts, ended=[False] * 200)
    assert still_open.p_another(2) > closed.p_another(2)


@pytest.mark.parametrize(
    ("counts", "options", "match"),
    [
        pytest.param([1, 0], {}, "not 0", id="zero"),
        pytest.param([1, 2], {"ended": [True]}, "2 counts but 1", id="flags"),
        pytest.param([3], {"ended": [False], "prior_weight": 0}, "must have ended", id="open"),
    ],
)
def test_impossible_counts_are_named(
    counts: list[int], options: dict[str, list[bool]], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        DemandModel.fit(counts, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        pytest.param(1.0, 1.0, id="alpha"),
        pytest.param(2.0, 0.0, id="beta"),
        pytest.param(math.nan, 1.0, id="nan"),
        pytest.param(math.inf, 1.0, id="infinite"),
    ],
)
def test_impossible_parameters_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(ValueError, match="need alpha > 1"):
        DemandModel(alpha=alpha, beta=beta)


def test_a_negative_number_of_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        DemandModel().expected_more(-1)
