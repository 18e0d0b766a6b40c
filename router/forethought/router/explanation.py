"""Why a decision was made, in numbers and in words, from what was logged of it.

Nothing is predicted anew that the record holds. What the record has no room for (intervals,
which features mattered) is computed by the very policy that decided; where that policy is gone
the explanation says so, and another one is never asked in its place. The choice is made again
from the logged predictions and preferences: if that does not come to what was logged, nothing
is said about what would change it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from forethought.models.explanation import (
    Attribution,
    Bounds,
    demand_bounds,
    medians,
    of_difference,
    of_predictability,
    predictability_bounds,
    quality_bounds,
)
from forethought.router import wording
from forethought.router.allocation import Preferences, acceptable, quality_bound
from forethought.router.blending import policy_quality
from forethought.router.counterfactuals import (
    Change,
    changes_for,
    considered,
    policys_choice,
    weighed,
)
from forethought.router.past_policies import FoundPolicy
from forethought.router.records import Candidate, Decision

SHOWN: Final = 5
"""Contributions shown: the largest."""

_DRAWN: Final = frozenset({"greedy", "explored"})
_NO_PREFERENCES: Final = "the preferences were not logged yet when this decision was made"
_OTHER_RULE: Final = (
    "this version of Forethought, given the same predictions, would not choose the same"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedCandidate:
    """One candidate: what was foreseen of it, why it was or was not chosen, what would change it.

    ``quality`` has its 90% interval, as far as it is known. Half of the answers stay below the
    ``_p50`` of output tokens and latency, nine in ten below the ``_p90``. ``policy_quality`` is
    what the policy predicted before the tenant's own answers moved it by ``offset`` log-odds, of
    which ``graded`` were this strategy's. ``within_bound`` says whether it held the quality bound,
    None where that is not known. ``changes`` would make it the policy's choice.
    """

    strategy: str
    quality: float | None
    quality_low: float | None
    quality_high: float | None
    output_tokens: float | None
    output_tokens_p50: float | None
    output_tokens_p90: float | None
    cost_usd: float | None
    latency_ms: float | None
    latency_ms_p50: float | None
    latency_ms_p90: float | None
    utility: float | None
    propensity: float
    policy_quality: float | None
    offset: float | None
    graded: int | None
    graded_right: float | None
    graded_predicted: float | None
    within_bound: bool | None
    verdict: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What sets the predicted outcomes of two strategies apart: ``strategy`` less ``against``."""

    strategy: str
    against: str
    quality: Attribution
    output_tokens: Attribution
    latency_ms: Attribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision explained.

    ``policys_choice`` is what the policy itself preferred, which differs from ``strategy`` where
    it explored, or was not asked. ``expected_queries`` counts all queries of the context, those
    seen included. ``missing`` lists what cannot be said, and why; ``text`` says all of it in
    sentences, by subject: choice, forecasts, own answers, candidates, changes, features, missing.
    """

    strategy: str
    policys_choice: str | None
    runner_up: str | None
    policy_version: str
    preferences: Mapping[str, Any] | None
    predictability: Bounds | None
    expected_queries: Bounds | None
    candidates: tuple[ExplainedCandidate, ...]
    predictability_rests_on: Attribution | None
    difference: Difference | None
    missing: tuple[str, ...]
    text: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """The choice made again: by which preferences, among which, and with what result.

    ``held`` are those within the quality bound, or the one that comes nearest to it where none
    is. ``bound`` is the quality to reach, None where the rule is not that simple.
    """

    preferences: Preferences
    candidates: tuple[Candidate, ...]
    held: frozenset[str]
    bound: float | None
    choice: str


def explain(decision: Decision, policy: FoundPolicy) -> Explanation:
    """Explain ``decision``; ``policy`` is the one of its version, as far as it is still there."""
    weighing, unweighed = _weigh(decision)
    missing = []
    if policy.missing is not None and decision.features:
        missing.append(f"Intervals and contributions are not known: {policy.missing}.")
    if unweighed is not None:
        missing.append(f"What would change the choice is not known: {unweighed}.")
    choice = _drawn(decision) if weighing is None else weighing.choice
    runner_up = _runner_up(decision, weighing, choice)
    against = choice if choice != decision.strategy else runner_up
    bounds, halves = _quality_bounds(decision, policy), _medians(decision, policy)
    expected = _expected_queries(decision, policy)
    predictability = _predictability(decision, policy)
    explanation = Explanation(
        strategy=decision.strategy,
        policys_choice=choice,
        runner_up=runner_up,
        policy_version=decision.policy_version,
        preferences=decision.preferences,
        predictability=predictability,
        expected_queries=expected,
        candidates=tuple(
            _explained(
                c,
                decision,
                weighing,
                bounds.get(c.strategy),
                halves.get(c.strategy, (None, None)),
            )
            for c in decision.candidates
        ),
        predictability_rests_on=_rests_on(decision, policy),
        difference=_difference(decision, policy, against),
        missing=tuple(missing),
        text={},
    )
    return replace(explanation, text=wording.text_of(explanation, decision, weighing))


def _weigh(decision: Decision) -> tuple[Weighing | None, str | None]:
    """The choice made again from what was logged; or why that cannot be done, if one may ask."""
    candidates = considered(decision.candidates)
    if not candidates:
        return None, None  # nothing was predicted, which the reason says
    if decision.preferences is None:
        return None, _NO_PREFERENCES
    known = {field.name for field in fields(Preferences)}
    if not known >= set(decision.preferences):
        return None, _OTHER_RULE
    preferences = Preferences(**decision.preferences)
    again = weighed(candidates, preferences)
    same = all(
        math.isclose(a.utility or 0.0, b.utility or 0.0, rel_tol=1e-9, abs_tol=1e-15)
        for a, b in zip(again, candidates, strict=True)
    )
    choice = policys_choice(again, preferences)
    if not same or _drawn(decision) not in {None, choice}:
        return None, _OTHER_RULE
    held = frozenset(c.strategy for c in acceptable(again, preferences))
    weighing = Weighing(
        preferences=preferences,
        candidates=again,
        held=held,
        bound=_bound(again, held, preferences),
        choice=choice,
    )
    return weighing, None


def _drawn(decision: Decision) -> str | None:
    """What the policy preferred, by the logged propensities; None where they do not tell."""
    if decision.mode not in _DRAWN:
        return None
    if decision.mode == "greedy":
        return decision.strategy
    if (decision.preferences or {}).get("exploration_kind", "epsilon") != "epsilon":
        return None  # the likeliest need not be the preferred one
    top = max(c.propensity for c in decision.candidates)
    best = [c.strategy for c in decision.candidates if c.propensity == top]
    return best[0] if len(best) == 1 else None


def _runner_up(decision: Decision, weighing: Weighing | None, choice: str | None) -> str | None:
    """The next best: among those within the quality bound, if it was not the only one."""
    others = [
        c for c in considered(decision.candidates) if c.strategy not in {choice, decision.strategy}
    ]
    if weighing is not None:
        others = [c for c in others if c.strategy in weighing.held] or others
    return max(others, key=lambda c: c.utility or 0.0).strategy if others else None


def _quality_bounds(decision: Decision, policy: FoundPolicy) -> dict[str, Bounds]:
    predicted = [c.strategy for c in decision.candidates if c.quality is not None]
    if policy.bundle is None or not predicted:
        return {}
    return quality_bounds(policy.bundle.outcome, decision.features, predicted)


def _medians(
    decision: Decision, policy: FoundPolicy
) -> dict[str, tuple[float | None, float | None]]:
    predicted = [c.strategy for c in decision.candidates if c.quality is not None]
    if policy.bundle is None or not predicted:
        return {}
    return medians(policy.bundle.outcome, decision.features, predicted)


def _predictability(decision: Decision, policy: FoundPolicy) -> Bounds | None:
    mean, low, high = (
        decision.predictability,
        decision.predictability_low,
        decision.predictability_high,
    )
    if mean is None:
        return None
    if low is None or high is None:
        if policy.bundle is None:
            return None
        return predictability_bounds(policy.bundle.predictability, decision.features)
    return Bounds(mean=mean, low=low, high=high)


def _expected_queries(decision: Decision, policy: FoundPolicy) -> Bounds | None:
    if decision.expected_queries is None or policy.bundle is None:
        return None
    seen = round(decision.features.get("hist_queries", 0.0)) + 1
    more = demand_bounds(policy.bundle.demand, seen)
    return Bounds(mean=decision.expected_queries, low=seen + more.low, high=seen + more.high)


def _rests_on(decision: Decision, policy: FoundPolicy) -> Attribution | None:
    if policy.bundle is None or decision.predictability is None:
        return None
    return of_predictability(policy.bundle.predictability, decision.features).largest(SHOWN)


def _difference(decision: Decision, policy: FoundPolicy, against: str | None) -> Difference | None:
    predicted = {c.strategy for c in decision.candidates if c.quality is not None}
    if policy.bundle is None or against is None or not predicted >= {decision.strategy, against}:
        return None
    model, features, strategy = policy.bundle.outcome, decision.features, decision.strategy
    return Difference(
        strategy=strategy,
        against=against,
        quality=of_difference(model, features, strategy, against, "quality").largest(SHOWN),
        output_tokens=of_difference(model, features, strategy, against, "tokens").largest(SHOWN),
        latency_ms=of_difference(model, features, strategy, against, "latency_ms").largest(SHOWN),
    )


def _explained(
    candidate: Candidate,
    decision: Decision,
    weighing: Weighing | None,
    bounds: Bounds | None,
    halves: tuple[float | None, float | None],
) -> ExplainedCandidate:
    low, high = candidate.quality_low, candidate.quality_high
    own = weighing is not None and candidate.strategy in {c.strategy for c in weighing.candidates}
    return ExplainedCandidate(
        strategy=candidate.strategy,
        quality=candidate.quality,
        quality_low=bounds.low if bounds and low is None else low,
        quality_high=bounds.high if bounds and high is None else high,
        output_tokens=candidate.output_tokens,
        output_tokens_p50=halves[0],
        output_tokens_p90=candidate.output_tokens_p90,
        cost_usd=candidate.cost_usd,
        latency_ms=candidate.latency_ms,
        latency_ms_p50=halves[1],
        latency_ms_p90=candidate.latency_ms_p90,
        utility=candidate.utility,
        propensity=candidate.propensity,
        policy_quality=policy_quality(candidate),
        offset=candidate.offset,
        graded=candidate.graded,
        graded_right=candidate.graded_right,
        graded_predicted=candidate.graded_predicted,
        within_bound=candidate.strategy in weighing.held if weighing and own else None,
        verdict=_verdict(candidate, decision, weighing),
        changes=changes_for(candidate.strategy, weighing.candidates, weighing.preferences)
        if weighing and own
        else (),
    )


def _verdict(candidate: Candidate, decision: Decision, weighing: Weighing | None) -> str:
    name = candidate.strategy
    if candidate.excluded is not None:
        return f"left out: {candidate.excluded}"
    if candidate.quality is None:
        return "nothing was predicted of it"
    if candidate.utility is None:
        return "only the client could ask for it here"
    if weighing is None:
        return "chosen" if name == decision.strategy else "not chosen"
    if name != weighing.choice:
        best = next(c for c in weighing.candidates if c.strategy == weighing.choice)
        if name in weighing.held:
            return wording.less_utility(candidate, best)
        return wording.outside_bound(candidate, weighing.bound)
    if weighing.bound is not None and (candidate.quality or 0.0) < weighing.bound:
        return "none holds the quality bound, and this one comes nearest to it"
    if len(weighing.held) == 1:
        return "the only one within the quality bound"
    return f"the best utility of the {len(weighing.held)} within the quality bound"


def _bound(
    candidates: Sequence[Candidate], held: frozenset[str], preferences: Preferences
) -> float | None:
    """The quality that a candidate has to reach; None where ``held`` follows another rule."""
    bound = quality_bound(candidates, preferences)
    reaching = {c.strategy for c in candidates if (c.quality or 0.0) >= bound}
    return bound if not reaching or reaching == held else None
