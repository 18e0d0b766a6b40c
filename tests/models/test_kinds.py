from __future__ import annotations

import json

import numpy as np
import pytest

from forethought.models.features import FEATURES, KNOWN_STRATEGIES, matrix
from forethought.models.kinds import KINDS, KindModel, KindRows

RNG = np.random.default_rng(0)
ROWS = [
    {feature.name: float(RNG.normal()) for feature in FEATURES}
    | {"ctx_like_maths": float(RNG.random() < 0.5)}
    for _ in range(4000)
]
NAMES = [KNOWN_STRATEGIES[int(RNG.integers(len(KNOWN_STRATEGIES)))] for _ in ROWS]
X = KindRows.of(matrix(ROWS, NAMES))


def truth(strategy: str, maths: float) -> float:
    return 0.9 if strategy == "direct" else 0.2 + 0.6 * maths * (strategy == "learned:low")


QUALITY = np.array([truth(n, r["ctx_like_maths"]) for n, r in zip(NAMES, ROWS, strict=True)])


@pytest.fixture(scope="module")
def fitted() -> KindModel:
    return KindModel.fit(X, QUALITY)


def test_what_a_strategy_does_on_a_kind_is_learned(fitted: KindModel) -> None:
    p = 1 / (1 + np.exp(-fitted(X)))
    for strategy in KNOWN_STRATEGIES:
        for maths in (0.0, 1.0):
            here = [
                i for i, (n, r) in enumerate(zip(NAMES, ROWS, strict=True))
                if n == strategy and r["ctx_like_maths"] == maths
            ]  # fmt: skip
            assert p[here].mean() == pytest.approx(truth(strategy, maths), abs=0.1)


def test_strategies_are_told_apart() -> None:
    row = ROWS[0]
    codes = KindRows.of(matrix([row] * len(KNOWN_STRATEGIES), KNOWN_STRATEGIES)).strategy
    assert codes.tolist() == list(range(len(KNOWN_STRATEGIES)))


def test_few_rows_say_little() -> None:
    few = KindRows(X.strategy[:20], X.kinds[:20])
    p = 1 / (1 + np.exp(-KindModel.fit(few, QUALITY[:20])(X)))
    assert np.abs(p - QUALITY[:20].mean()).mean() < 0.15


def test_no_context_is_no_kind(fitted: KindModel) -> None:
    assert np.isfinite(fitted(KindRows.of(matrix([{}], ["direct"])))).all()


@pytest.mark.parametrize("quality", [0.0, 1.0, 0.5])
def test_a_constant_quality_is_learned(quality: float) -> None:
    p = 1 / (1 + np.exp(-KindModel.fit(X, np.full(len(QUALITY), quality))(X)))
    np.testing.assert_allclose(p, quality, atol=0.001)


def test_contributions_are_told_by_feature(fitted: KindModel) -> None:
    row = {**ROWS[0], "ctx_like_maths": 1.0}
    found = fitted.contributions(KindRows.of(matrix([row], ["learned:low"])))
    assert set(found) == {*KINDS, "strategy_effort"}
    assert max(found, key=lambda name: found[name]) == "ctx_like_maths"


def test_json_keeps_it(fitted: KindModel) -> None:
    again = KindModel.from_json(json.loads(json.dumps(fitted.to_json())))
    np.testing.assert_array_equal(again(X), fitted(X))


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        pytest.param("weights", [[1.0]], "has shape", id="shape"),
        pytest.param("centre", [float("nan")] * len(KINDS), "no numbers", id="nan"),
    ],
)
def test_another_model_is_refused(fitted: KindModel, name: str, value: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        KindModel.from_json({**fitted.to_json(), name: value})
