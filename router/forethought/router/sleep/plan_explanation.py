"""Why a context is slept on or not: the forecast, the options, and what would change the plan.

As for decisions, one number is changed at a time, and the rule itself (``tiers.plan``) is asked
again: for the sleep's cost, what it saves per query, how many queries are expected, and how much
the forecast is trusted. The nearest value that changes the plan is looked for outward from what
the number is, then rounded away from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, Literal

from forethought.models.bundle import PolicyBundle
from forethought.models.explanation import (
    Attribution,
    Bounds,
    demand_bounds,
    of_predictability,
    predictability_bounds,
)
from forethought.router import tiers, wording
from forethought.router.tiers import Forecast, Option, TieredPlan

Lever = Literal["sleep_cost_usd", "saving_per_query_usd", "expected_more", "trust"]

SHOWN: Final = 5
"""Contributions shown: the largest."""

_FIRST_STEP: Final = 0.01
_GROWTH: Final = 1.25
_STEPS: Final = 62
"""Outward in steps of 1% of a number, each a quarter longer, to 10,000 times the number."""

_HALVINGS: Final = 30
_DIGITS: Final = (2, 3, 4, 6, 9)
"""Significant digits that are tried in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """The plan would be the other way round if ``lever`` were ``becomes`` instead of ``was``.

    ``sleep_cost_usd`` and ``saving_per_query_usd`` are the plan's; those of the other options
    change along, by the same factor and the same amount.
    """

    lever: Lever
    was: float
    becomes: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanExplanation:
    """A sleep plan explained. ``expected_more``: queries to come, with a 90% interval.

    ``changes`` would turn the plan around; ``text`` says all of it in sentences, by subject:
    choice, forecasts, options, changes, features.
    """

    predictability: Bounds
    expected_more: Bounds
    options: tuple[Option, ...]
    changes: tuple[PlanChange, ...]
    predictability_rests_on: Attribution
    text: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaled:
    """A forecast of ``factor`` times as many queries."""

    forecast: Forecast
    factor: float

    def p_another(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        return self.forecast.p_another(n_seen, idle_s=idle_s)

    def expected_more(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        return self.factor * self.forecast.expected_more(n_seen, idle_s=idle_s)

    def expected_after(self, n_seen: int, delay_s: float, *, idle_s: float = 0.0) -> float:
        return self.factor * self.forecast.expected_after(n_seen, delay_s, idle_s=idle_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """All that a plan follows from."""

    options: tuple[Option, ...]
    forecast: Forecast
    n_queries: int
    trust: float
    idle_s: float = 0.0

    def plan(self) -> TieredPlan:
        return tiers.plan(
            self.options,
            self.forecast,
            n_queries=self.n_queries,
            trust=self.trust,
            idle_s=self.idle_s,
        )

    def with_lever(self, lever: Lever, was: float, becomes: float) -> Planning:
        """The same with one number changed."""
        if lever == "trust":
            return replace(self, trust=becomes)
        if lever == "expected_more":
            return replace(self, forecast=_Scaled(forecast=self.forecast, factor=becomes / was))
        if lever == "sleep_cost_usd":
            dearer = (replace(o, cost_usd=o.cost_usd * becomes / was) for o in self.options)
            return replace(self, options=tuple(dearer))
        saving = (
            replace(o, saving_per_query_usd=o.saving_per_query_usd + becomes - was)
            for o in self.options
        )
        return replace(self, options=tuple(saving))


def explain_plan(
    planning: Planning, plan: TieredPlan, bundle: PolicyBundle, features: Mapping[str, float]
) -> PlanExplanation:
    """Explain ``plan``, which is that of ``planning``; takes some tens of milliseconds."""
    explanation = PlanExplanation(
        predictability=predictability_bounds(bundle.predictability, features),
        expected_more=demand_bounds(bundle.demand, plan.n_queries, idle_s=planning.idle_s),
        options=planning.options,
        changes=tuple(plan_changes(planning, plan)),
        predictability_rests_on=of_predictability(bundle.predictability, features).largest(SHOWN),
        text={},
    )
    return replace(explanation, text=_text(explanation, plan))


def plan_changes(planning: Planning, plan: TieredPlan) -> Iterator[PlanChange]:
    """The smallest change of each single number that turns ``plan`` around."""
    expected = plan.expected_queries - plan.n_queries
    levers: tuple[tuple[Lever, float, tuple[int, ...]], ...] = (
        ("sleep_cost_usd", plan.sleep_cost_usd, (1,) if plan.buy else (-1,)),
        ("saving_per_query_usd", plan.saving_per_query_usd, (-1,) if plan.buy else (1,)),
        ("expected_more", expected, (-1,) if plan.buy else (1,)),
        ("trust", planning.trust, (-1, 1)),
    )
    for lever, was, directions in levers:
        if not planning.options or (not was and lever != "saving_per_query_usd"):
            continue

        def turned(value: float, lever: Lever = lever, was: float = was) -> bool:
            return planning.with_lever(lever, was, value).plan().buy != plan.buy

        scale = abs(was) or max(abs(o.cost_usd) for o in planning.options) or 1e-6
        found = [
            value
            for direction in directions
            if (value := _nearest(turned, lever, was, direction * scale)) is not None
        ]
        if found:
            becomes = min(found, key=lambda value: abs(value - was))
            words = _words(lever, was, becomes)
            yield PlanChange(lever=lever, was=was, becomes=becomes, words=words)


def _nearest(
    turned: Callable[[float], bool], lever: Lever, was: float, scale: float
) -> float | None:
    low = -float("inf") if lever == "saving_per_query_usd" else 0.0
    high = 1.0 if lever == "trust" else float("inf")
    inside = was
    for step in range(_STEPS):
        outside = was + scale * _FIRST_STEP * _GROWTH**step
        if lever == "trust" and not 0.0 < outside <= 1.0:
            return None
        outside = min(high, max(low, outside))
        if turned(outside):
            break
        if outside in {low, high}:
            return None
        inside = outside
    else:
        return None
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if turned(middle) else (middle, outside)
    for value in _rounded(outside, up=scale > 0):
        if low <= value <= high and (value > 0 or lever != "trust") and turned(value):
            return value
    return outside


def _rounded(value: float, *, up: bool) -> Iterator[float]:
    exact = Decimal(repr(value))
    for digits in _DIGITS:
        unit = Decimal(1).scaleb(exact.adjusted() - digits + 1)
        yield float(exact.quantize(unit, rounding=ROUND_CEILING if up else ROUND_FLOOR))


def _words(lever: Lever, was: float, becomes: float) -> str:
    said, before = wording.number(becomes), wording.number(float(f"{was:.3g}"))
    if lever == "sleep_cost_usd":
        return f"the sleep cost {said} USD instead of {before} USD"
    if lever == "saving_per_query_usd":
        return f"it saved {said} USD a query instead of {before} USD"
    if lever == "expected_more":
        return f"{said} more queries were expected instead of {before}"
    return f"the trust parameter were {said} instead of {before}"


def _text(explanation: PlanExplanation, plan: TieredPlan) -> dict[str, tuple[str, ...]]:
    more, foreseen = explanation.expected_more, explanation.predictability
    verb = "be slept on now" if not plan.buy else "not be slept on yet"
    changes = [
        f"It would {verb} if {', or if '.join(c.words for c in explanation.changes)}."
        if explanation.changes
        else "No single one of these numbers, changed alone, would change the plan."
    ]
    if not plan.buy and plan.buy_at is not None:
        changes.append(
            f"As things stand it is slept on once {plan.buy_at} queries have come; "
            f"{plan.n_queries} came so far."
        )
    came = f"{plan.n_queries} {'query' if plan.n_queries == 1 else 'queries'} came"
    likely = (
        f"Predictability {wording.interval(foreseen, '.0%')}: so likely is a query on this "
        "context answered right from a learned context at low effort."
    )
    demand = (
        f"Demand: {came} so far, {more.mean:.1f} more are expected, "
        f"{more.low:.0f} to {more.high:.0f} with 90% probability."
    )
    found = {
        "choice": (f"{'Sleep' if plan.buy else 'Do not sleep yet'}: {plan.reason}.",),
        "forecasts": (likely, demand),
        "options": tuple(_option(option) for option in explanation.options),
        "changes": tuple(changes),
        "features": (f"Predictability: {wording.rests_on(explanation.predictability_rests_on)}.",),
    }
    return {subject: lines for subject, lines in found.items() if lines}


def _option(option: Option) -> str:
    saves = option.saving_per_query_usd > 0
    pays = f"it pays from {option.break_even:.1f} queries on" if saves else "it never pays"
    return (
        f"{option.level.name} at {option.tier} prices costs {wording.usd(option.cost_usd)} and "
        f"saves {wording.usd(option.saving_per_query_usd)} a query: {pays}; "
        f"ready after {option.ready_s:.0f} s."
    )
