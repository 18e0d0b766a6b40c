from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forethought.models.features import DECISION_FEATURES
from forethought.router.records import Candidate, LoggedDecision
from forethought.training.drift import DriftRule, check, psi, reference
from tests.training.synthetic import judged, make_logged

RULE = DriftRule()
NAMES = [feature.name for feature in DECISION_FEATURES]


def _log(
    n: int, *, seed: int, shift: float = 0.0, right: float = 0.7, per_context: int = 1
) -> list[LoggedDecision]:
    """Predicted right with 0.7, right with ``right``; one feature moved by ``shift``."""
    rng = np.random.default_rng(seed)
    log = []
    for i in range(n):
        features = {name: float(rng.normal()) for name in NAMES} | {"q_chars": rng.normal() + shift}
        one = make_logged(i, context_id=f"c{seed}_{i // per_context}", features=features)
        predicted = (Candidate(strategy="direct", quality=0.7, propensity=1.0),)
        one = replace(one, decision=replace(one.decision, candidates=predicted))
        log.append(judged(one, float(rng.random() < right)))
    return log


@pytest.fixture(scope="module")
def fitted_on() -> dict[str, object]:
    log = _log(600, seed=0)
    groups = [str(one.decision.context_id) for one in log]
    return reference([one.decision.features for one in log], groups)


def test_psi_is_its_definition() -> None:
    q, p = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    by_hand = (0.25 - 0.5) * np.log(0.5) + (0.75 - 0.5) * np.log(1.5)
    assert psi(q, p) == pytest.approx(by_hand)
    assert psi(q, q) == 0.0
    assert np.isfinite(psi(q, np.array([1.0, 0.0])))


def test_traffic_of_the_same_kind_raises_no_alarm_even_where_it_is_little(
    fitted_on: dict[str, object],
) -> None:
    alarms = by_rule_of_thumb = 0
    for seed in range(1, 21):
        found = check(_log(60, seed=seed), policy="aaaaaaaaaaaa", against=fitted_on, rule=RULE)
        alarms += found.alarm
        assert found.psi_max is not None
        by_rule_of_thumb += found.psi_max > RULE.psi_limit
    assert alarms <= 1
    assert by_rule_of_thumb > 10


def test_a_moved_feature_is_named(fitted_on: dict[str, object]) -> None:
    log = _log(400, seed=30, shift=1.5)
    found = check(log, policy="aaaaaaaaaaaa", against=fitted_on, rule=RULE)
    assert list(found.moved) == ["q_chars"]
    assert found.alarm
    assert not found.calibration_alarm


def test_a_policy_that_is_wrong_about_its_answers_is_found_out() -> None:
    found = check(_log(300, seed=31, right=0.4), policy="aaaaaaaaaaaa", against=None, rule=RULE)
    assert found.calibration_alarm
    assert found.calibration_error == pytest.approx(0.3, abs=0.1)
    assert found.calibration_low is not None
    assert found.calibration_low > RULE.calibration_limit


def test_other_policies_answers_and_few_contexts_say_nothing() -> None:
    log = _log(300, seed=32, right=0.0)
    assert check(log, policy="bbbbbbbbbbbb", against=None, rule=RULE).n_judged == 0
    crowded = _log(300, seed=33, right=0.0, per_context=20)
    found = check(crowded, policy="aaaaaaaaaaaa", against=None, rule=RULE)
    assert found.n_judged == 300
    assert found.calibration_error is None
    assert not found.alarm


def test_only_the_newest_decisions_count(fitted_on: dict[str, object]) -> None:
    log = [*_log(300, seed=34, shift=3.0), *_log(300, seed=35)]
    rule = DriftRule(window=300)
    assert not check(log, policy="aaaaaaaaaaaa", against=fitted_on, rule=rule).moved
