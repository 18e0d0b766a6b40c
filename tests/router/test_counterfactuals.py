"""What is said to flip a choice does flip it, and nothing nearer does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forethought.router.allocation import Preferences, utility, with_propensities
from forethought.router.counterfactuals import Change, Lever, changes_for, considered
from forethought.router.records import Candidate

NAMES = ("direct", "effort:low", "effort:high", "learned:low", "learned:high")
PREFERRED = ("value_usd", "latency_usd_per_s", "quality_margin", "quality_floor",
             "cost_multiplier")  # fmt: skip


def candidate(name: str, quality: float, cost: float | None, latency_ms: float) -> Candidate:
    return Candidate(
        strategy=name,
        quality=quality,
        quality_low=max(0.0, quality - 0.1),
        output_tokens=10.0,
        cost_usd=cost,
        latency_ms=latency_ms,
    )


def choice(candidates: Sequence[Candidate], preferences: Preferences) -> str:
    """What is chosen, written down anew: not by the code that is tested."""
    worth = [
        replace(
            c,
            utility=utility(
                c.quality or 0.0,
                cost_usd=c.cost_usd,
                latency_ms=c.latency_ms or 0.0,
                preferences=preferences,
            ),
        )
        for c in candidates
    ]
    drawn = with_propensities(worth, replace(preferences, exploration=0.0))
    return next(c.strategy for c in drawn if c.propensity == 1.0)


def moved(
    candidates: Sequence[Candidate],
    preferences: Preferences,
    strategy: str,
    lever: str,
    becomes: float,
) -> tuple[list[Candidate], Preferences]:
    change: dict[str, Any] = {lever: becomes}
    if lever in PREFERRED:
        return list(candidates), replace(preferences, **change)
    return [replace(c, **change) if c.strategy == strategy else c for c in candidates], preferences


shares = st.floats(0, 1).map(lambda x: round(x, 3))
candidate_lists = st.lists(
    st.tuples(
        shares,
        st.none() | st.floats(0, 0.01),
        st.floats(0, 30_000),
    ),
    min_size=2,
    max_size=5,
).map(lambda rows: [candidate(name, *row) for name, row in zip(NAMES, rows, strict=False)])
preference_sets = st.builds(
    Preferences,
    value_usd=st.just(0.0) | st.floats(1e-5, 0.02),
    latency_usd_per_s=st.just(0.0) | st.floats(1e-6, 0.0005),
    quality_margin=st.floats(0, 0.3),
    quality_floor=st.floats(0, 0.9),
    cost_multiplier=st.just(1.0) | st.floats(0.1, 10),
)


@settings(max_examples=60)
@given(candidate_lists, preference_sets)
def test_each_change_that_is_named_flips_the_choice(
    candidates: list[Candidate], preferences: Preferences
) -> None:
    before = choice(candidates, preferences)
    for name in {c.strategy for c in candidates}:
        changes = changes_for(name, candidates, preferences)
        assert name != before or not changes
        for change in changes:
            after = moved(candidates, preferences, name, change.lever, change.becomes)
            assert choice(*after) == name, change
            assert change.words


GRIDS: dict[Lever, list[float]] = {
    "quality": [n / 100 for n in range(101)],
    "cost_usd": [n / 5_000 for n in range(60)],
    "latency_ms": [n * 500.0 for n in range(80)],
    "value_usd": [n / 1_000 for n in range(101)],
    "latency_usd_per_s": [n / 50_000 for n in range(101)],
    "quality_margin": [n / 100 for n in range(101)],
    "quality_floor": [n / 100 for n in range(101)],
    "cost_multiplier": [n / 20 for n in range(1, 401)],
}


@settings(max_examples=60)
@given(candidate_lists, preference_sets, st.sampled_from(sorted(GRIDS)), st.data())
def test_no_nearer_value_flips_the_choice(
    candidates: list[Candidate], preferences: Preferences, lever: Lever, data: st.DataObject
) -> None:
    before = choice(candidates, preferences)
    name = data.draw(st.sampled_from([c.strategy for c in candidates]))
    assume(name != before)
    holder: object = preferences
    if lever not in PREFERRED:
        holder = next(c for c in candidates if c.strategy == name)
    was = getattr(holder, lever)
    assume(was is not None)
    # Without a budget there is no multiplier to speak of.
    assume(lever != "cost_multiplier" or was != 1.0)
    flipping = [
        value
        for value in GRIDS[lever]
        if choice(*moved(candidates, preferences, name, lever, value)) == name
    ]
    said = {c.lever: c for c in changes_for(name, candidates, preferences)}
    assert said.keys() >= ({lever} if flipping else set())
    if flipping:
        nearest = min(abs(value - was) for value in flipping)
        # What is said is rounded: to tenths of a point, or to two digits.
        rounding = 0.003 if lever in {"quality", "quality_margin", "quality_floor"} else 0.0
        change = said[lever]
        assert abs(change.becomes - was) <= nearest + rounding + 0.11 * abs(change.becomes)


def found(name: str, candidates: list[Candidate], preferences: Preferences) -> dict[str, Change]:
    return {c.lever: c for c in changes_for(name, candidates, preferences)}


def test_changes_are_said_in_plain_words() -> None:
    candidates = [
        candidate("direct", 0.50, 0.0010, 4000),
        candidate("learned:low", 0.46, 0.0004, 1000),
    ]
    preferences = Preferences(value_usd=0.02)
    changes = found("learned:low", candidates, preferences)
    assert changes["quality"].words == (
        "its predicted accuracy were 2 points higher (48% instead of 46.0%)"
    )
    # 0.0006 USD and 3 s at 0.00002 USD are saved; 0.04 of a value are lost: worth it up to 0.0165.
    assert "quality_margin" not in changes
    tolerant = replace(preferences, value_usd=0.002)
    assert found("learned:low", candidates, tolerant)["quality_margin"].words == (
        "the quality margin were 4 points instead of 2"
    )
    generous = replace(preferences, quality_margin=0.05)
    changes = found("learned:low", candidates, generous)
    assert changes["value_usd"].words == ("a right answer were worth 0.016 USD instead of 0.02 USD")
    assert changes["latency_usd_per_s"].words == (
        "a second's wait cost 0.000067 USD instead of 0.00002 USD"
    )
    assert changes["cost_usd"].words == "it cost 0.000259 USD instead of 0.0004 USD"
    assert "latency_ms" not in changes  # even at once it would not win


def test_the_worth_of_an_answer_need_not_be_monotone() -> None:
    """In the middle the cascade's rung wins: too little worth picks another, too much a third."""
    candidates = [
        candidate("direct", 0.50, 0.0001, 0),
        candidate("effort:high", 0.60, 0.0003, 0),
        candidate("learned:high", 0.70, 0.0010, 0),
    ]
    change = found("effort:high", candidates, Preferences(value_usd=0.02))["value_usd"]
    assert math.isclose(change.becomes, 0.007, rel_tol=0.03)
    change = found("effort:high", candidates, Preferences(value_usd=0.001))["value_usd"]
    assert math.isclose(change.becomes, 0.002, rel_tol=0.06)


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param(
            Candidate(strategy="a", excluded="no", quality=0.5, utility=1.0), id="excluded"
        ),
        pytest.param(Candidate(strategy="a", propensity=1.0), id="not predicted"),
        pytest.param(Candidate(strategy="a", quality=0.5), id="only on request"),
    ],
)
def test_what_the_policy_could_not_choose_is_not_considered(left_out: Candidate) -> None:
    assert considered([left_out]) == ()
