from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.models.features import FEATURE_NAMES, matrix
from forethought.training.dataset import Dataset, from_log, is_held_out
from tests.training.synthetic import EXPLORING, judged, make_log, make_logged


def test_contexts_are_never_split(dataset: Dataset) -> None:
    assert not set(dataset.train.groups) & set(dataset.test.groups)
    assert len(dataset.train) + len(dataset.test) == len(dataset)


@given(st.text())
def test_a_contexts_side_depends_on_its_id_alone(context_id: str) -> None:
    assert is_held_out(context_id) == is_held_out(context_id)
    assert not is_held_out(context_id, share=0.0)
    assert is_held_out(context_id, share=1.0)


def test_about_the_wanted_share_is_held_out() -> None:
    share = np.mean([is_held_out(f"ctx_{n}") for n in range(2000)])
    assert share == pytest.approx(0.3, abs=0.04)


def test_rows_are_aligned() -> None:
    logged = judged(make_logged(0, strategy="learned:low"), 0.5)
    found = from_log([logged, make_logged(1)])
    assert found.strategies == ["learned:low", "direct"]
    assert found.quality[0] == 0.5
    assert np.isnan(found.quality[1])
    assert found.output_tokens.tolist() == [12, 120]
    assert found.latency_ms.tolist() == [240, 2400]
    assert found.propensity.tolist() == [0.15, 0.4]
    assert found.candidate_names == tuple(sorted(EXPLORING))
    assert found.candidate_propensities.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        pytest.param({"feature_version": "0"}, "ok", "features of version 0, not 2", id="features"),
        pytest.param({"features": {}}, "ok", "no features", id="none computed"),
        pytest.param({}, "timeout", "outcome timeout", id="failed"),
        pytest.param({}, None, "no outcome yet", id="under way"),
        pytest.param(
            {"strategy": "vote:5"}, "ok", "strategy vote:5, unknown to this version", id="strategy"
        ),
    ],
)
def test_what_cannot_be_used_is_left_out_and_counted(
    changes: dict[str, object], status: str | None, reason: str
) -> None:
    logged = make_logged(0)
    logged = replace(logged, decision=replace(logged.decision, **changes))  # type: ignore[arg-type]
    assert logged.outcome is not None
    outcome = None if status is None else replace(logged.outcome, status=status)  # type: ignore[arg-type]
    found = from_log([replace(logged, outcome=outcome), make_logged(1)])
    assert len(found) == 1
    assert found.left_out == {reason: 1}


def test_rows_of_the_version_before_are_learned_from_and_counted() -> None:
    logged = make_logged(0)
    old = {n: v for n, v in logged.decision.features.items() if not n.startswith("tenant_")}
    decision = replace(logged.decision, feature_version="1", features=old)
    found = from_log([replace(logged, decision=decision), make_logged(1)])
    assert (len(found), found.n_by_earlier_version, found.left_out) == (2, 1, {})
    columns = [name for name in FEATURE_NAMES if name.startswith("tenant_")]
    values = matrix(found.rows, found.strategies)[:, [FEATURE_NAMES.index(c) for c in columns]]
    assert np.isnan(values[0]).all()


def test_a_fallbacks_answer_says_nothing_of_the_model_decided_on() -> None:
    logged = make_logged(0)
    assert logged.outcome is not None
    found = from_log([replace(logged, outcome=replace(logged.outcome, model="other")), logged])
    assert len(found) == 1
    assert found.left_out == {"the answer of a fallback, not of the model decided on": 1}


def test_an_unknown_token_count_is_not_zero() -> None:
    logged = make_logged(0)
    assert logged.outcome is not None
    usage = replace(logged.outcome.usage, output_tokens=0)
    found = from_log([replace(logged, outcome=replace(logged.outcome, usage=usage))])
    assert np.isnan(found.output_tokens[0])


def test_decisions_without_a_context_are_each_their_own() -> None:
    found = from_log([make_logged(0, context_id=None), make_logged(1, context_id=None)])
    assert found.n_contexts == 2
    assert found.demand.counts == ()


def test_demand_counts_the_training_contexts_and_how_long_they_have_been_silent() -> None:
    quiet, busy = [f"c{n}" for n in range(99) if not is_held_out(f"c{n}")][:2]
    log = [
        make_logged(0, context_id=quiet),
        make_logged(1, context_id=quiet),
        make_logged(10_000, context_id=busy),
    ]
    found = from_log(log)
    assert found.demand.counts == (2, 1)
    assert found.demand.idle_s == (log[2].decision.created_at - log[1].decision.created_at, 0.0)
    assert found.demand.gaps_s == (log[1].decision.created_at - log[0].decision.created_at,)


def test_the_fingerprint_changes_with_the_data_only() -> None:
    log = make_log(3, seed=0)
    first = from_log(log).fingerprint
    assert from_log(log).fingerprint == first
    assert from_log(log[:-1]).fingerprint != first
    changed = judged(log[0], 1.0 - (log[0].quality or 0.0))
    assert from_log([changed, *log[1:]]).fingerprint != first


def test_an_empty_log_is_an_empty_dataset() -> None:
    found = from_log([])
    assert len(found) == len(found.train) == 0
    assert found.candidate_propensities.shape == (0, 0)


def test_by_time_the_contexts_that_came_last_are_held_out_whole() -> None:
    log = [
        make_logged(n, context_id=f"c{n % 20}", created_at=1000.0 + 10 * (n % 20) + n // 20)
        for n in range(40)
    ]
    log += [make_logged(99, context_id="c0", created_at=5000.0)]  # late, on an early context
    log.sort(key=lambda one: one.decision.created_at)
    found = from_log(log, split="time")
    assert found.train.created_at.max() < found.test.created_at.min()
    assert not set(found.train.groups) & set(found.test.groups)
    assert found.test.n_contexts == 6
    assert found.left_out == {"a time after the cut on a context from before it": 1}


def test_an_empty_log_has_no_sides_by_time_either() -> None:
    assert len(from_log([], split="time").test) == 0
