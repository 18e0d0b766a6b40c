"""What is said to turn a sleep plan around does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.demand import DemandModel
from forethought.models.features import DECISION_FEATURES
from forethought.router.records import SleepLevel
from forethought.router.sleep.plan_explanation import (
    PlanChange,
    Planning,
    explain_plan,
    plan_changes,
)
from forethought.router.tiers import Option, plan

DEMAND = DemandModel()


def option(cost_usd: float, saving: float, *, drafts: int = 3, ready_s: float = 30.0) -> Option:
    return Option(
        level=SleepLevel(drafts=drafts),
        tier="standard",
        cost_usd=cost_usd,
        saving_per_query_usd=saving,
        ready_s=ready_s,
    )


@dataclass(frozen=True)
class Times:
    """A forecast of ``factor`` times as many queries, written anew."""

    factor: float

    def p_another(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        return DEMAND.p_another(n_seen, idle_s=idle_s)

    def expected_more(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        return self.factor * DEMAND.expected_more(n_seen, idle_s=idle_s)

    def expected_after(self, n_seen: int, delay_s: float, *, idle_s: float = 0.0) -> float:
        return self.factor * DEMAND.expected_after(n_seen, delay_s, idle_s=idle_s)


def buys_after(planning: Planning, change: PlanChange) -> bool:
    options, forecast, trust = list(planning.options), Times(1.0), planning.trust
    if change.lever == "trust":
        trust = change.becomes
    elif change.lever == "expected_more":
        forecast = Times(change.becomes / change.was)
    elif change.lever == "sleep_cost_usd":
        options = [replace(o, cost_usd=o.cost_usd * change.becomes / change.was) for o in options]
    else:
        more = change.becomes - change.was
        options = [replace(o, saving_per_query_usd=o.saving_per_query_usd + more) for o in options]
    return plan(options, forecast, n_queries=planning.n_queries, trust=trust).buy


plannings = st.builds(
    lambda rows, n, trust: Planning(
        options=tuple(option(*row, drafts=1 + i) for i, row in enumerate(rows)),
        forecast=DEMAND,
        n_queries=n,
        trust=trust,
    ),
    st.lists(st.tuples(st.floats(1e-5, 0.01), st.floats(-0.001, 0.005)), min_size=1, max_size=3),
    st.integers(1, 20),
    st.floats(0.1, 1.0),
)


@settings(max_examples=25, deadline=None)
@given(plannings)
def test_each_change_that_is_named_turns_the_plan_around(planning: Planning) -> None:
    planned = planning.plan()
    for change in plan_changes(planning, planned):
        assert buys_after(planning, change) is not planned.buy, change


def test_a_cheaper_sleep_or_more_queries_would_be_bought() -> None:
    planning = Planning(options=(option(0.01, 0.001),), forecast=DEMAND, n_queries=1, trust=0.5)
    planned = planning.plan()
    assert not planned.buy
    found = {c.lever: c for c in plan_changes(planning, planned)}
    assert found["sleep_cost_usd"].becomes < 0.01
    assert found["saving_per_query_usd"].becomes > 0.001
    # Nearest: a little less of a change is not enough.
    nearly = replace(found["sleep_cost_usd"], becomes=found["sleep_cost_usd"].becomes * 1.05)
    assert not buys_after(planning, nearly)
    assert "USD instead of 0.01 USD" in found["sleep_cost_usd"].words


def test_what_saves_nothing_says_how_much_it_would_have_to_save() -> None:
    planning = Planning(options=(option(0.001, -0.001),), forecast=DEMAND, n_queries=3, trust=0.5)
    planned = planning.plan()
    assert planned.break_even is None
    (change,) = plan_changes(planning, planned)
    assert change.lever == "saving_per_query_usd"
    assert change.becomes > 0
    assert buys_after(planning, change)


def test_a_plan_is_said_in_words() -> None:
    bundle = PolicyBundle.load(pretrained_dir())
    planning = Planning(
        options=(option(0.01, 0.001),), forecast=bundle.demand, n_queries=2, trust=0.5
    )
    planned = planning.plan()
    features = {feature.name: 0.0 for feature in DECISION_FEATURES}
    found = explain_plan(planning, planned, bundle, features)
    assert found.expected_more.mean == pytest.approx(bundle.demand.expected_more(2))
    assert set(found.text) == {"choice", "forecasts", "options", "changes", "features"}
    assert found.text["choice"][0].startswith("Do not sleep yet: ")
    assert f"once {planned.buy_at} queries have come" in found.text["changes"][1]
    said = "k3r1 at standard prices costs 0.0100 USD and saves 0.00100 USD a query: "
    assert found.text["options"] == (f"{said}it pays from 10.0 queries on; ready after 30 s.",)
