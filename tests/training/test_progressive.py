from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.models.bundle import PolicyBundle
from forethought.router.allocation import Preferences
from forethought.training import ope, progressive
from forethought.training.betting import betting, betting_evidence
from forethought.training.dataset import Dataset, from_log
from forethought.training.errors import TrainingError
from forethought.training.evaluation import Evaluation, evaluate
from forethought.training.gate import GateRule, decide
from tests.training.synthetic import always, make_log


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_no_context_is_judged_by_a_fit_that_saw_it_or_any_judged_later(
    n_contexts: int, n_stages: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    groups = [f"ctx_{seed}_{i}" for i in rng.integers(n_contexts, size=200).tolist()]
    held = np.array([hash(group) % 3 == 0 for group in groups])
    seen = np.array([hash(group) % 5 == 0 for group in groups]) & ~held
    found = progressive.blocks(groups, held_out=held, seen=seen, n_stages=n_stages)
    names = np.array(groups)
    for number, block in enumerate(found):
        later = {name for other in found[number:] for name in names[other.judged].tolist()}
        assert later.isdisjoint(names[block.fitted].tolist())
        assert not (block.judged & (held | seen)).any()
        assert block.fitted[seen].all()


def test_learning_from_the_judged_log_itself_hardly_ever_passes_without_a_gain() -> None:
    """Candidates that follow the luck of the contexts before: as hard on the bound as it gets."""
    level, k, n = 0.1, 4, 120
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        stage = np.sort(rng.integers(0, 5, n))
        action, reward = rng.integers(k, size=n), (rng.random(n) < 0.5).astype(float)
        p, difference = np.full((n, k), 1 / k), np.full((n, k), -1 / k)
        for number in range(5):
            before = stage < number
            sums = np.bincount(action[before], reward[before] - 0.4, minlength=k)
            difference[stage == number, int(sums.argmax())] += 1.0
        q = np.full((n, k), 0.5)
        terms = ope.dr_terms(reward, action, p, difference, q)
        low, high = ope.dr_term_bounds(p, difference, q, reward_range=(0.0, 1.0))
        won = betting_evidence(
            terms, np.arange(n), low=low, high=high, level=level, stage=stage, seed=seed
        )
        alarms += won >= np.log(1 / level)
    assert alarms <= 30  # P(more) is 1% at 20 expected


def test_stages_are_bet_on_in_their_order_and_one_stage_is_none() -> None:
    values, groups = np.random.default_rng(0).uniform(size=60), np.arange(60)
    plain = betting(values, groups, low=0.0, high=1.0)
    assert betting(values, groups, low=0.0, high=1.0, stage=np.zeros(60)) == plain
    # A later stage may lose more: stakes on the stage before must not be smaller for that.
    low = np.where(groups < 30, 0.0, -50.0)
    staged = betting(values, groups, low=low, high=1.0, stage=groups >= 30)
    assert staged.low > betting(values, groups, low=low, high=1.0).low
    with pytest.raises(ValueError, match="two stages"):
        betting(values, groups // 2, low=0.0, high=1.0, stage=groups % 2)


def _evaluated(dataset: Dataset, bundle: PolicyBundle, *, staged: bool) -> Evaluation:
    stages = progressive.stages(dataset, lambda _: bundle, None) if staged else ()
    return evaluate(
        dataset,
        candidate=bundle,
        champion=None,
        preferences=Preferences(value_usd=0.01, latency_usd_per_s=0.0),
        target=lambda *_: always("learned:low"),
        stages=stages,
    )


def test_stages_prove_what_the_held_out_contexts_alone_cannot(bundle: PolicyBundle) -> None:
    dataset = from_log(make_log(40, seed=7))
    alone = _evaluated(dataset, bundle, staged=False)
    found = _evaluated(dataset, bundle, staged=True)
    assert found.n_stages == progressive.N_STAGES
    assert found.n_held_out == alone.n_decisions < found.n_decisions / 2
    assert found.utility.bernstein == alone.utility.bernstein
    assert not decide(alone, GateRule()).promote
    assert decide(found, GateRule()).promote


def test_earlier_fits_gains_do_not_excuse_the_candidates_own_loss(bundle: PolicyBundle) -> None:
    found = _evaluated(from_log(make_log(150, seed=7)), bundle, staged=True)
    assert decide(found, GateRule()).promote
    own = replace(found.utility.bernstein, value=-1e-4)
    result = decide(replace(found, utility=replace(found.utility, bernstein=own)), GateRule())
    assert not result.promote
    assert "held out from the candidate itself no utility is gained" in result.reason


def test_a_stage_that_cannot_be_fitted_is_left_out() -> None:
    def refuse(_: Dataset) -> PolicyBundle:
        raise TrainingError("too few rows")

    assert progressive.stages(from_log(make_log(30, seed=1)), refuse, None) == []


def test_contexts_that_the_champion_was_fitted_on_judge_nobody(bundle: PolicyBundle) -> None:
    log = make_log(40, seed=5)
    dataset = from_log(log)
    until = log[len(log) // 2 - 1].decision.created_at
    info = {"data": {"recorded": False, "until": until}}
    champion = PolicyBundle.build(
        predictability=bundle.predictability,
        outcome=bundle.outcome,
        demand=bundle.demand,
        info=info,
    )
    seen = progressive.seen_by(champion, dataset)
    # Contexts come in turn, four queries each.
    assert seen.tolist() == (dataset.created_at <= until).tolist()
    judged = progressive.stages(dataset, lambda _: bundle, champion)
    assert all(stage.judged.created_at.min() > until for stage in judged)
