"""Replays: what is counted, what a policy may see, and what hindsight is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.calibration import calibration
from bench.forecasts import at_once, by_forecast, by_noise, foreseeing, plain
from bench.replay import Purchase, Recorded, replay
from bench.trace import Trace, read_trace
from bench.traffic import hindsight, market, priced, worst
from forethought.models.demand import DemandModel
from forethought.router.records import SleepLevel
from forethought.router.tiers import LEVELS, STANDARD, Offer, Option

AT_ONE = {"standard": 1.0}


def trace(*rows: list[float], end_s: float = 1000.0) -> Trace:
    width = max(map(len, rows))
    arrivals = np.array([row + [math.inf] * (width - len(row)) for row in rows])
    return Trace(arrivals_s=arrivals, counts=np.array([len(r) for r in rows]), end_s=end_s)


def recorded(seed: int = 0, n: int = 4) -> Recorded:
    rng = np.random.default_rng(seed)
    offers = [
        [
            Offer(
                level=level, cost_usd=1e-6 * 100 * level.drafts,
                saving_per_query_usd=1e-6 * rng.uniform(-50, 400), duration_s=5,
            )
            for level in LEVELS
        ]
        for _ in range(n)
    ]  # fmt: skip
    return Recorded(
        datasets=("d",) * n,
        price=rng.uniform(10, 300, (n, 4)),
        quality=rng.uniform(0, 1, (n, 4)),
        sleep_price=rng.uniform(100, 2000, (n, 3)),
        offers=offers,
    )


def test_a_purchase_serves_only_what_comes_after_it_is_ready() -> None:
    own, cases = trace([0.0, 10.0, 14.0, 40.0]), recorded(n=1)
    option = Option(
        level=SleepLevel(drafts=1), tier="standard", cost_usd=1, saving_per_query_usd=1, ready_s=5
    )
    got = replay(own, cases, lambda _c, _n: Purchase(2, option), tier_price=AT_ONE)
    assert (got.bought_after[0, 0], got.waited[0, 0]) == (2, 1)
    awake, asleep = cases.price[0, :2]
    assert got.answers[0, 0] == pytest.approx(3 * awake + asleep)
    assert got.cost(2.0)[0, 0] == pytest.approx(2 * (3 * awake + asleep) + cases.sleep_price[0, 0])


rows = st.lists(
    st.lists(st.floats(0, 999), min_size=1, max_size=9, unique=True).map(sorted),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=40)
@given(rows=rows, seed=st.integers(0, 99), cut_s=st.floats(1, 999))
def test_no_policy_looks_into_the_future(rows: list[list[float]], seed: int, cut_s: float) -> None:
    whole, cases = trace(*rows), recorded(seed)
    found = priced(cases, 2.0, (STANDARD,))
    kept = [i for i, row in enumerate(rows) if row[0] < cut_s]
    early = whole.until(cut_s)
    for buyer in (by_forecast(found, DemandModel(), 0.5), by_noise(found, 0.5, 3), plain(found)):
        later = replay(whole, cases, buyer, tier_price=AT_ONE).bought_after[:, kept]
        before = replay(early, cases, buyer, tier_price=AT_ONE).bought_after
        seen = early.counts[None, :]
        # What was bought by then is the same; what was not is bought later or never.
        assert np.array_equal(np.where(later <= seen, later, 0), before)


@settings(deadline=None, max_examples=40)
@given(rows=rows, seed=st.integers(0, 99))
def test_hindsight_is_no_dearer_than_never_or_always(rows: list[list[float]], seed: int) -> None:
    own, cases = trace(*rows), recorded(seed)
    every = priced(cases, 2.0, (STANDARD,))
    never = replay(own, cases, lambda _c, _n: None, tier_price=AT_ONE)
    best, cost = hindsight(own, cases, never, every, 2.0)
    always = replay(own, cases, at_once(every), tier_price=AT_ONE)
    assert (cost <= never.cost(2.0) + 1e-9).all()
    assert (cost <= always.cost(2.0) + 1e-9).all()
    assert best.cost(2.0) == pytest.approx(cost)


@settings(deadline=None, max_examples=25)
@given(rows=rows, seed=st.integers(0, 99), t=st.sampled_from([1.0, 2.0, 10.0]))
def test_the_bound_holds_on_any_trace_also_inverted(
    rows: list[list[float]], seed: int, t: float
) -> None:
    of = market(trace(*rows), recorded(seed), DemandModel(), t=t, seed=seed)
    assert worst(of)[1] == 0


def test_an_inverted_forecast_is_the_opposite_of_the_right_one() -> None:
    own = trace([0.0], [100.0 * i for i in range(9)])
    offer = Offer(level=LEVELS[0], cost_usd=2e-6, saving_per_query_usd=1e-6, duration_s=5)
    cases = Recorded(
        datasets=("d",), price=np.ones((1, 4)), quality=np.ones((1, 4)),
        sleep_price=np.ones((1, 3)), offers=[[offer]],
    )  # fmt: skip
    found = priced(cases, 1.0, (STANDARD,))
    right, wrong = (
        replay(own, cases, foreseeing(found, 0.5, inverted=inverted), tier_price=AT_ONE)
        for inverted in (False, True)
    )
    assert right.bought_after.tolist() == [[0, 1]]
    assert wrong.bought_after[0, 0] == 1
    assert wrong.bought_after[0, 1] > 1


def test_the_shipped_trace_is_split_without_overlap() -> None:
    whole = read_trace()
    half_s = whole.end_s / 2
    seen, later = whole.until(half_s), whole.first_seen_from(half_s)
    assert (whole.counts.sum(), len(whole)) == (12031, 7373)
    assert len(seen) + len(later) == len(whole)
    assert np.nanmax(np.where(np.isfinite(seen.arrivals_s), seen.arrivals_s, 0)) < half_s
    assert later.arrivals_s[:, 0].min() >= half_s


def test_calibration_finds_a_forecast_that_is_off() -> None:
    own = read_trace()
    seen = own.take(np.arange(300))
    good = calibration(DemandModel(), seen).figures
    bad = calibration(DemandModel(alpha=1.2, beta=9.0), seen).figures
    assert good["calibration_error"] < bad["calibration_error"]
    assert abs(good["coverage_90"] - 0.9) < abs(bad["coverage_90"] - 0.9)
