from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.training import CHANCES, PER_CONTEXT, STRATEGIES, judge, write_export
from forethought.training import estimators
from forethought.training.bulk import read_bulk
from forethought.training.dataset import from_signed
from forethought.training.parquet import read_parquet
from forethought.training.signals import Weights


def test_invented_exports_are_read_as_real_ones(tmp_path: Path) -> None:
    write_export(tmp_path, 2_000, seed=1)
    bulk = read_bulk(tmp_path, Weights())
    assert len(bulk) == 2_000
    assert bulk.usable.all()
    assert len(np.unique(bulk.group)) == 2_000 / PER_CONTEXT
    assert bulk.explicit.mean() == pytest.approx(0.7, abs=0.05)
    shares = np.bincount(bulk.strategy) / len(bulk)
    assert dict(zip(bulk.strategies, shares.tolist(), strict=True)) == pytest.approx(
        dict(zip(STRATEGIES, CHANCES, strict=True)), abs=0.05
    )
    held = from_signed(read_parquet(tmp_path), source="x")
    assert held.left_out == {}
    np.testing.assert_array_equal(held.quality, bulk.quality)


def test_every_estimator_is_timed() -> None:
    found = judge(1_000, "")
    timed = set(found) - {"reduce", "bounds", "all", "peak"}
    named = {name for name, own in vars(estimators).items() if _is_estimator(own)}
    assert named | {"tuned DRos"} <= timed
    assert {"Bernstein", "betting", "betting sequence", "Student-t", "bootstrap"} <= timed
    assert found["all"] == pytest.approx(
        sum(found[name] for name in timed) + found["reduce"] + found["bounds"]
    )


def _is_estimator(own: object) -> bool:
    abstract = (estimators.OffPolicyEstimator, estimators.ReweightedDR)
    return (
        isinstance(own, type)
        and issubclass(own, estimators.OffPolicyEstimator)
        and own not in abstract
    )
