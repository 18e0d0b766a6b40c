from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from forethought.models.bundle import PolicyBundle
from forethought.router.allocation import Preferences
from forethought.router.records import LoggedDecision
from forethought.training.dataset import Dataset, from_log
from forethought.training.evaluation import Evaluation, evaluate
from forethought.training.gate import GateResult, GateRule, decide, judge
from forethought.training.judged import Target
from tests.training.synthetic import (
    EQUAL,
    EXPLORING,
    LEARNED_HELPS,
    STRATEGIES,
    always,
    make_log,
    make_logged,
)

PREFERENCES = Preferences(value_usd=0.01, latency_usd_per_s=0.0)


def _prefers(strategy: str) -> Target:
    """A target policy that knows one strategy."""

    def target(_logged: LoggedDecision, _bundle: PolicyBundle) -> Mapping[str, float]:
        return always(strategy)

    return target


def _evaluate(
    dataset: Dataset, candidate: PolicyBundle, strategy: str, **changes: object
) -> Evaluation:
    """The candidate always answers by ``strategy``; the champion always directly."""
    return evaluate(
        dataset,
        candidate=candidate,
        champion=None,
        preferences=PREFERENCES,
        target=_prefers(strategy),
        **changes,  # type: ignore[arg-type]
    )


def _priced_equally(log: list[LoggedDecision]) -> list[LoggedDecision]:
    return [
        replace(one, outcome=replace(one.outcome, cost_usd=1e-6))
        for one in log
        if one.outcome is not None
    ]


def test_a_large_gain_is_promoted(bundle: PolicyBundle) -> None:
    found = _evaluate(from_log(make_log(400, seed=7)), bundle, "learned:low")
    result = decide(found, GateRule())
    assert result.promote, result.reason
    assert result.reason.startswith("Promoted: at 95% confidence (betting, any sample size)")
    assert found.quality.bootstrap.value == pytest.approx(0.85, abs=0.2)
    assert found.candidate.utility_usd["dr"] > found.champion.utility_usd["dr"]
    assert found.candidate.largest_weight == pytest.approx(1 / 0.15)


def test_no_difference_is_hardly_ever_promoted_by_the_bootstrap(bundle: PolicyBundle) -> None:
    promoted = 0
    for seed in range(25):
        log = _priced_equally(make_log(60, seed=100 + seed, right=EQUAL))
        found = _evaluate(from_log(log), bundle, "learned:low")
        promoted += decide(found, GateRule(margin=1.0, bound="bootstrap", min_new=5)).promote
    assert promoted <= 4  # 5% of 25 is 1.25; P(5 or more) is 1% there


def test_an_unproven_gain_says_about_how_many_more_it_takes(bundle: PolicyBundle) -> None:
    right = EQUAL | {"learned:low": 0.62}
    log = _priced_equally(make_log(300, seed=9, right=right))
    found = _evaluate(from_log(log), bundle, "learned:low")
    result = decide(found, GateRule(bound="bernstein"))
    assert not result.promote
    assert result.more_decisions is not None
    assert result.more_decisions > 100
    assert f"about {result.more_decisions:,} more" in result.reason


def test_a_loss_says_that_more_of_the_same_would_not_help(bundle: PolicyBundle) -> None:
    right = LEARNED_HELPS | {"direct": 0.9, "learned:low": 0.1}
    result = decide(
        _evaluate(from_log(make_log(150, seed=3, right=right)), bundle, "learned:low"), GateRule()
    )
    assert not result.promote
    assert "no utility is gained" in result.reason
    assert "quality may fall by more than 2.0 points" in result.reason
    assert "would not help" in result.reason
    assert result.more_decisions is None


def test_a_cheaper_policy_that_is_worse_is_refused(bundle: PolicyBundle) -> None:
    right = EQUAL | {"direct": 0.6, "learned:low": 0.4}
    found = evaluate(
        from_log(make_log(150, seed=4, right=right)),
        candidate=bundle,
        champion=None,
        preferences=Preferences(value_usd=1e-5, latency_usd_per_s=0.0),
        target=_prefers("learned:low"),
    )
    result = decide(found, GateRule())
    assert found.utility.bootstrap.low > 0
    assert not result.promote
    assert "quality may fall" in result.reason


def test_latency_beyond_its_limit_is_refused(bundle: PolicyBundle) -> None:
    log = [
        replace(
            one,
            outcome=replace(
                one.outcome,
                latency_ms=900.0 if one.decision.strategy == "learned:low" else 500.0,
            ),
        )
        for one in make_log(400, seed=7)
        if one.outcome is not None
    ]
    found = _evaluate(from_log(log), bundle, "learned:low")
    assert found.latency is not None
    assert found.latency.bootstrap.value == pytest.approx(400.0, abs=150.0)
    slow = decide(found, GateRule(latency_margin_ms=100.0))
    assert not slow.promote
    assert "slower by more than 100 ms" in slow.reason
    assert decide(found, GateRule(latency_margin_ms=1700.0)).promote
    unknown = decide(replace(found, latency=None), GateRule(latency_margin_ms=100.0))
    assert "not known for all decisions" in unknown.reason


def test_decisions_that_chose_the_champion_do_not_judge_its_successor(
    bundle: PolicyBundle,
) -> None:
    dataset = from_log(make_log(60, seed=6))
    since = float(np.median(dataset.test.created_at))
    found = _evaluate(dataset, bundle, "learned:low", since=since)
    assert found.n_decisions == int((dataset.test.created_at > since).sum())
    assert found.left_out == {
        "made before the champion served, which they helped to choose": len(dataset.test)
        - found.n_decisions
    }


def test_missing_support_is_a_refusal_that_names_the_strategies(bundle: PolicyBundle) -> None:
    never = EXPLORING | {"direct": 0.55, "learned:low": 0.0}
    dataset = from_log(make_log(60, seed=5, propensities=never))
    result, evaluation = judge(lambda: _evaluate(dataset, bundle, "learned:low"), GateRule())
    assert evaluation is None
    assert not result.promote
    assert "it gave no chance to learned:low" in result.reason


def test_a_strategy_that_the_log_does_not_know_is_missing_support(bundle: PolicyBundle) -> None:
    only = {name: 0.25 for name in STRATEGIES if name != "learned:low"}
    dataset = from_log(make_log(60, seed=5, propensities=only))
    result, _ = judge(lambda: _evaluate(dataset, bundle, "learned:low"), GateRule())
    assert "learned:low, which no logged decision could" in result.reason


def test_policies_that_choose_alike_have_nothing_to_gain(bundle: PolicyBundle) -> None:
    result = decide(_evaluate(from_log(make_log(60, seed=6)), bundle, "direct"), GateRule())
    assert "would have chosen as the champion did" in result.reason


def test_a_handful_of_new_choices_prove_nothing(bundle: PolicyBundle) -> None:
    result = decide(
        _evaluate(from_log(make_log(25, seed=6)), bundle, "learned:low"),
        GateRule(bound="bootstrap", min_new=50),
    )
    assert not result.promote
    assert "50 are needed to say anything" in result.reason
    assert result.more_decisions is not None


def test_what_cannot_be_judged_is_counted(bundle: PolicyBundle) -> None:
    log = make_log(60, seed=8)
    held_out = [one for one in log if one in from_log(log).test.decisions]
    changed = {
        held_out[0].decision.id: replace(held_out[0], quality=None),
        held_out[1].decision.id: replace(
            held_out[1], decision=replace(held_out[1].decision, mode="forced")
        ),
    }
    log = [changed.get(one.decision.id, one) for one in log]
    found = _evaluate(from_log(log), bundle, "learned:low")
    assert found.left_out == {"without feedback": 1, "forced, not drawn by a policy": 1}
    assert found.n_decisions == len(held_out) - 2


def test_a_log_without_feedback_is_a_refusal(bundle: PolicyBundle) -> None:
    dataset = from_log([make_logged(n, context_id=f"c{n}") for n in range(40)])
    result, _ = judge(lambda: _evaluate(dataset, bundle, "learned:low"), GateRule())
    assert not result.promote
    assert "No held-out decision can be judged" in result.reason
    assert "without feedback" in result.reason


def test_estimates_agree_with_the_truth_of_the_log(bundle: PolicyBundle) -> None:
    found = _evaluate(from_log(make_log(700, seed=11)), bundle, "learned:low")
    truth = PREFERENCES.value_usd * 0.95 - 12e-6
    for name in ("ips", "snips", "dr"):
        assert found.candidate.utility_usd[name] == pytest.approx(truth, rel=0.15), name
    assert np.isfinite(found.utility.bernstein.low)
    assert found.utility.bernstein.low < found.utility.betting.low < found.utility.bootstrap.low
    assert set(found.candidate.utility_usd) == {
        "dm", "ips", "clipped_ips", "snips", "dr", "sndr", "switch_dr", "dros",
    }  # fmt: skip


def test_a_gate_result_is_plain() -> None:
    assert GateResult(promote=False, reason="no").more_decisions is None
