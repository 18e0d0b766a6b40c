from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.models.boosting import cross_fit, from_text, grouped_folds, predict


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.integers(0, 5))
def test_folds_keep_groups_whole_and_use_all_rows(groups: list[int], seed: int) -> None:
    if len(set(groups)) < 2:
        groups.append(99)
    folds = grouped_folds(groups, seed=seed)
    for group in set(groups):
        assert len({fold for fold, its in zip(folds, groups, strict=True) if its == group}) == 1
    assert set(folds) == set(range(min(5, len(set(groups)))))


def test_one_context_cannot_be_cross_validated() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        grouped_folds(["only"] * 50, seed=0)


def test_out_of_fold_predictions_do_not_know_their_own_context() -> None:
    # Each context has a random outcome and an input that identifies it: pure memorising.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    y = rng.normal(size=60)[groups]
    inputs = rng.normal(size=60)[groups].reshape(-1, 1)
    fitted = cross_fit(inputs, y, groups.tolist(), objective="l2", feature_names=["id"], seed=0)
    assert np.mean((fitted.out_of_fold - y) ** 2) > 0.9 * y.var()


def test_a_monotone_feature_never_lowers_the_prediction() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 2))
    y = np.sin(3 * inputs[:, 0]) + inputs[:, 1]
    fitted = cross_fit(
        inputs,
        y,
        range(400),
        objective="l2",
        feature_names=["up", "free"],
        increasing=frozenset({"up"}),
        seed=0,
    )
    line = np.column_stack([np.linspace(-3, 3, 100), np.zeros(100)])
    assert np.all(np.diff(predict(fitted.booster, line)) >= 0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"increasing": frozenset({"b"})}, "unknown features: .'b'", id="constraint"),
        pytest.param({"groups": ["x", "y"]}, "40 rows but 2 groups", id="groups"),
    ],
)
def test_mismatches_are_named(change: dict[str, frozenset[str]], match: str) -> None:
    arguments = {"groups": list(range(40)), **change}
    with pytest.raises(ValueError, match=match):
        cross_fit(
            np.zeros((40, 1)),
            np.zeros(40),
            objective="l2",
            feature_names=["a"],
            seed=0,
            **arguments,  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("y", [pytest.param(0.0, id="all-zero"), pytest.param(1.0, id="all-one")])
def test_a_constant_target_can_be_fitted(y: float) -> None:
    inputs = np.random.default_rng(0).normal(size=(60, 3))
    fitted = cross_fit(
        inputs,
        np.full(60, y),
        range(60),
        objective="cross_entropy",
        feature_names=list("abc"),
        seed=0,
    )
    np.testing.assert_allclose(fitted.out_of_fold, y, atol=1e-6)


def test_text_that_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="not a LightGBM model"):
        from_text("tree\nnonsense", ["a"])
