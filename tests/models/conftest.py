from __future__ import annotations

import pytest

from forethought.models.bundle import PolicyBundle
from forethought.models.demand import DemandModel
from forethought.models.outcome import OutcomeModel
from forethought.models.predictability import PredictabilityModel
from tests.models.synthetic import Decisions, fit_outcome, make_decisions


@pytest.fixture(scope="session")
def decisions() -> Decisions:
    return make_decisions(200, seed=1)


@pytest.fixture(scope="session")
def outcome_model(decisions: Decisions) -> OutcomeModel:
    return fit_outcome(decisions)


@pytest.fixture(scope="session")
def predictability_model(decisions: Decisions) -> PredictabilityModel:
    return PredictabilityModel.fit(decisions.rows, decisions.quality, decisions.groups, seed=0)


@pytest.fixture(scope="session")
def bundle(outcome_model: OutcomeModel, predictability_model: PredictabilityModel) -> PolicyBundle:
    return PolicyBundle.build(
        predictability=predictability_model,
        outcome=outcome_model,
        demand=DemandModel(),
        info={"data": "synthetic"},
    )
