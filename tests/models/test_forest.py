"""All of a decision is predicted by one pass as LightGBM predicts it, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forethought.models.booster import Booster
from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.features import DECISION_FEATURES, FEATURE_NAMES, KNOWN_STRATEGIES, matrix
from forethought.models.foresight import foresee
from forethought.models.forest import forest_of
from forethought.models.outcome import HEADS, OutcomeModel, OutcomePrediction
from forethought.models.predictability import PredictabilityModel
from tests.models.synthetic import Decisions

BUNDLE = PolicyBundle.load(pretrained_dir())
SHIPPED, SHIPPED_CONTEXTS = BUNDLE.outcome, BUNDLE.predictability
CUTS = sorted(
    {
        float(cut)
        for booster in (*SHIPPED.boosters.values(), SHIPPED_CONTEXTS.booster)
        for line in booster.text.splitlines()
        if line.startswith("threshold=")
        for cut in line.removeprefix("threshold=").split()
    }
)
VALUES = st.one_of(
    st.sampled_from([*CUTS, 0.0, -0.0, np.nan, np.inf, -np.inf]), st.floats(-10, 3000)
)
NAMES = [feature.name for feature in DECISION_FEATURES]
ROWS = st.lists(VALUES, min_size=len(NAMES), max_size=len(NAMES)).map(
    lambda values: dict(zip(NAMES, values, strict=True))
)


def same_prediction(one: OutcomePrediction, other: OutcomePrediction) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in one.__slots__
    )


def as_lightgbm_does(
    outcome: OutcomeModel, contexts: PredictabilityModel, row: dict[str, float]
) -> bool:
    found = foresee(outcome, contexts, row)
    expected = outcome.predict(matrix([row] * len(KNOWN_STRATEGIES), KNOWN_STRATEGIES))
    of_context = contexts.predict([row])
    return same_prediction(found.outcome, expected) and all(
        np.array_equal(one, other)
        for one, other in zip(found.predictability, of_context, strict=True)
    )


@given(row=ROWS)
def test_a_decision_is_foreseen_as_its_matrix_is_predicted(row: dict[str, float]) -> None:
    assert as_lightgbm_does(SHIPPED, SHIPPED_CONTEXTS, row)


@given(values=st.dictionaries(st.sampled_from(NAMES), VALUES))
@example(values={})
def test_so_is_one_of_which_little_is_known(values: dict[str, float]) -> None:
    assert as_lightgbm_does(SHIPPED, SHIPPED_CONTEXTS, values)


def test_so_are_those_of_models_fitted_now(
    outcome_model: OutcomeModel, decisions: Decisions
) -> None:
    low = [i for i, name in enumerate(decisions.strategies) if name == "learned:low"]
    contexts = PredictabilityModel.fit(
        [decisions.rows[i] for i in low],
        decisions.quality[low],
        [decisions.groups[i] for i in low],
        seed=0,
    )
    boosters = (*(outcome_model.boosters[head] for head in HEADS), contexts.booster)
    assert forest_of(boosters) is not None
    for row in decisions.rows[:50]:
        assert as_lightgbm_does(outcome_model, contexts, row)


def fitted(*, categories: list[int] | None = None, **params: Any) -> Booster:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, len(FEATURE_NAMES)))
    inputs[rng.random(inputs.shape) < 0.2] = np.nan
    inputs[:, 0] = rng.integers(0, 4, 400)
    target = np.nan_to_num(inputs).sum(axis=1) + 9.0 * (inputs[:, 0] == 2)
    data = lgb.Dataset(
        inputs, target, feature_name=list(FEATURE_NAMES), categorical_feature=categories or "auto"
    )
    options = {"verbosity": -1, "num_threads": 1, "num_leaves": 8, "min_data_in_leaf": 5}
    return Booster(lgb.train({**options, **params}, data, 10).model_to_string())


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"num_leaves": 9}, id="more leaves than bits"),
        pytest.param({"categories": [0], "min_data_per_group": 5}, id="categories"),
        pytest.param({"zero_as_missing": True}, id="zero as missing"),
        pytest.param({"linear_tree": True}, id="linear leaves"),
        pytest.param({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, id="averaged"),
    ],
)
def test_a_model_without_such_a_form_is_left_to_lightgbm(params: dict[str, Any]) -> None:
    assert forest_of((fitted(),)) is not None
    other = fitted(**params)
    assert forest_of((other,)) is None
    model = replace(SHIPPED, boosters={**SHIPPED.boosters, "tokens": other})
    assert as_lightgbm_does(model, SHIPPED_CONTEXTS, dict.fromkeys(NAMES, 1.0))


def test_a_model_of_other_features_is_left_to_lightgbm() -> None:
    text = SHIPPED_CONTEXTS.booster.text.replace("ctx_chars", "ctx_colour")
    assert forest_of((Booster(text),)) is None


def test_a_score_that_is_no_log_odds_is_left_to_lightgbm() -> None:
    text = SHIPPED_CONTEXTS.booster.text.replace("objective=cross_entropy", "objective=regression")
    contexts = replace(SHIPPED_CONTEXTS, booster=Booster(text))
    assert not contexts.can_score
    assert as_lightgbm_does(SHIPPED, contexts, dict.fromkeys(NAMES, 1.0))


@pytest.mark.parametrize("score", [-1000.0, -709.5, -40.0, 0.0, 1000.0])
def test_a_score_of_any_size_is_a_probability(score: float) -> None:
    mean, low, high = SHIPPED_CONTEXTS.of_score(score)
    assert 0.0 <= low[0] <= mean[0] <= high[0] <= 1.0
