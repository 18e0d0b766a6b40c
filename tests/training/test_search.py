from __future__ import annotations

import numpy as np

from forethought.models.bundle import PolicyBundle
from forethought.models.features import matrix
from forethought.training.dataset import Dataset
from forethought.training.fit import fit_bundle
from forethought.training.search import Budget


def test_a_search_by_trials_is_reproducible_and_says_what_it_did(dataset: Dataset) -> None:
    told: list[tuple[str, int, int | None]] = []
    first, second = (
        fit_bundle(
            dataset, seed=4, init=None, budget=Budget(trials=2),
            told=lambda *trial: told.append(trial),
        )
        for _ in range(2)
    )  # fmt: skip
    assert first.version == second.version
    tuning = first.manifest["info"]["tuning"]
    assert set(tuning) == {"quality", "tokens", "latency_ms", "predictability"}
    assert told[:2] == [("quality", 1, 2), ("quality", 2, 2)]
    for one in tuning.values():
        assert one["trials"] == 2
        assert not one["taken"] or one["best_loss"] < one["default_loss"]


def test_taken_settings_make_tokens_better_and_leave_probabilities_probabilities(
    dataset: Dataset, bundle: PolicyBundle
) -> None:
    tuned = fit_bundle(dataset, seed=0, init=None, budget=Budget(trials=3))
    info = tuned.manifest["info"]
    assert info["tuning"]["tokens"]["taken"]  # equal tokens a strategy: more leaves see it
    before = bundle.manifest["info"]["held_out"]["fitted"]["tokens"]["mae_log"]
    assert info["held_out"]["fitted"]["tokens"]["mae_log"] <= before
    test = dataset.test
    predicted = tuned.outcome.predict(matrix(test.rows, test.strategies))
    assert ((predicted.quality >= 0) & (predicted.quality <= 1)).all()
    assert np.median(predicted.tokens / test.output_tokens) < 1.5


def test_a_search_ends_when_its_time_is_up(dataset: Dataset) -> None:
    found = fit_bundle(dataset, seed=0, init=None, budget=Budget(seconds=1e-9))
    assert all(one["trials"] == 0 for one in found.manifest["info"]["tuning"].values())
