from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.pacing import PATTERNS, budget_of, by_day, paced, queries
from forethought.router.pacing import (
    DAY_S,
    HIGHEST,
    LOWEST,
    ArrivalForecast,
    Pacer,
    multiplier_for,
)

HOUR = 3600.0


@pytest.mark.parametrize(
    ("pattern", "off"),
    [
        pytest.param("even", 0.02, id="even"),
        pytest.param("day and night", 0.02, id="day and night"),
        pytest.param("office hours", 0.02, id="office hours"),
        pytest.param("early", 0.03, id="early"),
        pytest.param("late", 0.02, id="late"),
        pytest.param("bursts", 0.05, id="bursts: one session more or less in the last hour"),
    ],
)
def test_a_period_ends_near_its_budget_and_never_above(pattern: str, off: float) -> None:
    rng = np.random.default_rng(0)
    periods = [queries(PATTERNS[pattern](n, rng), rng) for n in (2000, 2400, 1700)]
    first, *later = paced(periods, budget_of(periods))
    assert first.spent <= 1
    for result in later:
        assert 1 - off <= result.spent <= 1


@pytest.mark.parametrize("drift", [0.5, 2.0])
def test_the_multiplier_follows_costs_that_drift(drift: float) -> None:
    rng = np.random.default_rng(1)
    periods = [queries(by_day(2500, rng), rng, drift) for _ in range(3)]
    for result in paced(periods, budget_of(periods))[1:]:
        assert 0.97 <= result.spent <= 1


def test_without_a_cap_nothing_is_refused_and_the_budget_is_still_aimed_at() -> None:
    rng = np.random.default_rng(2)
    periods = [queries(by_day(2500, rng), rng) for _ in range(3)]
    for result in paced(periods, budget_of(periods), hard=False)[1:]:
        assert result.refused == 0
        assert result.spent == pytest.approx(1, abs=0.03)


def test_dear_outcomes_raise_the_multiplier_and_cheap_ones_lower_it() -> None:
    dear, cheap = Pacer(budget_usd=1), Pacer(budget_usd=1)
    for i in range(50):
        for pacer in (dear, cheap):
            pacer.arrived(i * 600)
        dear.spent(i * 600, 0.02)
        cheap.spent(i * 600, 0.0001)
    assert cheap.multiplier < 1 < dear.multiplier


@settings(deadline=None)
@given(
    events=st.lists(st.tuples(st.floats(0, 3 * DAY_S), st.floats(0, 10)), max_size=60),
    budget=st.floats(0.001, 100),
)
def test_whatever_comes_the_multiplier_stays_within_its_bounds(
    events: list[tuple[float, float]], budget: float
) -> None:
    pacer = Pacer(budget_usd=budget)
    for at, cost in events:  # in no order: clocks may be set back
        pacer.arrived(at)
        pacer.spent(at, cost)
        assert LOWEST <= pacer.multiplier <= HIGHEST
        assert pacer.forecast.remaining(pacer.advance(at)) >= 1


def test_a_period_begins_at_midnight_with_nothing_spent() -> None:
    pacer = Pacer(budget_usd=1)
    pacer.spent(10 * DAY_S - 1, 0.4)
    pacer.slept(10 * DAY_S - 1, 0.1)
    assert (pacer.spent_usd, pacer.sleep_usd) == (0.5, 0.1)
    assert pacer.period_start(10 * DAY_S - 1) == 9 * DAY_S
    pacer.advance(10 * DAY_S)
    assert (pacer.spent_usd, pacer.sleep_usd) == (0, 0)


def test_sleep_leaves_less_for_the_queries() -> None:
    pacer = Pacer(budget_usd=1)
    pacer.arrived(0)
    before = pacer.share_usd(HOUR)
    pacer.slept(HOUR, 0.495)
    assert pacer.share_usd(HOUR) == pytest.approx(before / 2)


def test_the_forecast_learns_when_queries_come() -> None:
    forecast = ArrivalForecast()
    for _ in range(3):
        for i in range(900):  # all in the second quarter of a period
            forecast.arrived(0.25 + i / 3600)
        forecast.begin_period()
    assert forecast.remaining(0.0) == pytest.approx(900, rel=0.1)
    assert forecast.remaining(0.24) == pytest.approx(900, rel=0.1)
    for i in range(900):
        forecast.arrived(0.25 + i / 3600)
    assert forecast.remaining(0.5) < 60


def test_the_forecast_follows_a_busier_day_but_no_spike() -> None:
    def after(rate: int, spike: int) -> float:
        forecast = ArrivalForecast()
        for i in range(960):
            forecast.arrived(i / 960)
        forecast.begin_period()
        for i in range(480 * rate):
            forecast.arrived(i / 960 / rate)
        for _ in range(spike):
            forecast.arrived(0.5)
        return forecast.remaining(0.5)

    assert after(1, 0) == pytest.approx(480, rel=0.1)
    assert after(2, 0) > 1.3 * after(1, 0)
    assert after(1, 960) < 1.2 * after(1, 0)


@st.composite
def offline(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]]]:
    n, k = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    rows = st.lists(st.floats(0.01, 5), min_size=k, max_size=k)
    several = st.lists(rows, min_size=n, max_size=n)
    return draw(several), draw(several)


@settings(deadline=None)
@given(instance=offline(), share=st.floats(0, 1.2))
def test_offline_the_multiplier_is_the_smallest_that_fits(
    instance: tuple[list[list[float]], list[list[float]]], share: float
) -> None:
    worth, cost = map(np.array, instance)
    cheapest = float(cost.min(axis=1).sum())
    dearest = float(cost.max(axis=1).sum())
    budget = cheapest * 1.000001 + share * (dearest - cheapest)

    def spent(m: float) -> float:
        net = worth - m * cost
        return float(cost[np.arange(len(cost)), net.argmax(axis=1)].sum())

    found = multiplier_for(budget, worth=worth, cost_usd=cost)
    assert spent(found * (1 + 1e-5) + 1e-9) <= budget
    if found > 0:
        assert spent(found * (1 - 1e-5)) > budget * (1 - 1e-9)


def test_offline_a_budget_below_the_cheapest_is_refused() -> None:
    with pytest.raises(ValueError, match="cheapest"):
        multiplier_for(1, worth=np.ones((2, 2)), cost_usd=np.ones((2, 2)))


@pytest.mark.parametrize(
    "wrong",
    [{"budget_usd": 0}, {"budget_usd": math.inf}, {"period_s": 0}, {"target": 0}, {"target": 1.5}],
)
def test_a_budget_has_to_be_one(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Pacer(**{"budget_usd": 1.0, **wrong})
