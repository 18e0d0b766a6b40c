from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forethought.models.bundle import PolicyBundle
from forethought.models.features import matrix
from forethought.training.dataset import Dataset, from_log
from forethought.training.errors import TrainingError
from forethought.training.fit import fit_bundle, measure
from tests.training.synthetic import make_log


def test_the_bundle_learns_which_strategy_is_right(bundle: PolicyBundle, dataset: Dataset) -> None:
    row = dataset.test.rows[0]
    found = bundle.outcome.predict(matrix([row, row], ["direct", "learned:low"]))
    assert found.quality[1] > found.quality[0] + 0.3
    assert found.tokens[1] < found.tokens[0] / 2
    assert bundle.manifest["info"]["fit"]["quality"].startswith("fitted on")


def test_the_held_out_report_has_its_figures(bundle: PolicyBundle) -> None:
    scores = bundle.manifest["info"]["held_out"]["fitted"]
    assert set(scores) == {"quality", "tokens", "latency_ms", "predictability"}
    assert 0.6 < scores["quality"]["auroc"] <= 1.0
    assert scores["quality"]["brier"] < 0.25
    assert scores["tokens"]["mae_log"] < 0.5


def test_auroc_is_unknown_where_all_answers_are_right(
    bundle: PolicyBundle, dataset: Dataset
) -> None:
    test = dataset.test
    scores = measure(
        replace(test, quality=np.ones(len(test))), bundle.outcome, bundle.predictability
    )
    assert scores["quality"]["auroc"] is None


def test_heads_with_too_few_rows_keep_the_initial_models(bundle: PolicyBundle) -> None:
    log = [replace(one, quality=None, feedback=()) for one in make_log(30, seed=5)]
    found = fit_bundle(from_log(log), seed=0, init=bundle)
    status = found.manifest["info"]["fit"]
    assert status["quality"].startswith("kept: only 0 known rows")
    assert status["predictability"].startswith("kept: only 0 known rows")
    assert status["tokens"].startswith("fitted on")
    old, new = bundle.outcome, found.outcome
    assert new.boosters["quality"] is old.boosters["quality"]
    assert new.calibration is old.calibration
    assert new.boosters["tokens"] is not old.boosters["tokens"]
    assert found.manifest["info"]["initial"] == bundle.version


def test_too_little_data_is_refused_in_plain_words(bundle: PolicyBundle) -> None:
    few = from_log(make_log(3, seed=0))
    with pytest.raises(TrainingError, match="no earlier"):
        fit_bundle(few, seed=0, init=None)
    with pytest.raises(TrainingError, match="too few to fit anything: 20 rows"):
        fit_bundle(few, seed=0, init=bundle)


def test_equal_data_and_seed_give_an_equal_version() -> None:
    small = from_log(make_log(70, seed=2))
    assert fit_bundle(small, seed=3, init=None).version == (
        fit_bundle(small, seed=3, init=None).version
    )
