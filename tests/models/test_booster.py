"""Prediction by the C interface is that of LightGBM's own package."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import threading

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forethought.models.booster import Booster
from forethought.models.bundle import PolicyBundle, pretrained_dir


@pytest.fixture(scope="module")
def fitted() -> lgb.Booster:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 4))
    inputs[rng.random(inputs.shape) < 0.1] = np.nan
    target = np.where(np.nan_to_num(inputs[:, 0]) > 0, 1.0, inputs[:, 1] ** 2)
    data = lgb.Dataset(inputs, np.nan_to_num(target), feature_name=list("abcd"))
    return lgb.train({"verbosity": -1, "num_threads": 1}, data, 20)


@pytest.fixture(scope="module")
def rows() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = np.random.default_rng(1).normal(size=(50, 4))
    rows[3, 2] = np.nan
    return rows


def test_predictions_and_explanations_are_the_packages(
    fitted: lgb.Booster, rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> None:
    own = Booster(fitted.model_to_string())
    assert (own.feature_names, own.n_iterations) == (list("abcd"), 20)
    np.testing.assert_array_equal(own.predict(rows), fitted.predict(rows))
    np.testing.assert_array_equal(
        own.predict(rows, n_iterations=5), fitted.predict(rows, num_iteration=5)
    )
    np.testing.assert_array_equal(own.contributions(rows), fitted.predict(rows, pred_contrib=True))
    # Columns that lie together in memory too.
    np.testing.assert_array_equal(own.predict(np.asfortranarray(rows)), own.predict(rows))


def test_the_text_is_kept_and_a_copy_predicts_the_same(
    fitted: lgb.Booster, rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> None:
    own = Booster(fitted.model_to_string())
    copy = pickle.loads(pickle.dumps(own))
    assert copy.text == own.text == fitted.model_to_string()
    np.testing.assert_array_equal(copy.predict(rows), own.predict(rows))


def test_one_model_follows_another(
    fitted: lgb.Booster, rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> None:
    own = Booster(fitted.model_to_string())
    both = own.followed_by(own)
    assert both.n_iterations == 2 * own.n_iterations
    np.testing.assert_allclose(both.predict(rows, raw=True), 2 * own.predict(rows, raw=True))
    np.testing.assert_allclose(
        both.predict(rows, raw=True, n_iterations=20), own.predict(rows, raw=True)
    )


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5)])
def test_rows_of_another_shape_are_refused(fitted: lgb.Booster, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="X has shape"):
        Booster(fitted.model_to_string()).predict(np.zeros(shape))


def test_no_row_is_no_prediction(fitted: lgb.Booster) -> None:
    own = Booster(fitted.model_to_string())
    assert own.predict(np.empty((0, 4))).shape == (0,)
    assert own.contributions(np.empty((0, 4))).shape == (0, 5)


@pytest.mark.parametrize("text", ["", "tree\nnonsense", "tree\nfeature_names=a b\nend"])
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a LightGBM model"):
        Booster(text)


def test_threads_share_a_booster(
    fitted: lgb.Booster, rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> None:
    own, expected = Booster(fitted.model_to_string()), np.asarray(fitted.predict(rows))
    wrong: list[int] = []

    def predict_often() -> None:
        wrong.extend(1 for _ in range(200) if not np.array_equal(own.predict(rows), expected))

    threads = [threading.Thread(target=predict_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_is_given_back(fitted: lgb.Booster) -> None:
    text = fitted.model_to_string()
    freed = [Booster(text) for _ in range(3)]
    del freed
    gc.collect()
    assert Booster(text).n_iterations == 20


def test_a_broken_model_prints_nothing_to_the_standard_output() -> None:
    code = (
        "from forethought.models.booster import Booster\n"
        "try: Booster('tree\\nfeature_names=a b\\nend')\n"
        "except ValueError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


SHIPPED = PolicyBundle.load(pretrained_dir())
HEADS: dict[str, Booster] = {
    "predictability": SHIPPED.predictability.booster,
    **dict(SHIPPED.outcome.boosters.items()),
}
PACKAGES: dict[str, lgb.Booster] = {
    name: lgb.Booster(model_str=own.text) for name, own in HEADS.items()
}
# Around the thresholds, at their ends, and nowhere.
VALUES = st.one_of(st.floats(-10, 3000), st.floats(), st.sampled_from([0.0, -0.0, 1e-36, np.nan]))


@pytest.mark.parametrize("head", HEADS)
@given(data=st.data())
def test_few_rows_are_predicted_as_many_are(head: str, data: st.DataObject) -> None:
    own, package = HEADS[head], PACKAGES[head]
    shape = (data.draw(st.integers(1, 17)), len(own.feature_names))
    inputs = data.draw(arrays(np.float64, shape, elements=VALUES))
    for raw in (True, False):
        np.testing.assert_array_equal(
            own.predict(inputs, raw=raw), package.predict(inputs, raw_score=raw)
        )
