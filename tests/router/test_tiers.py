"""What ski rental with a forecast promises, whatever the forecast says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.models.demand import DemandModel
from forethought.router.records import SleepLevel
from forethought.router.tiers import (
    CAUTION,
    STANDARD,
    Forecast,
    Offer,
    Option,
    Tier,
    choose,
    options,
    plan,
)

SAVING_USD = 0.001
FLEX = Tier(name="flex", price_multiplier=0.5, wait_s=600)

break_evens = st.floats(0.02, 60)
trusts = st.floats(0.05, 1)
gaps = st.lists(st.sampled_from([0.0, 1.0, 30.0, 700.0, 1e5]), min_size=0, max_size=150)


@dataclass(frozen=True)
class Says:
    """A forecast of ``more`` further queries, by the number seen; none is late."""

    more: Callable[[int], float]

    def p_another(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        return min(1.0, self.expected_more(n_seen, idle_s=idle_s))

    def expected_more(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        return self.more(n_seen)

    def expected_after(self, n_seen: int, delay_s: float, *, idle_s: float = 0.0) -> float:
        return self.more(n_seen)


def offer(break_even: float, *, drafts: int = 3, saving: float = SAVING_USD) -> Offer:
    return Offer(
        level=SleepLevel(drafts=drafts),
        cost_usd=break_even * saving,
        saving_per_query_usd=saving,
        duration_s=5,
    )


def at(
    arrivals_s: list[float], found: list[Option], forecast: Forecast, trust: float
) -> tuple[int, Option, int] | None:
    """(k, option, D): bought after k queries, of which D more came before it was ready."""
    for k, now in enumerate(arrivals_s, start=1):
        option = choose(found, forecast, n_queries=k, trust=trust)
        if option is not None:
            waiting = sum(now < t <= now + option.ready_s for t in arrivals_s[k:])
            # What comes at the very same time also is too early.
            return k, option, waiting + sum(t == now for t in arrivals_s[k:])
    return None


def times_of(between_s: list[float]) -> list[float]:
    found = [0.0]
    for gap in between_s:
        found.append(found[-1] + gap)
    return found


@settings(deadline=None, max_examples=300)
@given(
    between_s=gaps,
    evens=st.lists(break_evens, min_size=1, max_size=3),
    with_flex=st.booleans(),
    trust=trusts,
    said=st.lists(st.sampled_from([0.0, 0.3, 2.0, 50.0, 1e9]), min_size=1, max_size=9),
)
def test_no_forecast_and_no_tier_cost_more_than_the_bound(
    between_s: list[float], evens: list[float], with_flex: bool, trust: float, said: list[float]
) -> None:
    arrivals = times_of(between_s)
    n = len(arrivals)
    tiers = [STANDARD, FLEX] if with_flex else [STANDARD]
    found = options([offer(b, drafts=i + 1) for i, b in enumerate(evens)], tiers)
    bought = at(arrivals, found, Says(lambda k: said[k % len(said)]), trust)
    if bought is None:  # then it was not worth it for anyone yet
        assert n < max(2, math.ceil(min(o.break_even for o in found) / trust))
        return
    k, option, waited = bought
    b = option.break_even
    cost = k + b + waited
    first = 2 if b < trust else 1
    assert cost <= (1 + 1 / trust) * n + 1e-6
    assert cost <= (1 + 1 / trust) * min(n, b) + first + waited + 1e-6


@settings(deadline=None, max_examples=200)
@given(n=st.integers(1, 300), break_even=break_evens, trust=trusts)
def test_an_inverted_forecast_is_within_the_bound(n: int, break_even: float, trust: float) -> None:
    found = options([offer(break_even)], [STANDARD])
    wrong = Says(lambda k: 0.0 if n - k >= break_even else 1e9)
    bought = at([1e3 * i for i in range(n)], found, wrong, trust)
    cost = n if bought is None else bought[0] + break_even + bought[2]
    assert cost <= (1 + 1 / trust) * min(n, break_even) + 2 + 1e-6
    assert cost <= (1 + 1 / trust) * n + 1e-6


@settings(deadline=None, max_examples=200)
@given(
    n=st.integers(1, 300), break_even=break_evens, trust=st.floats(0.05, 1 / (1 + CAUTION + 0.5))
)
def test_a_right_forecast_costs_little_more_than_hindsight(
    n: int, break_even: float, trust: float
) -> None:
    found = options([offer(break_even)], [STANDARD])
    bought = at([1e3 * i for i in range(n)], found, Says(lambda k: float(n - k)), trust)
    cost = n if bought is None else bought[0] + break_even + bought[2]
    assert cost <= (1 + trust + CAUTION) * min(n, break_even) + 1 + 1e-6


@pytest.mark.parametrize(
    ("next_in_s", "tier"),
    [pytest.param(20_000.0, "flex", id="time enough"), pytest.param(60.0, "standard", id="soon")],
)
def test_the_cheap_tier_is_taken_where_the_next_query_is_far_off(
    next_in_s: float, tier: str
) -> None:
    @dataclass(frozen=True)
    class OneMore(Says):
        def expected_after(self, n_seen: int, delay_s: float, *, idle_s: float = 0.0) -> float:
            return 1.0 if delay_s < next_in_s else 0.0

    found = options([offer(0.4)], [STANDARD, FLEX])
    chosen = choose(found, OneMore(lambda _: 1.0), n_queries=1, trust=0.5)
    assert chosen is not None
    assert chosen.tier == tier


@pytest.mark.parametrize(
    ("expected", "level"),
    [pytest.param(4.0, "k1r1", id="few"), pytest.param(40.0, "k10r1", id="many")],
)
def test_more_sleep_is_bought_only_where_its_extra_gain_is_above_its_extra_price(
    expected: float, level: str
) -> None:
    small, large = offer(1, drafts=1), offer(4, drafts=10, saving=1.5 * SAVING_USD)
    found = options([small, large], [STANDARD])
    chosen = choose(found, Says(lambda _: expected), n_queries=9, trust=0.5)
    assert chosen is not None
    assert chosen.level.name == level


def test_it_waits_for_a_query_that_tells_more_than_it_costs() -> None:
    # Of contexts with one query, a third goes on: buying now would be for nothing in two of three.
    demand = DemandModel(alpha=1.8, beta=0.9)
    assert demand.expected_more(1) > 1.1
    found = options([offer(0.6)], [STANDARD])
    assert choose(found, demand, n_queries=1, trust=0.5) is None
    assert choose(found, demand, n_queries=2, trust=0.5) is not None


@given(n=st.integers(1, 40), break_even=break_evens, trust=trusts, idle_s=st.floats(0, 1e5))
def test_a_plan_says_what_the_choice_will_be(
    n: int, break_even: float, trust: float, idle_s: float
) -> None:
    found, demand = options([offer(break_even)], [STANDARD, FLEX]), DemandModel()
    made = plan(found, demand, n_queries=n, trust=trust, idle_s=idle_s)
    chosen = choose(found, demand, n_queries=n, trust=trust, idle_s=idle_s)
    assert made.buy == (chosen is not None)
    assert made.buy_at is not None
    if chosen is None:
        assert made.buy_at > n
        assert choose(found, demand, n_queries=made.buy_at, trust=trust) is not None
    else:
        assert (made.level, made.tier) == (chosen.level.name, chosen.tier)


@pytest.mark.parametrize("saving", [0.0, -1.0, math.nan, 5e-324])
def test_nothing_is_bought_that_saves_nothing(saving: float) -> None:
    found = [
        Option(
            level=SleepLevel(), tier="standard", cost_usd=1, saving_per_query_usd=saving, ready_s=1
        )
    ]
    made = plan(found, Says(lambda _: 1e9), n_queries=10**6, trust=0.5)
    assert not made.buy
    assert (made.level, made.buy_at, made.break_even) == (None, None, None)
    assert "not expected to save" in made.reason


def test_a_plan_says_why() -> None:
    found = options([offer(2.0)], [STANDARD])
    made = plan(found, Says(lambda _: 9.0), n_queries=1, trust=0.5)
    assert made.reason == (
        "10.0 queries are expected, 9.0 of them after k3r1 at standard prices is ready, and sleep "
        "breaks even at 2.0; 1 came: buy"
    )
    assert made.expected_gain_usd == pytest.approx(9 * SAVING_USD - 2 * SAVING_USD)
