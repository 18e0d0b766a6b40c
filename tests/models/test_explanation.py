"""Shares add up to what was predicted; intervals hold what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.models.demand import DemandModel
from forethought.models.explanation import (
    demand_bounds,
    of_difference,
    of_predictability,
    predictability_bounds,
    quality_bounds,
)
from forethought.models.features import DECISION_FEATURES, FEATURES, MISSING, matrix
from forethought.models.kinds import KindRows
from forethought.models.outcome import HEADS, Head, OutcomeModel
from forethought.models.predictability import PredictabilityModel
from tests.models.synthetic import STRATEGIES, Decisions

values = st.floats(-3, 3) | st.just(MISSING)
rows = st.lists(values, min_size=len(DECISION_FEATURES), max_size=len(DECISION_FEATURES)).map(
    lambda row: dict(zip([f.name for f in DECISION_FEATURES], row, strict=True))
)


def raw(model: OutcomeModel, head: Head, row: dict[str, float], strategy: str) -> float:
    """The raw prediction on the scale that shares are on."""
    inputs = matrix([row], [strategy])
    if head == "quality":
        kinds = float(model.kinds(KindRows.of(inputs))[0])
        return kinds + float(model.boosters[head].predict(inputs, raw=True)[0])
    return float(model.boosters[head].predict(inputs)[0])


@settings(max_examples=30)
@given(row=rows)
def test_shares_of_predictability_add_up_to_the_raw_prediction(
    predictability_model: PredictabilityModel, row: dict[str, float]
) -> None:
    found = of_predictability(predictability_model, row)
    names = predictability_model.booster.feature_names
    predicted = float(
        predictability_model.booster.predict(np.array([[row.get(n, MISSING) for n in names]]))[0]
    )
    assert found.total == pytest.approx(math.log(predicted / (1 - predicted)), abs=1e-9)
    for shown in (found, found.largest(3), found.largest(0)):
        effects = math.fsum(one.effect for one in shown.contributions)
        assert shown.base + effects + shown.rest == pytest.approx(found.total, abs=1e-9)
    assert len(found.largest(3).contributions) <= 3


@settings(max_examples=30)
@given(
    row=rows,
    pair=st.tuples(st.sampled_from(STRATEGIES), st.sampled_from(STRATEGIES)),
    head=st.sampled_from(HEADS),
)
def test_shares_of_a_difference_add_up_to_it(
    outcome_model: OutcomeModel, row: dict[str, float], pair: tuple[str, str], head: Head
) -> None:
    found = of_difference(outcome_model, row, *pair, head)
    difference = raw(outcome_model, head, row, pair[0]) - raw(outcome_model, head, row, pair[1])
    assert found.total == pytest.approx(difference, abs=1e-9)
    assert found.base == 0.0
    effects = [one.effect for one in found.contributions]
    assert math.fsum(effects) == pytest.approx(difference, abs=1e-9)
    assert effects == sorted(effects, key=abs, reverse=True)
    assert 0.0 not in effects


def test_contributions_are_said_in_the_words_of_the_feature_table(
    outcome_model: OutcomeModel, decisions: Decisions
) -> None:
    table = {feature.name: feature for feature in FEATURES}
    row, found = next(
        (row, one)
        for row in decisions.rows
        for one in of_difference(
            outcome_model, row, "learned:low", "direct", "quality"
        ).contributions
        if one.feature.startswith("art_")
    )
    feature = table[found.feature]
    assert (found.meaning, found.unit) == (feature.doc, feature.unit)
    assert found.value == row[found.feature]
    assert found.other_value is None  # direct does not read the learned context


def test_bounds_are_those_of_the_prediction(
    outcome_model: OutcomeModel, predictability_model: PredictabilityModel, decisions: Decisions
) -> None:
    row = decisions.rows[0]
    found = quality_bounds(outcome_model, row, STRATEGIES)
    predicted = outcome_model.predict(matrix([row] * 5, STRATEGIES))
    assert [b.mean for b in found.values()] == predicted.quality.tolist()
    assert [b.low for b in found.values()] == predicted.quality_low.tolist()
    assert all(b.low <= b.mean <= b.high for b in found.values())
    bounds = predictability_bounds(predictability_model, row)
    assert bounds.low <= bounds.mean <= bounds.high


@pytest.mark.parametrize("n_seen", [1, 3, 20])
def test_the_demand_interval_covers_what_comes(n_seen: int) -> None:
    model, rng = DemandModel(alpha=3.3, beta=1.45), np.random.default_rng(0)
    found = demand_bounds(model, n_seen)
    ends = rng.beta(model.alpha, model.beta + n_seen - 1, size=20_000)
    more = rng.geometric(ends) - 1
    assert more.mean() == pytest.approx(found.mean, rel=0.1)
    # Whole numbers: the interval covers 90% at least, and no end can be drawn in by one.
    assert np.mean((more >= found.low) & (more <= found.high)) >= 0.895
    assert np.mean(more > found.high) <= 0.055
    assert np.mean(more > found.high - 1) > 0.045
    assert found.low == 0 or np.mean(more < found.low) <= 0.055


def test_a_context_without_a_query_expects_one() -> None:
    assert demand_bounds(DemandModel(), 0).low == 1.0
