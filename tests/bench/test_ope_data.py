"""The tables that ship are what their README says."""

from __future__ import annotations

import numpy as np
import pytest

from bench.gate import DENSE, GATES, first_promotions, live, ours
from bench.ope_data import read_full_feedback, read_obd
from bench.ope_obd import directions
from bench.ope_tables import OneLog, World


def test_the_uniform_log_is_uniform_and_the_other_is_not() -> None:
    uniform, thompson = read_obd("random"), read_obd("thompson")
    assert len(uniform) == len(thompson) == 10_000
    assert uniform.propensity == pytest.approx(1 / 34)
    assert thompson.propensity.max() > 0.5
    assert uniform.click.sum() == 46
    assert thompson.click.sum() == 69
    assert thompson.shares().sum(axis=1) == pytest.approx(1.0)


def test_each_policy_is_the_other_logs_target() -> None:
    there, back = directions()
    assert there.truth == pytest.approx(0.0069)
    assert back.truth == pytest.approx(0.0046)
    assert there.sample.weight.mean() == pytest.approx(1.0, abs=0.1)
    assert back.sample.weight.mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("name", "k", "best"), [("llmrouter", 9, 0.621), ("routellm", 2, 0.857)])
def test_full_feedback_tables_hold_every_score(name: str, k: int, best: float) -> None:
    feedback = read_full_feedback(name)
    assert feedback.scores.shape[1] == k == len(feedback.models)
    assert feedback.scores.mean(axis=0).max() == pytest.approx(best, abs=0.001)


def test_a_simulated_log_draws_as_its_propensities_say() -> None:
    rng = np.random.default_rng(0)
    world = World.of(read_full_feedback("routellm"), rng)
    rows, action, groups = world.draw(1500, rng)
    assert (action == 1).mean() == pytest.approx(world.propensities[rows, 1].mean(), abs=0.03)
    found = OneLog.of(world, rows, action, groups, seed=0)
    assert found.sample.weight.mean() == pytest.approx(1.0, abs=0.1)
    assert found.intervals()["dr: betting"].low <= world.truth


def test_without_a_ledger_retraining_promotes_by_luck_and_with_it_does_not() -> None:
    log = live(DENSE, rounds=60, per_round=20, gain=0.0, seed=1)
    found = first_promotions(log, GATES, 1, gains=False)
    assert found["betting, error spent (ours)"] is None
    assert found["Student-t, 5% each round"] is not None


def test_a_large_gain_is_promoted_soon() -> None:
    log = live(DENSE, rounds=20, per_round=100, gain=0.6, seed=2)
    assert first_promotions(log, {"ours": ours}, 2, gains=True)["ours"] is not None
