from __future__ import annotations

import numpy as np
import pytest

from forethought.models.predictability import PREDICTABILITY_NAMES, PredictabilityModel
from tests.models.synthetic import Decisions, make_decisions


@pytest.fixture(scope="module")
def learned() -> PredictabilityModel:
    return _fit(make_decisions(600, seed=1))


def _fit(decisions: Decisions, init: PredictabilityModel | None = None) -> PredictabilityModel:
    low = [i for i, name in enumerate(decisions.strategies) if name == "learned:low"]
    return PredictabilityModel.fit(
        [decisions.rows[i] for i in low],
        decisions.quality[low],
        [decisions.groups[i] for i in low],
        seed=0,
        init=init,
    )


def test_contexts_where_sleep_helps_are_told_from_others(learned: PredictabilityModel) -> None:
    maths, story = {"ctx_like_maths": 0.3}, {"ctx_like_maths": 0.1}
    row = make_decisions(1, seed=9).rows[0]
    mean = learned.predict([{**row, **maths}, {**row, **story}]).mean
    assert mean[0] > mean[1] + 0.05


def test_the_interval_holds_the_mean(learned: PredictabilityModel) -> None:
    mean, low, high = learned.predict(make_decisions(50, seed=2).rows)
    assert np.all((low >= 0) & (low <= mean) & (mean <= high) & (high <= 1))
    assert np.all(high - low > 0.01)


def test_query_and_strategy_do_not_matter(learned: PredictabilityModel) -> None:
    row = make_decisions(1, seed=3).rows[0]
    other = {**row, "q_words": 1e4, "art_similarity_max": 1.0}
    mean = learned.predict([row, other]).mean
    assert mean[0] == mean[1]


def test_a_context_without_any_known_feature_gets_a_prediction(
    learned: PredictabilityModel,
) -> None:
    assert 0 < learned.predict([{}]).mean[0] < 1
    assert learned.predict([]).mean.shape == (0,)


def test_the_explanation_names_context_features(learned: PredictabilityModel) -> None:
    explained = learned.explain(make_decisions(1, seed=4).rows[0])
    assert explained
    assert {name for name, _ in explained} <= set(PREDICTABILITY_NAMES)
    sizes = [abs(value) for _, value in explained]
    assert sizes == sorted(sizes, reverse=True)


def test_the_same_seed_gives_the_same_model(learned: PredictabilityModel) -> None:
    assert _fit(make_decisions(600, seed=1)).to_texts() == learned.to_texts()


def test_a_warm_start_adds_to_the_earlier_model(learned: PredictabilityModel) -> None:
    warm = _fit(make_decisions(60, seed=5), init=learned)
    assert warm.booster.n_iterations > learned.booster.n_iterations


def test_labels_outside_zero_and_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"y must be in \[0, 1\], not 2"):
        PredictabilityModel.fit([{}] * 30, [2.0] * 30, range(30), seed=0)
