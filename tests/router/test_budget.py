from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.router.budget import LEASE_S, Budget, Event, ceiling_usd, dearest_usd, most_calls
from forethought.router.errors import BudgetSpent
from forethought.router.pacing import DAY_S
from forethought.router.pricing import Prices, cost
from forethought.router.records import Outcome, Usage
from forethought.router.strategies import BY_NAME

PRICES = Prices(input=1.0, cached_input=0.1, output=4.0)


class Clock:
    def __init__(self, now: float = 100 * DAY_S) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def outcome(key: str, cost_usd: float | None, at: float) -> Outcome:
    return Outcome(
        decision_id=key,
        status="ok",
        http_status=200,
        usage=Usage(),
        cost_usd=cost_usd,
        latency_ms=1.0,
        finished_at=at,
    )


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "finish", "sleep", "wait", "drop"]),
        st.floats(0, 0.6),
        st.floats(0, 1),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=200)
@given(steps=steps)
def test_the_spending_of_a_period_never_exceeds_a_hard_cap(
    steps: list[tuple[str, float, float]],
) -> None:
    clock = Clock()
    budget = Budget(budget_usd=1, clock=clock)
    spent: dict[int, list[float]] = {}
    under_way: dict[str, float] = {}

    def paid(usd: float) -> None:
        spent.setdefault(int(clock.now // DAY_S), []).append(usd)

    for i, (what, usd, share) in enumerate(steps):
        key = f"q{i}"
        if what == "wait":
            clock.now += share * LEASE_S / 3 + usd * 600
            if usd > 0.5:  # to the next period, in which what is under way ends
                clock.now = (clock.now // DAY_S + 1) * DAY_S
        elif what == "finish" and under_way:
            done, most = under_way.popitem()
            paid(most * share)
            budget.settle(outcome(done, most * share, clock.now))
        elif what == "drop" and under_way:
            budget.release(under_way.popitem()[0])
        elif what in {"ask", "sleep"}:
            budget.arrived()
            try:
                budget.reserve(key, usd)
            except BudgetSpent:
                continue
            if what == "ask":
                under_way[key] = usd
            else:
                paid(usd * share)
                budget.settle_sleep(key, usd * share)
        if len(under_way) > 3:  # nothing outlives its lease
            budget.release(under_way.popitem()[0])
    assert all(math.fsum(costs) <= 1 for costs in spent.values())
    status = budget.status
    assert status.spent_usd == pytest.approx(sum(spent.get(int(clock.now // DAY_S), [])))


def test_what_is_under_way_is_held_back_until_it_ends() -> None:
    clock = Clock()
    budget = Budget(budget_usd=1, clock=clock)
    budget.reserve("a", 0.6)
    with pytest.raises(BudgetSpent):
        budget.reserve("b", 0.5)
    budget.settle(outcome("a", 0.1, clock.now))
    budget.reserve("b", 0.5)
    assert (budget.status.spent_usd, budget.status.reserved_usd) == (0.1, 0.5)
    assert budget.status.refused == 1


def test_what_is_never_settled_is_free_again_after_its_lease() -> None:
    clock = Clock()
    budget = Budget(budget_usd=1, clock=clock)
    budget.reserve("lost", 0.9)
    clock.now += LEASE_S + 1
    budget.reserve("next", 0.9)


def test_a_refusal_says_when_the_next_period_begins() -> None:
    clock = Clock(1_700_000_000.0)
    budget = Budget(budget_usd=1, clock=clock)
    budget.settle_sleep("s", 1.0)
    assert budget.is_spent()
    with pytest.raises(BudgetSpent, match=r"is spent.*2023-11-15 00:00:00 UTC"):
        budget.check()
    clock.now += DAY_S
    budget.check()


def test_without_a_cap_nothing_is_refused() -> None:
    budget = Budget(budget_usd=1, hard=False, clock=Clock())
    budget.settle_sleep("s", 5.0)
    budget.check()
    budget.reserve("q", None)
    assert not budget.is_spent()


def test_a_cap_needs_a_price() -> None:
    with pytest.raises(BudgetSpent, match="no price"):
        Budget(budget_usd=1, clock=Clock()).reserve("q", None)


def test_the_past_played_back_leads_to_the_same_state() -> None:
    clock, events = Clock(), []
    live = Budget(budget_usd=1, clock=clock)
    for i in range(300):
        clock.now += 700
        live.arrived()
        events.append(Event(clock.now, "asked"))
        clock.now += 2
        if i % 50 == 0:
            live.settle_sleep("s", 0.01)
            events.append(Event(clock.now, "slept", 0.01))
            clock.now += 1
        usd = 0.002 * (1 + i % 7)
        live.settle(outcome("q", usd, clock.now))
        events.append(Event(clock.now, "answered", usd))
    told: list[float] = []
    again = Budget(budget_usd=1, clock=clock, on_multiplier=told.append)
    again.resume(reversed(events))
    assert again.status == live.status
    assert told == [live.status.multiplier]


def test_an_unknown_cost_moves_nothing() -> None:
    clock = Clock()
    told: list[float] = []
    budget = Budget(budget_usd=1, clock=clock, on_multiplier=told.append)
    budget.reserve("q", 0.5)
    budget.settle(outcome("q", None, clock.now))
    assert (budget.status.spent_usd, budget.status.reserved_usd, told) == (0, 0, [])


@settings(deadline=None)
@given(
    texts=st.lists(st.text(max_size=80), min_size=1, max_size=4),
    limit=st.integers(1, 4000),
    n=st.integers(1, 3),
    share=st.floats(0, 1),
)
def test_no_usage_within_the_limit_costs_more_than_the_ceiling(
    texts: list[str], limit: int, n: int, share: float
) -> None:
    body: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": text} for text in texts],
        "max_tokens": limit,
        "n": n,
    }
    prices = Prices(
        input=1, cached_input=0.1, output=4, cache_write=1.25,
        longer=((100, Prices(input=2, cached_input=0.2, output=6, cache_write_1h=4)),),
    )  # fmt: skip
    tokens = sum(len(text.encode(errors="replace")) for text in texts) + 8 * len(texts)
    usage = Usage(
        input_tokens=tokens,
        cache_write_tokens=round(share * tokens),
        cache_write_1h_tokens=round(share * share * tokens),
        output_tokens=limit * n,
    )
    spent, most = cost(usage, prices), ceiling_usd(body, prices, reserve_tokens=1)
    assert spent is not None
    assert most is not None
    assert spent <= most


@settings(deadline=None)
@given(
    chain=st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=4),
    answers=st.integers(0, 3),
    limit=st.integers(1, 4000),
)
def test_models_that_fail_in_turn_cost_no_more_than_the_dearest_way_through_them(
    chain: list[tuple[float, float]], answers: int, limit: int
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": limit}
    prices = [Prices(input=i, cached_input=i, output=o) for i, o in chain]
    most = dearest_usd([(body, one) for one in prices], reserve_tokens=1)
    last = min(answers, len(prices) - 1)
    read, written = Usage(input_tokens=40), Usage(input_tokens=40, output_tokens=limit)
    costs = [*(cost(read, one) for one in prices[:last]), cost(written, prices[last])]
    assert most is not None
    assert sum(spent for spent in costs if spent is not None) <= most * (1 + 1e-9)
    alone = [ceiling_usd(body, one, reserve_tokens=1) or 0.0 for one in prices]
    assert max(alone) <= most <= sum(alone) * (1 + 1e-9)


def test_a_chain_with_a_price_that_is_unknown_has_no_ceiling() -> None:
    asked: list[tuple[dict[str, Any], Prices | None]] = [({"messages": []}, PRICES)]
    assert dearest_usd([*asked, ({"messages": []}, None)], reserve_tokens=1) is None


def test_a_request_without_a_limit_is_taken_to_be_long() -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
    short = ceiling_usd({**body, "max_completion_tokens": 10}, PRICES, reserve_tokens=1000)
    long = ceiling_usd(body, PRICES, reserve_tokens=1000)
    assert short is not None
    assert long is not None
    assert long - short == pytest.approx(990 * 4e-6, rel=0.1)
    assert ceiling_usd(body, None, reserve_tokens=1000) is None


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        pytest.param({"max_tokens": 7}, 7, id="the request's limit"),
        pytest.param({"max_tokens": -1}, 1000, id="no limit in llama.cpp's words"),
        pytest.param({"max_tokens": 7, "n": 3}, 21, id="several choices"),
        pytest.param({"reasoning_effort": "low"}, 1000 + 2048, id="an effort"),
        pytest.param({"reasoning_effort": "none"}, 1000, id="no effort"),
        pytest.param({"thinking": {"budget_tokens": 5000}}, 6000, id="a budget of thinking"),
        pytest.param({"max_tokens": 7, "reasoning_effort": "high"}, 7, id="a limit counts both"),
    ],
)
def test_the_longest_answer(fields: dict[str, Any], tokens: int) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], **fields}
    free_input = Prices(input=0.0, cached_input=0.0, output=1e6)
    assert ceiling_usd(body, free_input, reserve_tokens=1000) == tokens


def test_every_strategys_calls_are_known() -> None:
    calls = {name: most_calls(name) for name in BY_NAME}
    several = {"vote:3": 5, "vote:5": 7, "cascade": 4, "recall": 0}
    assert calls == {name: several.get(name, 1) for name in BY_NAME}
