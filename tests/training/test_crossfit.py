from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression

from forethought.training.crossfit import CrossFit
from forethought.training.ope import Codes, Floats


def _log(seed: int = 0, n_contexts: int = 60) -> tuple[Codes, Floats, Codes, Floats]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_contexts), rng.integers(1, 4, n_contexts))
    action = rng.integers(3, size=len(groups))
    x_of = rng.normal(size=(len(groups), 2))
    return action, action + x_of[:, 0] + 0.1 * rng.normal(size=len(groups)), groups, x_of


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_no_prediction_depends_on_its_own_context(seed: int) -> None:
    action, reward, groups, _ = _log(seed)
    before = CrossFit().fit_predict(action, reward, groups, n_actions=3)
    changed = np.where(groups == 7, 1e6, reward)
    after = CrossFit().fit_predict(action, changed, groups, n_actions=3)
    own = CrossFit()
    own.fit_predict(action, reward, groups, n_actions=3)
    same_fold = own.fold_ == own.fold_[groups == 7][0]
    assert before[same_fold] == pytest.approx(after[same_fold], rel=1e-12)
    assert not np.array_equal(before[~same_fold], after[~same_fold])


def test_means_are_those_of_the_other_folds() -> None:
    action, reward, groups, _ = _log()
    fitted = CrossFit(n_folds=3)
    predicted = fitted.fit_predict(action, reward, groups, n_actions=4)
    others = fitted.fold_ != fitted.fold_[0]
    mine = reward[others & (action == 1)]
    overall = reward[others].mean()
    assert predicted[0, 1] == pytest.approx((mine.sum() + overall) / (len(mine) + 1))
    assert predicted[0, 3] == pytest.approx(overall)  # never tried


def test_a_model_learns_from_x_of_and_action() -> None:
    action, reward, groups, x_of = _log(n_contexts=300)
    predicted = CrossFit(LinearRegression()).fit_predict(
        action, reward, groups, n_actions=3, X=x_of
    )
    assert predicted == pytest.approx(np.arange(3) + x_of[:, :1], abs=0.2)


def test_a_classifier_predicts_the_chance_of_a_reward() -> None:
    action, reward, groups, x_of = _log()
    right = (reward > 1).astype(float)
    predicted = CrossFit(LogisticRegression()).fit_predict(
        action, right, groups, n_actions=3, X=x_of
    )
    assert predicted.min() >= 0
    assert predicted.max() <= 1
    assert np.corrcoef(predicted[np.arange(len(action)), action], right)[0, 1] > 0.5


def test_bad_input_is_named() -> None:
    action, reward, groups, x_of = _log()
    with pytest.raises(ValueError, match="1 contexts cannot make 5 folds"):
        CrossFit().fit_predict(action, reward, np.zeros(len(action), int), n_actions=3)
    with pytest.raises(ValueError, match="a model needs features"):
        CrossFit(LinearRegression()).fit_predict(action, reward, groups, n_actions=3)
    with pytest.raises(ValueError, match="X has shape"):
        CrossFit(LinearRegression()).fit_predict(action, reward, groups, n_actions=3, X=x_of[1:])
    with pytest.raises(ValueError, match="groups for"):
        CrossFit().fit_predict(action, reward, groups[1:], n_actions=3)
