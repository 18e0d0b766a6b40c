"""Blending: a tenant's graded answers move what the policy predicts for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.router import blending as module
from forethought.router.blending import (
    STRENGTH,
    Blending,
    Offset,
    Strength,
    fit_strength,
    logged_offsets,
    policy_quality,
    posterior,
    score,
)
from forethought.router.records import Candidate, GradedAnswer
from forethought.router.strategies import STRATEGIES

NAMES = tuple(STRATEGIES)
shares = st.floats(0.01, 0.99)


def graded(
    n: int, quality: float, *, strategy: str = "direct", predicted: float = 0.5, **changes: Any
) -> GradedAnswer:
    values: dict[str, Any] = {
        "decision_id": f"dec_{n}",
        "tenant": "acme",
        "model": "m",
        "context_id": None,
        "candidate": Candidate(strategy=strategy, quality=predicted),
        "quality": quality,
    }
    return GradedAnswer(**(values | changes))


def begun(strength: Strength = STRENGTH) -> Blending:
    blending = Blending(strength)
    blending.begin("v1", concentration=10.0)
    return blending


def after(answers: Iterable[GradedAnswer], **of: str) -> Offset:
    blending = begun()
    for answer in answers:
        blending.judged("v1", answer)
    found = blending.of("v1", of.get("tenant", "acme"), of.get("model", "m"))
    assert found is not None
    return found[of.get("strategy", "direct")]


def test_right_answers_raise_what_is_predicted_and_wrong_ones_lower_it() -> None:
    right = after(graded(n, 1.0) for n in range(10))
    wrong = after(graded(n, 0.0) for n in range(10))
    assert wrong.mean < 0 < right.mean
    assert (right.n, right.right, right.predicted) == (10, 1.0, 0.5)


def test_more_answers_move_it_further_and_leave_less_doubt() -> None:
    found = [after(graded(n, float(n % 4 > 0)) for n in range(size)) for size in (4, 20, 100)]
    means, sds = [one.mean for one in found], [one.sd for one in found]
    assert means == sorted(means)
    assert sds == sorted(sds, reverse=True)
    # A hundred answers, three in four right where half were predicted: nearly all of ln 3.
    assert 0.8 < means[-1] < np.log(3)


def test_answers_by_one_strategy_say_something_about_the_others() -> None:
    answers = [graded(n, 1.0, strategy="learned:low") for n in range(20)]
    own, other = after(answers, strategy="learned:low"), after(answers, strategy="direct")
    assert 0 < other.mean < own.mean
    assert other.n == 0
    assert other.sd > own.sd


def test_nothing_is_learned_about_another_tenant_or_another_model() -> None:
    answers = [graded(n, 1.0) for n in range(10)]
    for of in ({"tenant": "other"}, {"model": "other"}):
        found = after(answers, **of)
        assert (found.mean, found.n) == (0.0, 0)
        assert found.sd == pytest.approx(np.hypot(STRENGTH.shared_sd, STRENGTH.own_sd), abs=1e-4)


def test_another_policy_starts_anew() -> None:
    blending = begun()
    blending.judged("v1", graded(1, 1.0))
    assert blending.of("v2", "acme", "m") is None
    blending.begin("v2", concentration=10.0)
    found = blending.of("v2", "acme", "m")
    assert found is not None
    assert found["direct"].mean == 0
    blending.judged("v1", graded(2, 1.0))  # an answer that the earlier policy chose
    assert blending.of("v2", "acme", "m") == found


def test_answers_on_one_context_weigh_less_than_on_many() -> None:
    one = after(graded(n, 1.0, context_id="ctx_1") for n in range(20))
    many = after(graded(n, 1.0, context_id=f"ctx_{n}") for n in range(20))
    assert 0 < one.mean < many.mean
    assert one.sd > many.sd


def test_a_later_judgement_takes_the_place_of_the_earlier() -> None:
    found = after([graded(1, 0.0), graded(2, 1.0), graded(1, 1.0)])
    assert (found.n, found.right) == (2, 1.0)


def test_what_was_blended_once_is_not_counted_against_the_blend() -> None:
    moved = Offset(mean=1.0).moved(0.5, 0.4, 0.6)[0]
    candidate = Candidate(strategy="direct", quality=moved, offset=1.0, offset_sd=0.2)
    assert policy_quality(candidate) == pytest.approx(0.5)
    assert after([graded(1, 1.0, candidate=candidate)]).predicted == pytest.approx(0.5)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ANSWERS", 5)
    monkeypatch.setattr(module, "MOST_TENANTS", 3)
    blending = begun()
    for n in range(40):
        blending.judged("v1", graded(n, 1.0, tenant=f"tenant-{n // 10}"))
    known = [blending.of("v1", f"tenant-{n}", "m") for n in range(4)]
    counts = [found["direct"].n for found in known if found is not None]
    assert counts == [0, 5, 5, 5]


def test_a_restart_comes_to_the_same_offsets_also_of_what_was_judged_meanwhile() -> None:
    answers = [graded(n, float(n % 3 > 0), strategy=NAMES[n % 3]) for n in range(30)]

    def past(version: str, judged: list[GradedAnswer]) -> Blending:
        return Blending.of_past(version, judged, concentration=10.0)

    whole, again = past("v1", answers), begun()
    again.judged("v1", answers[-1])  # the log is being read
    again.adopt(past("v1", answers[:-1]))
    ours, theirs = (one.of("v1", "acme", "m") for one in (again, whole))
    assert ours is not None
    assert theirs is not None
    for name, offset in ours.items():
        assert offset.mean == pytest.approx(theirs[name].mean, abs=0.02)
        assert offset.n == theirs[name].n
    again.adopt(past("v0", [graded(99, 0.0)]))  # read for a policy that serves no more
    assert again.of("v1", "acme", "m") == ours
    assert past("v1", []).of("v1", "acme", "m") == begun().of("v1", "acme", "m")


@settings(deadline=None)
@given(
    quality=shares,
    below=st.floats(0, 0.4),
    above=st.floats(0, 0.4),
    mean=st.floats(-3, 3),
    sd=st.floats(0, 2),
)
def test_a_moved_interval_holds_its_quality_and_is_no_narrower(
    quality: float, below: float, above: float, mean: float, sd: float
) -> None:
    low, high = max(0.001, quality - below), min(0.999, quality + above)
    moved, moved_low, moved_high = Offset(mean=mean, sd=sd).moved(quality, low, high)
    assert 0 <= moved_low <= moved + 1e-9
    assert moved <= moved_high + 1e-9
    assert moved_high <= 1
    assert (moved - quality) * mean >= -1e-12
    still, still_low, still_high = Offset(sd=sd).moved(quality, low, high)
    assert still == quality
    assert still_low <= low + 1e-9
    assert still_high >= high - 1e-9


def test_the_record_gives_back_the_offsets_it_was_made_with() -> None:
    candidates = [
        Candidate(strategy="direct", quality=0.6, offset=0.3, offset_sd=0.2, graded=5),
        Candidate(strategy="learned:low", excluded="nothing learned"),
        Candidate(strategy="effort:low", quality=0.4, offset=0.0, offset_sd=0.5),
    ]
    found = logged_offsets(candidates)
    assert {name: (one.mean, one.sd) for name, one in found.items()} == {
        "direct": (0.3, 0.2),
        "effort:low": (0.0, 0.5),
    }


def simulated(
    rng: np.random.Generator, strength: Strength, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    offset = rng.normal(0, strength.shared_sd) + rng.normal(0, strength.own_sd, len(NAMES))
    place, logit = rng.integers(len(NAMES), size=n), rng.normal(0, 1, n)
    right = rng.random(n) < 1 / (1 + np.exp(-(logit + offset[place])))
    return offset, logit, right.astype(float), np.ones(n), place


def test_the_offsets_interval_covers_the_true_offset() -> None:
    rng, strength, inside = np.random.default_rng(1), Strength(0.6, 0.4), []
    for _ in range(150):
        offset, logit, right, weight, place = simulated(rng, strength, 60)
        mean, sd = posterior(logit, right, weight, place, strength)
        inside.append(np.abs(offset - mean) < 1.645 * sd)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize("shared_sd", [0.1, 1.6])
def test_the_strength_is_found_from_many_tenants(shared_sd: float) -> None:
    rng, true = np.random.default_rng(2), Strength(shared_sd, 0.2)
    scores = [score(*simulated(rng, true, 60)[1:]) for _ in range(80)]
    found = fit_strength(scores)
    assert found.shared_sd == pytest.approx(true.shared_sd, rel=1.01)
    assert found.own_sd <= 0.4


def test_one_tenant_leaves_the_strength_near_what_was_expected() -> None:
    scores = [score(*simulated(np.random.default_rng(3), Strength(0.4, 0.4), 40)[1:])]
    found = fit_strength(scores, STRENGTH)
    assert 0.2 <= found.shared_sd <= 0.8
    assert 0.2 <= found.own_sd <= 0.8
