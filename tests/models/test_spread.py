from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.models.calibration import Floats
from forethought.models.features import KNOWN_STRATEGIES, matrix
from forethought.models.outcome import OutcomeModel
from forethought.models.spread import LEVELS, MIN_CONTEXTS, Spread
from tests.models.synthetic import Decisions, fit_outcome, make_decisions


@pytest.fixture(scope="module")
def fresh() -> Decisions:
    return make_decisions(500, seed=12)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 4))
def test_quantiles_cover_what_they_say_on_new_contexts(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)

    def drawn(n_contexts: int) -> tuple[Floats, list[int]]:
        groups = [context for context in range(n_contexts) for _ in range(rows)]
        own = rng.standard_t(4, n_contexts)[groups]
        return np.asarray(own + rng.exponential(size=len(groups))), groups

    residual, groups = drawn(1000)
    which = np.zeros(len(residual), np.intp)
    fitted = Spread.fit(residual, np.zeros(len(residual)), which, groups)
    new, _ = drawn(4000)
    for level in LEVELS:
        # Three standard deviations of both samples' shares, contexts counting once.
        tolerance = 3 * np.sqrt(level * (1 - level) * (1 / 1000 + 1 / 4000))
        assert np.mean(new <= fitted.of(which[:1], level)) == pytest.approx(level, abs=tolerance)


def test_a_context_with_many_rows_counts_no_more_than_others() -> None:
    residual = np.concatenate([np.linspace(0, 1, 99), np.full(5000, 50.0)])
    groups = [*range(99), *([99] * 5000)]
    fitted = Spread.fit(residual, np.zeros(len(residual)), np.zeros(len(residual), np.intp), groups)
    assert fitted.residuals[0, 1] < 1


def test_a_strategy_seen_on_few_contexts_has_the_quantiles_of_all() -> None:
    rng = np.random.default_rng(0)
    residual = np.concatenate([rng.normal(0, 1, 400), rng.normal(0, 0.1, MIN_CONTEXTS - 1)])
    which = np.array([0] * 400 + [1] * (MIN_CONTEXTS - 1), np.intp)
    fitted = Spread.fit(residual, np.zeros(len(residual)), which, list(range(len(residual))))
    np.testing.assert_array_equal(fitted.residuals[1], fitted.residuals[2])
    assert fitted.residuals[0, 1] > fitted.residuals[2, 1] > 0.5


def test_too_few_contexts_for_a_quantile_give_the_greatest_residual() -> None:
    fitted = Spread.fit(
        np.array([1.0, 2.0, 3.0]), np.zeros(3), np.zeros(3, np.intp), ["a", "b", "c"]
    )
    np.testing.assert_array_equal(fitted.residuals[0], [2.0, 3.0])


def test_answers_stay_below_the_quantile_as_often_as_it_says(
    outcome_model: OutcomeModel, fresh: Decisions
) -> None:
    unlimited = [{**row, "req_max_tokens": np.nan} for row in fresh.rows]
    found = outcome_model.predict(matrix(unlimited, fresh.strategies))
    pairs = [(found.tokens_p90, fresh.tokens), (found.latency_ms_p90, fresh.latency_ms)]
    for bound, actual in pairs:
        below = actual <= bound
        # The residuals are of fits to four folds in five: those of the whole are a little smaller.
        assert below.mean() == pytest.approx(0.9, abs=0.04)
        for name in KNOWN_STRATEGIES:
            own = np.array([strategy == name for strategy in fresh.strategies])
            # Of 200 contexts: the coverage itself varies by 0.02 from fit to fit.
            assert below[own].mean() == pytest.approx(0.9, abs=0.075)


def test_no_answer_is_expected_above_its_limit(
    outcome_model: OutcomeModel, fresh: Decisions
) -> None:
    rows = [{**row, "req_max_tokens": 3.0} for row in fresh.rows[:20]]
    inputs = matrix(rows, fresh.strategies[:20])
    assert outcome_model.predict(inputs).tokens_p90.max() <= 3.0
    assert np.all(outcome_model.quantile("tokens", inputs, 0.5) <= 3.0)


def test_the_middle_is_below_the_ninth_tenth(outcome_model: OutcomeModel, fresh: Decisions) -> None:
    inputs = matrix(fresh.rows, fresh.strategies)
    predicted = outcome_model.predict(inputs)
    assert np.all(outcome_model.quantile("tokens", inputs, 0.5) <= predicted.tokens_p90)
    np.testing.assert_array_equal(
        outcome_model.quantile("latency_ms", inputs, 0.9), predicted.latency_ms_p90
    )


def test_a_model_from_before_there_was_a_spread_predicts_no_quantiles(
    outcome_model: OutcomeModel, fresh: Decisions
) -> None:
    texts = outcome_model.to_texts()
    fitted = json.loads(texts["outcome.json"])
    del fitted["spread"]
    before = OutcomeModel.from_texts({**texts, "outcome.json": json.dumps(fitted)})
    inputs = matrix(fresh.rows[:5], fresh.strategies[:5])
    assert np.isnan(before.predict(inputs).tokens_p90).all()
    np.testing.assert_array_equal(
        before.predict(inputs).tokens, outcome_model.predict(inputs).tokens
    )


def test_a_spread_that_falls_is_refused() -> None:
    broken = {"levels": list(LEVELS), "residuals": [[1.0, 0.0]] * len(KNOWN_STRATEGIES)}
    with pytest.raises(ValueError, match="rising quantiles"):
        Spread.from_json(broken)


def test_a_warm_start_has_a_spread_of_its_own(outcome_model: OutcomeModel) -> None:
    warm = fit_outcome(make_decisions(30, seed=9), init=outcome_model)
    assert set(warm.spread) == {"tokens", "latency_ms"}
