"""Exploration: propensities that are exact, whatever shares the probability."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from forethought.router.allocation import Preferences, acceptable, preferred, with_propensities
from forethought.router.exploration import log_odds_sd, probability_best, softmax
from forethought.router.records import Candidate
from forethought.router.strategies import STRATEGIES

NAMES = tuple(STRATEGIES)
KINDS = ("epsilon", "softmax", "thompson")

kinds = st.sampled_from(KINDS)
shares = st.floats(0, 1)
temperatures = st.floats(1e-6, 1e-2)


@st.composite
def candidate_sets(draw: st.DrawFn, *, least: int = 1) -> list[Candidate]:
    """Predicted candidates with intervals; direct always is admissible."""
    found = []
    n = draw(st.integers(least, len(NAMES)))
    for place, name in enumerate(NAMES):
        if place >= n:
            found.append(Candidate(strategy=name, excluded="not now"))
            continue
        low, quality, high = sorted(draw(st.tuples(shares, shares, shares)))
        found.append(
            Candidate(
                strategy=name, quality=quality, quality_low=low, quality_high=high,
                utility=draw(st.floats(-0.01, 0.01)),
            )
        )  # fmt: skip
    return found


def propensities(found: list[Candidate], preferences: Preferences) -> dict[str, float]:
    return {c.strategy: c.propensity for c in with_propensities(found, preferences)}


def preferences(kind: Any, **changes: Any) -> Preferences:
    return replace(Preferences(exploration_kind=kind), **changes)


@settings(deadline=None)
@given(found=candidate_sets(), kind=kinds, exploration=shares, temperature=temperatures)
def test_propensities_sum_to_one_and_hold_the_floor(
    found: list[Candidate], kind: str, exploration: float, temperature: float
) -> None:
    drawn = propensities(
        found, preferences(kind, exploration=exploration, temperature_usd=temperature)
    )
    admissible = [c.strategy for c in found if c.excluded is None]
    assert sum(drawn.values()) == pytest.approx(1)
    floor = exploration / len(admissible)
    assert all(drawn[name] >= floor - 1e-12 for name in admissible)
    assert all(drawn[c.strategy] == 0 for c in found if c.excluded is not None)


@settings(deadline=None)
@given(found=candidate_sets(), kind=kinds, margin=shares)
def test_outside_of_the_quality_bound_there_is_the_floor_and_no_more(
    found: list[Candidate], kind: str, margin: float
) -> None:
    wanted = preferences(kind, quality_margin=margin, exploration=0.1)
    held = {c.strategy for c in acceptable(found, wanted)}
    admissible = [c.strategy for c in found if c.excluded is None]
    drawn = propensities(found, wanted)
    for name in admissible:
        if name not in held:
            assert drawn[name] == pytest.approx(0.1 / len(admissible))


@settings(deadline=None)
@given(found=candidate_sets(least=2), kind=kinds, place=st.integers(0, 4), more=st.floats(0, 0.01))
def test_a_strategy_that_is_worth_more_is_chosen_no_less(
    found: list[Candidate], kind: str, place: int, more: float
) -> None:
    wanted = preferences(kind, quality_margin=1.0, temperature_usd=0.001)
    own = found[place]
    better = [
        replace(c, utility=c.utility + more) if c is own and c.utility is not None else c
        for c in found
    ]
    before, after = (propensities(one, wanted)[own.strategy] for one in (found, better))
    assert after >= before - 2e-3  # the integral's error


@settings(deadline=None)
@given(found=candidate_sets(least=2), width=st.floats(0, 0.3))
def test_what_is_equally_uncertain_is_chosen_in_the_order_of_utility(
    found: list[Candidate], width: float
) -> None:
    alike = [
        replace(c, quality=0.5, quality_low=0.5 - width, quality_high=0.5 + width)
        for c in found
        if c.excluded is None
    ]
    for kind in ("softmax", "thompson"):
        drawn = propensities(alike, preferences(kind))
        order = sorted(alike, key=lambda c: c.utility or 0.0)
        chances = [drawn[c.strategy] for c in order]
        assert np.all(np.diff(chances) >= -2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_candidate_has_it_all(kind: str) -> None:
    only = [Candidate(strategy="direct", quality=0.4, utility=0.1)]
    assert propensities(only, preferences(kind)) == {"direct": 1.0}


@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_two_that_are_surely_alike_share_evenly(quality: float) -> None:
    assert probability_best([0.01, 0.01], [quality] * 2, [0.0, 0.0], 1e-3) == pytest.approx(
        [0.5, 0.5]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_are_the_logged_propensities(kind: str) -> None:
    predicted = {"direct": (0.5, 0.0), "effort:low": (0.5, 1e-4), "effort:high": (0.6, -1e-4)}
    found = [
        Candidate(strategy=name, quality=q, quality_low=q - 0.1, quality_high=q + 0.1, utility=u)
        for name, (q, u) in predicted.items()
    ]
    drawn = with_propensities(found, preferences(kind, exploration=0.2))
    rng, n = random.Random(7), 20_000
    counts = Counter(c.strategy for c in rng.choices(drawn, [c.propensity for c in drawn], k=n))
    expected = [n * c.propensity for c in drawn]
    assert chisquare([counts[c.strategy] for c in drawn], expected).pvalue > 0.001


@settings(deadline=None, max_examples=25)
@given(found=candidate_sets(least=2), value=st.floats(1e-4, 1e-2))
def test_thompsons_probabilities_are_those_of_drawing_from_the_posteriors(
    found: list[Candidate], value: float
) -> None:
    known = [c for c in found if c.excluded is None]
    q = np.array([c.quality for c in known], float)
    u = np.array([c.utility for c in known], float)
    sd = np.array([log_odds_sd(c.quality or 0, c.quality_low, c.quality_high) for c in known])
    inside = np.clip(q, 1e-9, 1 - 1e-9)
    centre = np.log(inside / (1 - inside))
    z = np.random.default_rng(0).standard_normal((40_000, len(known)))
    drawn = u + value * (1 / (1 + np.exp(-(centre + np.maximum(sd, 1e-4) * z))) - inside)
    best = drawn == drawn.max(axis=1, keepdims=True)  # at the edges floating point makes ties
    frequency = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    computed = probability_best(u.tolist(), q.tolist(), sd.tolist(), value)
    # Four standard deviations of the draws, and the integral's own error.
    assert np.abs(frequency - computed).max() < 4 * 0.0025 + 0.005


def test_what_is_uncertain_is_tried_more_often_and_less_once_it_is_known() -> None:
    def chance(width: float) -> float:
        found = [
            Candidate(strategy="direct", quality=0.6, quality_low=0.6, quality_high=0.6,
                      utility=1e-4),
            Candidate(strategy="effort:low", quality=0.5, quality_low=0.5 - width,
                      quality_high=0.5 + width, utility=0.0),
        ]  # fmt: skip
        wanted = preferences("thompson", quality_margin=1.0, exploration=0.0)
        return propensities(found, wanted)["effort:low"]

    assert chance(0.4) > chance(0.2) > chance(0.05) > chance(0.0) == pytest.approx(0, abs=1e-6)


def test_softmax_at_no_temperature_is_greedy_and_at_a_high_one_even() -> None:
    utilities = [0.001, 0.002, 0.0015]
    assert softmax(utilities, 1e-9) == pytest.approx([0, 1, 0])
    assert softmax(utilities, 1e3) == pytest.approx([1 / 3] * 3, abs=1e-5)
    one, other = softmax([0.0, -1e-4], 1e-4)
    assert one / other == pytest.approx(np.e)


@settings(deadline=None)
@given(found=candidate_sets(), kind=kinds)
def test_the_policys_own_choice_does_not_depend_on_how_it_explores(
    found: list[Candidate], kind: str
) -> None:
    assert preferred(found, preferences(kind)) == preferred(found, Preferences())


def test_a_floor_of_quality_leaves_nothing_to_sample() -> None:
    found = [
        Candidate(strategy="direct", quality=0.9, quality_low=0.5, quality_high=1.0, utility=-2e-4),
        Candidate(strategy="effort:low", quality=0.9, quality_low=0.5, quality_high=1.0,
                  utility=-1e-4),
    ]  # fmt: skip
    wanted = Preferences.with_floor(0.5, exploration_kind="thompson", exploration=0.1)
    assert propensities(found, wanted) == pytest.approx({"direct": 0.05, "effort:low": 0.95})
