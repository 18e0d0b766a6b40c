from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forethought.models.calibration import expected_calibration_error
from forethought.models.features import FEATURE_NAMES, matrix
from forethought.models.kinds import KindRows
from forethought.models.outcome import OutcomeModel
from tests.models.synthetic import STRATEGIES, Decisions, fit_outcome, make_decisions


@pytest.fixture(scope="module")
def fresh() -> Decisions:
    return make_decisions(400, seed=2)


def test_quality_is_ranked_and_calibrated_on_new_contexts(
    outcome_model: OutcomeModel, fresh: Decisions
) -> None:
    quality = outcome_model.predict(matrix(fresh.rows, fresh.strategies)).quality
    assert np.corrcoef(quality, fresh.true_quality)[0, 1] > 0.5
    assert expected_calibration_error(quality, fresh.quality) < 0.07


def test_mean_tokens_and_latency_are_unbiased(
    outcome_model: OutcomeModel, fresh: Decisions
) -> None:
    prediction = outcome_model.predict(matrix(fresh.rows, fresh.strategies))
    assert prediction.tokens.sum() == pytest.approx(fresh.tokens.sum(), rel=0.1)
    assert prediction.latency_ms.sum() == pytest.approx(fresh.latency_ms.sum(), rel=0.1)


def test_quality_low_is_never_above_quality(outcome_model: OutcomeModel, fresh: Decisions) -> None:
    prediction = outcome_model.predict(matrix(fresh.rows, fresh.strategies))
    assert np.all((prediction.quality_low >= 0) & (prediction.quality_low <= prediction.quality))


def test_more_confident_notes_never_lower_the_quality(
    outcome_model: OutcomeModel, decisions: Decisions
) -> None:
    rows = [{**decisions.rows[0], "art_confidence": value} for value in np.linspace(-3, 3, 50)]
    quality = outcome_model.predict(matrix(rows, ["learned:low"] * 50)).quality
    assert np.all(np.diff(quality) >= 0)


def test_the_same_seed_gives_the_same_model(
    outcome_model: OutcomeModel, decisions: Decisions
) -> None:
    assert fit_outcome(decisions).to_texts() == outcome_model.to_texts()


def test_a_hundred_rows_are_enough_to_fit() -> None:
    small = make_decisions(25, seed=3)
    prediction = fit_outcome(small).predict(matrix(small.rows, small.strategies))
    assert np.all(np.isfinite(prediction.quality) & (prediction.tokens >= 0))


def test_unjudged_answers_still_teach_tokens() -> None:
    half = make_decisions(50, seed=4)
    half.quality[::2] = np.nan
    assert np.all(np.isfinite(fit_outcome(half).predict(matrix(half.rows, half.strategies)).tokens))


def test_a_warm_start_keeps_what_the_earlier_model_knew(
    outcome_model: OutcomeModel, fresh: Decisions
) -> None:
    few, inputs = make_decisions(15, seed=5), matrix(fresh.rows, fresh.strategies)
    cold = fit_outcome(few).predict(inputs).quality
    warm = fit_outcome(few, init=outcome_model).predict(inputs).quality
    assert _error(warm, fresh) < _error(cold, fresh)


def _error(quality: np.ndarray[Any, Any], truth: Decisions) -> float:
    return float(np.mean((quality - truth.true_quality) ** 2))


def test_the_explanation_of_quality_tells_two_rows_apart_by_their_log_odds(
    outcome_model: OutcomeModel, decisions: Decisions
) -> None:
    rows = matrix(decisions.rows[:6], STRATEGIES + STRATEGIES[:1])
    raw = outcome_model.kinds(KindRows.of(rows)) + outcome_model.boosters["quality"].predict(
        rows, raw=True
    )
    explained = [dict(outcome_model.explain(row)) for row in rows]
    sums = np.array([sum(found.values()) for found in explained])
    np.testing.assert_allclose(sums - sums[0], raw - raw[0], atol=1e-9)
    assert all(set(found) <= set(FEATURE_NAMES) for found in explained)


def test_the_explanation_adds_up_to_the_raw_score(
    outcome_model: OutcomeModel, decisions: Decisions
) -> None:
    row = matrix(decisions.rows[:1], ["learned:high"])[0]
    explained = outcome_model.explain(row, "tokens")
    booster = outcome_model.boosters["tokens"]
    contributions = booster.contributions(row.reshape(1, -1))[0, :-1]  # the last is the bias
    assert sum(value for _, value in explained) == pytest.approx(contributions.sum())
    assert explained[0][0] == "strategy_effort"
    assert {name for name, _ in explained} <= set(FEATURE_NAMES)


@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        pytest.param("quality", 1.5, r"quality must be in \[0, 1\], not 1.5", id="quality"),
        pytest.param("tokens", -1.0, "tokens must not be negative, as -1 is", id="tokens"),
        pytest.param("latency", -5.0, "latency must not be negative", id="latency"),
        pytest.param("quality", np.nan, "0 rows .* too few to fit quality", id="unjudged"),
    ],
)
def test_impossible_outcomes_are_named(
    decisions: Decisions, column: str, value: float, match: str
) -> None:
    n = len(decisions.rows)
    outcomes = {"quality": np.zeros(n), "tokens": np.zeros(n), "latency": np.zeros(n)}
    outcomes[column] = np.full(n, value)
    with pytest.raises(ValueError, match=match):
        OutcomeModel.fit(
            decisions.rows,
            decisions.strategies,
            outcomes["quality"],
            outcomes["tokens"],
            outcomes["latency"],
            decisions.groups,
            seed=0,
        )


def test_candidates_of_one_decision_are_scored_in_one_call(
    outcome_model: OutcomeModel, decisions: Decisions
) -> None:
    inputs = matrix([decisions.rows[0]] * len(STRATEGIES), STRATEGIES)
    together = outcome_model.predict(inputs)
    one_by_one = [outcome_model.predict(inputs[i : i + 1]).quality[0] for i in range(len(inputs))]
    np.testing.assert_array_equal(together.quality, one_by_one)
