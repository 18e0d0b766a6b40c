from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.models.calibration import (
    ISOTONIC_GROUPS,
    Calibration,
    Floats,
    expected_calibration_error,
    fit_calibration,
)


def overconfident(n: int, *, seed: int) -> tuple[Floats, Floats, Floats]:
    """Raw probabilities whose log-odds are twice too large; outcomes; true probabilities."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(size=n)
    true = 1 / (1 + np.exp(-log_odds))
    return 1 / (1 + np.exp(-2 * log_odds)), (rng.random(n) < true).astype(float), true


@pytest.mark.parametrize(
    ("n", "method"),
    [pytest.param(400, "platt", id="small"), pytest.param(3000, "isotonic", id="large")],
)
def test_overconfidence_is_mended(n: int, method: str) -> None:
    raw, y, _ = overconfident(n, seed=0)
    calibration = fit_calibration(raw, y, range(n), seed=0)
    raw, _, true = overconfident(4000, seed=1)
    assert calibration.method == method
    assert np.abs(calibration(raw).mean - true).mean() < 0.5 * np.abs(raw - true).mean()


def test_the_interval_covers_the_truth_nine_times_in_ten() -> None:
    covered = []
    for seed in range(25):
        raw, y, _ = overconfident(300, seed=seed)
        at = fit_calibration(raw, y, range(300), seed=0)(np.array([0.1, 0.5, 0.9]))
        true = np.array([0.25, 0.5, 0.75])  # of log-odds half as large
        covered += list((at.low <= true) & (true <= at.high))
    assert np.mean(covered) >= 0.85


def test_rows_of_one_context_make_the_interval_wider_than_independent_rows() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat((rng.random(30) < 0.5).astype(float), 10)
    raw = rng.uniform(0.3, 0.7, size=300)
    clustered = fit_calibration(raw, y, np.repeat(np.arange(30), 10).tolist(), seed=0)
    independent = fit_calibration(raw, y, range(300), seed=0)
    at = np.array([0.5])
    assert _width(clustered, at) > 1.5 * _width(independent, at)


def _width(calibration: Calibration, at: Floats) -> float:
    interval = calibration(at)
    return float((interval.high - interval.low)[0])


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 5)), min_size=2, max_size=40
    )
)
def test_curves_never_fall_and_never_cross(rows: list[tuple[float, float, int]]) -> None:
    raw, y, groups = zip(*rows, strict=True)
    calibration = fit_calibration(np.array(raw), np.array(y), groups, seed=0)
    mean, low, high = calibration(np.linspace(0, 1, 50))
    assert np.all((low >= 0) & (low <= mean + 1e-12) & (mean <= high + 1e-12) & (high <= 1))
    for curve in (mean, low, high):
        assert np.all(np.diff(curve) >= -1e-12)


@pytest.mark.parametrize(
    "y", [pytest.param(0.0, id="all-wrong"), pytest.param(1.0, id="all-right")]
)
def test_a_log_without_variety_is_not_taken_for_certainty(y: float) -> None:
    raw = np.random.default_rng(0).uniform(size=100)
    interval = fit_calibration(raw, np.full(100, y), range(100), seed=0)(np.array([0.5]))
    assert 0 < interval.mean[0] < 1
    assert interval.high[0] - interval.low[0] > 0.005


def test_json_gives_the_same_calibration_back() -> None:
    raw, y, _ = overconfident(ISOTONIC_GROUPS, seed=0)
    calibration = fit_calibration(raw, y, range(len(y)), seed=0)
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"method": "guess"}, id="method"),
        pytest.param({"mean": [0.1]}, id="length"),
        pytest.param({"low": [0.4, 0.1]}, id="falling"),
        pytest.param({"high": [0.4, "x"]}, id="not-a-number"),
        pytest.param({"high": [0.4, float("nan")]}, id="nan"),
    ],
)
def test_malformed_json_is_refused(change: dict[str, Any]) -> None:
    curve = [0.1, 0.4]
    data = {"method": "platt", "knots": curve, "mean": curve, "low": curve, "high": curve}
    Calibration.from_json(data)
    with pytest.raises(ValueError, match=r"method|curves|could not convert"):
        Calibration.from_json({**data, **change})


@pytest.mark.parametrize(
    ("p", "y", "error"),
    [
        pytest.param([0.2] * 5, [1, 0, 0, 0, 0], 0.0, id="calibrated"),
        pytest.param([1.0, 1.0], [0, 0], 1.0, id="surely-wrong"),
        pytest.param([0.05, 0.95], [1, 0], 0.95, id="both-bins-off"),
        pytest.param([0.5, 0.5, 0.9, 0.9], [1, 0, 1, 0], 0.2, id="weighted-by-bin"),
    ],
)
def test_expected_calibration_error(p: list[float], y: list[float], error: float) -> None:
    assert expected_calibration_error(np.array(p), np.array(y)) == pytest.approx(error)


def test_expected_calibration_error_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="one at least"):
        expected_calibration_error(np.array([]), np.array([]))
