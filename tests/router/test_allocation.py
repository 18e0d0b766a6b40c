from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.router.allocation import (
    Preferences,
    SleepPlan,
    acceptable,
    plan_sleep,
    utility,
    with_propensities,
)
from forethought.router.records import Candidate
from forethought.router.strategies import STRATEGIES

NAMES = tuple(STRATEGIES)

shares = st.floats(0, 1)
usd = st.floats(0, 0.01)


@st.composite
def candidate_sets(draw: st.DrawFn) -> list[Candidate]:
    """Candidates of every strategy; direct always is admissible."""
    found = []
    for name in NAMES:
        if name != "direct" and draw(st.booleans()):
            found.append(Candidate(strategy=name, excluded="not now"))
            continue
        found.append(
            Candidate(strategy=name, quality=draw(shares), utility=draw(st.floats(-0.01, 0.01)))
        )
    return found


def candidates(**quality_and_utility: tuple[float, float]) -> list[Candidate]:
    return [
        Candidate(strategy=name.replace("_", ":"), quality=quality, utility=its_utility)
        for name, (quality, its_utility) in quality_and_utility.items()
    ]


def chosen(found: list[Candidate], preferences: Preferences | None = None) -> str:
    drawn = with_propensities(found, preferences or Preferences())
    return max(drawn, key=lambda c: c.propensity).strategy


@settings(deadline=None)
@given(found=candidate_sets(), exploration=shares)
def test_propensities_are_a_distribution_with_a_floor(
    found: list[Candidate], exploration: float
) -> None:
    drawn = with_propensities(found, Preferences(exploration=exploration))
    admissible = [c for c in drawn if c.excluded is None]
    assert [c.strategy for c in drawn] == list(NAMES)
    assert sum(c.propensity for c in drawn) == pytest.approx(1)
    assert all(c.propensity == 0 for c in drawn if c.excluded is not None)
    floor = exploration / len(admissible)
    others = sorted(c.propensity for c in admissible)[:-1]
    assert others == pytest.approx([floor] * len(others))


@settings(deadline=None)
@given(found=candidate_sets())
def test_the_likeliest_strategy_has_the_best_utility_within_the_quality_bound(
    found: list[Candidate],
) -> None:
    preferences = Preferences()
    held = {c.strategy: c.utility for c in acceptable(found, preferences)}
    best = chosen(found, preferences)
    assert best in held
    assert held[best] == max(u for u in held.values() if u is not None)


@given(found=candidate_sets())
def test_nothing_but_the_propensity_is_set(found: list[Candidate]) -> None:
    drawn = with_propensities(found, Preferences())
    assert [replace(c, propensity=0.0) for c in drawn] == found
    assert all(c.propensity == 0.0 for c in found)


def test_propensities_are_the_frequencies_of_the_draws() -> None:
    found = candidates(direct=(0.5, 0.1), effort_low=(0.5, 0.3), learned_low=(0.5, 0.2))
    found.append(Candidate(strategy="learned:high", excluded="nothing learned"))
    drawn = with_propensities(found, Preferences(exploration=0.3))
    rng, n = random.Random(3), 20_000
    counts = Counter(c.strategy for c in rng.choices(drawn, [c.propensity for c in drawn], k=n))
    assert counts["learned:high"] == 0
    for c in drawn:
        # Four standard deviations of a binomial share.
        tolerance = 4 * math.sqrt(c.propensity * (1 - c.propensity) / n)
        assert counts[c.strategy] / n == pytest.approx(c.propensity, abs=tolerance + 1e-12)


def test_a_utility_of_exactly_zero_beats_a_negative_one() -> None:
    assert chosen(candidates(direct=(0.5, -0.001), effort_low=(0.5, 0.0))) == "effort:low"


def test_nothing_is_drawn_where_everything_is_excluded() -> None:
    with pytest.raises(ValueError, match="no admissible candidate"):
        with_propensities([Candidate(strategy="direct", excluded="broken")], Preferences())


def test_a_candidate_without_a_prediction_is_explored_but_never_preferred() -> None:
    found = [Candidate(strategy="direct"), *candidates(effort_low=(0.1, -1.0))]
    drawn = with_propensities(found, Preferences(exploration=0.1))
    assert [c.propensity for c in drawn] == pytest.approx([0.05, 0.95])


@settings(deadline=None)
@given(found=candidate_sets(), margin=shares, floor=shares)
def test_the_quality_bound_is_respected(
    found: list[Candidate], margin: float, floor: float
) -> None:
    preferences = Preferences(quality_margin=margin, quality_floor=floor)
    quality = {c.strategy: c.quality or 0.0 for c in found if c.excluded is None}
    bound = max(floor, quality["direct"] - margin)
    picked = chosen(found, preferences)
    # Where nothing holds the bound, the best there is has to do.
    assert quality[picked] >= bound or quality[picked] == max(quality.values()) < bound


@pytest.mark.parametrize(
    ("learned_quality", "picked"),
    [
        pytest.param(0.48, "learned:low", id="within the margin"),
        pytest.param(0.47, "direct", id="below it"),
    ],
)
def test_a_cheaper_strategy_is_taken_only_within_the_margin(
    learned_quality: float, picked: str
) -> None:
    found = candidates(direct=(0.5, 0.0), learned_low=(learned_quality, 1.0))
    assert chosen(found, Preferences(quality_margin=0.02 + 1e-9)) == picked


@settings(deadline=None)
@given(
    quality=shares,
    value=usd,
    latency_price=usd,
    latency_ms=st.floats(0, 1e5),
    costs=st.tuples(usd, usd),
)
def test_utility_falls_with_cost_and_latency_and_rises_with_quality(
    quality: float,
    value: float,
    latency_price: float,
    latency_ms: float,
    costs: tuple[float, float],
) -> None:
    preferences = Preferences(value_usd=value, latency_usd_per_s=latency_price)

    def u(*, quality: float = quality, cost: float | None, latency_ms: float = latency_ms) -> float:
        return utility(quality, cost_usd=cost, latency_ms=latency_ms, preferences=preferences)

    low, high = sorted(costs)
    assert u(cost=low) - u(cost=high) == pytest.approx(high - low, abs=1e-12)
    assert u(cost=low) >= u(cost=high)
    assert u(cost=low, latency_ms=latency_ms + 1000) <= u(cost=low)
    assert u(cost=low, quality=min(1.0, quality + 0.1)) >= u(cost=low)
    assert u(cost=None) == u(cost=0.0)


# Ski rental. A context gets n queries in all; every one that comes before sleep costs one saving,
# sleep costs b savings. Sleep is planned after each query, as the router does it, so what was
# bought after k queries cost k + b: the k queries before were paid for too.

Forecast = Callable[[int], float]


def plan(n_queries: int, expected_more: float, *, break_even: float, trust: float) -> SleepPlan:
    return plan_sleep(
        n_queries=n_queries,
        expected_more=expected_more,
        saving_per_query_usd=0.001,
        sleep_cost_usd=0.001 * break_even,
        trust=trust,
    )


def cost_in_savings(n: int, *, break_even: float, trust: float, forecast: Forecast) -> float:
    for seen in range(1, n + 1):
        if plan(seen, forecast(seen), break_even=break_even, trust=trust).buy:
            return seen + break_even
    return float(n)


def optimum_in_savings(n: int, break_even: float) -> float:
    """In hindsight: buy before the first query, or never."""
    return min(float(n), break_even)


# Buying waits for a whole number of queries, so it comes up to one query after trust * b or
# b / trust. (A millionth more is for rounding in the products.)
ONE_QUERY = 1 + 1e-6

break_evens = st.floats(0.05, 60)
trusts = st.floats(0.05, 1)
arrivals = st.integers(1, 400)


@settings(deadline=None)
@given(
    n=arrivals,
    break_even=break_evens,
    trust=trusts,
    forecasts=st.lists(st.floats(0, 1e6), min_size=1, max_size=20),
)
def test_no_forecast_however_wrong_costs_more_than_the_bound(
    n: int, break_even: float, trust: float, forecasts: list[float]
) -> None:
    cost = cost_in_savings(
        n,
        break_even=break_even,
        trust=trust,
        forecast=lambda seen: forecasts[seen % len(forecasts)],
    )
    optimum = optimum_in_savings(n, break_even)
    assert cost <= (1 + 1 / trust) * optimum + ONE_QUERY


@settings(deadline=None)
@given(break_even=break_evens, trust=trusts, likely=st.booleans())
def test_the_bound_holds_when_the_adversary_stops_right_after_the_purchase(
    break_even: float, trust: float, likely: bool
) -> None:
    forecast = 1e6 if likely else 0.0
    bought_at = next(
        seen
        for seen in range(1, 2000)
        if plan(seen, forecast, break_even=break_even, trust=trust).buy
    )
    assert bought_at <= break_even / trust + 1
    cost = bought_at + break_even
    assert cost <= (1 + 1 / trust) * optimum_in_savings(bought_at, break_even) + ONE_QUERY


@settings(deadline=None)
@given(n=arrivals, break_even=break_evens, trust=trusts)
def test_a_right_forecast_costs_little_more_than_hindsight(
    n: int, break_even: float, trust: float
) -> None:
    cost = cost_in_savings(
        n, break_even=break_even, trust=trust, forecast=lambda seen: float(n - seen)
    )
    assert cost <= (1 + trust) * optimum_in_savings(n, break_even) + ONE_QUERY


@settings(deadline=None)
@given(n=arrivals, expected=st.floats(0, 1e6))
def test_where_nothing_is_rounded_the_bound_holds_without_an_allowance(
    n: int, expected: float
) -> None:
    # At trust 1 the forecast does not matter: the classical twice the optimum.
    cost = cost_in_savings(n, break_even=7, trust=1, forecast=lambda _: expected)
    assert cost <= 2 * optimum_in_savings(n, 7)


@settings(deadline=None)
@given(
    saving=st.one_of(st.floats(-1, 0), st.just(math.nan), st.just(5e-324)),
    n=st.integers(0, 10**6),
    sleep_cost=st.floats(0, 1),
    expected=st.floats(0, 1e9),
)
def test_nothing_is_bought_that_saves_nothing(
    saving: float, n: int, sleep_cost: float, expected: float
) -> None:
    made = plan_sleep(
        n_queries=n,
        expected_more=expected,
        saving_per_query_usd=saving,
        sleep_cost_usd=max(sleep_cost, 1e-9),
        trust=0.5,
    )
    assert not made.buy
    assert (made.break_even, made.buy_at) == (None, None)
    assert "not expected to save" in made.reason


def test_a_plan_says_why() -> None:
    wait = plan(1, 9.0, break_even=6.0, trust=0.5)
    assert (wait.buy, wait.buy_at) == (False, 3)
    assert wait.break_even == pytest.approx(6)
    assert wait.reason == (
        "10.0 queries are expected and sleep breaks even at 6.0; it is bought at 3, 1 came"
    )
    assert plan(3, 7.0, break_even=6.0, trust=0.5).buy
    assert plan(3, 0.0, break_even=6.0, trust=0.5).buy_at == 12


def test_free_sleep_is_bought_at_once() -> None:
    assert plan(0, 1.0, break_even=0.0, trust=0.5).buy


@settings(deadline=None)
@given(quality=shares, cost=usd, low=st.floats(0.1, 5), more=st.floats(0, 5))
def test_the_scarcer_money_is_the_less_a_cost_is_worth(
    quality: float, cost: float, low: float, more: float
) -> None:
    def at(multiplier: float) -> float:
        wanted = Preferences(cost_multiplier=multiplier)
        return utility(quality, cost_usd=cost, latency_ms=100.0, preferences=wanted)

    assert at(low + more) <= at(low)
    assert at(low) - at(low + more) == pytest.approx(more * cost, abs=1e-12)


@settings(deadline=None)
@given(
    floor=shares,
    found=st.dictionaries(st.sampled_from(NAMES), st.tuples(shares, usd), min_size=1),
)
def test_a_floor_takes_the_cheapest_that_holds_it(
    floor: float, found: dict[str, tuple[float, float]]
) -> None:
    wanted = Preferences.with_floor(floor, latency_usd_per_s=0.0, exploration=0.0)
    predicted = [
        Candidate(
            strategy=name,
            quality=quality,
            cost_usd=cost,
            utility=utility(quality, cost_usd=cost, latency_ms=1.0, preferences=wanted),
        )
        for name, (quality, cost) in found.items()
    ]
    quality, cost = found[chosen(predicted, wanted)]
    holding = [own for own in found.values() if own[0] >= floor]
    if holding:
        assert quality >= floor
        assert cost == min(own[1] for own in holding)
    else:
        assert quality == max(own[0] for own in found.values())
