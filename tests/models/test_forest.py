"""A decision's candidates are predicted by one pass as LightGBM predicts them, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.models.booster import Booster
from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.features import DECISION_FEATURES, FEATURE_NAMES, KNOWN_STRATEGIES, matrix
from forethought.models.forest import forest_of
from forethought.models.outcome import HEADS, OutcomeModel, OutcomePrediction
from tests.models.synthetic import Decisions

SHIPPED = PolicyBundle.load(pretrained_dir()).outcome
CUTS = sorted(
    {
        float(cut)
        for booster in SHIPPED.boosters.values()
        for line in booster.text.splitlines()
        if line.startswith("threshold=")
        for cut in line.removeprefix("threshold=").split()
    }
)
VALUES = st.one_of(
    st.sampled_from([*CUTS, 0.0, -0.0, np.nan, np.inf, -np.inf]), st.floats(-10, 3000)
)
ROWS = st.lists(VALUES, min_size=len(DECISION_FEATURES), max_size=len(DECISION_FEATURES)).map(
    lambda values: dict(zip((f.name for f in DECISION_FEATURES), values, strict=True))
)
SEVERAL = st.lists(st.sampled_from(KNOWN_STRATEGIES), unique=True)


def same(one: OutcomePrediction, other: OutcomePrediction) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in one.__slots__
    )


@given(row=ROWS, strategies=SEVERAL)
def test_candidates_are_predicted_as_their_matrix_is(
    row: dict[str, float], strategies: list[str]
) -> None:
    expected = SHIPPED.predict(matrix([row] * len(strategies), strategies))
    assert same(SHIPPED.predict_for(row, strategies), expected)


@given(
    values=st.dictionaries(
        st.sampled_from([f.name for f in DECISION_FEATURES]), VALUES, max_size=40
    )
)
def test_so_are_those_of_which_little_is_known(values: dict[str, float]) -> None:
    expected = SHIPPED.predict(matrix([values] * len(KNOWN_STRATEGIES), KNOWN_STRATEGIES))
    assert same(SHIPPED.predict_for(values, KNOWN_STRATEGIES), expected)


def test_so_are_those_of_a_model_fitted_now(
    outcome_model: OutcomeModel, decisions: Decisions
) -> None:
    assert forest_of(tuple(outcome_model.boosters[head] for head in HEADS)) is not None
    for row in decisions.rows[:50]:
        expected = outcome_model.predict(matrix([row] * 5, KNOWN_STRATEGIES))
        assert same(outcome_model.predict_for(row, KNOWN_STRATEGIES), expected)


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
    row = {feature.name: 1.0 for feature in DECISION_FEATURES}
    expected = model.predict(matrix([row] * 5, KNOWN_STRATEGIES))
    assert same(model.predict_for(row, KNOWN_STRATEGIES), expected)
