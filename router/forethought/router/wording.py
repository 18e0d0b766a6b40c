"""Explanations in plain words: one line a thought, every number with its unit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from forethought.models.explanation import Attribution, Bounds, Contribution
from forethought.router.records import Candidate, Decision

if TYPE_CHECKING:
    from forethought.router.counterfactuals import Change
    from forethought.router.explanation import (
        ExplainedCandidate,
        Explanation,
        Weighing,
    )

NAMED: Final = 3
"""Features named in a sentence."""

_MEANINGS: Final = {"strategy_effort": "the effort asked for"}
_EFFORTS: Final = {0.0: "the client's own", 1.0: "low", 2.0: "high"}


def text_of(
    explanation: Explanation, decision: Decision, weighing: Weighing | None
) -> dict[str, tuple[str, ...]]:
    """All of an explanation by subject, a line a thought; subjects with nothing to say left out."""
    found = {
        "choice": (*_choice(explanation, decision), *_bound(decision, weighing)),
        "forecasts": tuple(_forecasts(explanation)),
        "own answers": tuple(_own_answers(explanation)),
        "candidates": tuple(_candidate(c) for c in explanation.candidates),
        "changes": tuple(
            would_be_chosen(c.strategy, c.changes)
            for c in explanation.candidates
            if weighing is not None and c.within_bound is not None
            if c.strategy != weighing.choice
        ),
        "features": tuple(_features(explanation)),
        "missing": explanation.missing,
    }
    return {subject: lines for subject, lines in found.items() if lines}


def would_be_chosen(strategy: str, changes: Sequence[Change]) -> str:
    """What it takes, as one sentence."""
    if not changes:
        return f"No single one of these numbers, changed alone, would make {strategy} the choice."
    return f"{strategy} would be chosen if {', or if '.join(c.words for c in changes)}."


def less_utility(candidate: Candidate, best: Candidate) -> str:
    """How a candidate falls behind the best one."""
    parts = []
    points = ((candidate.quality or 0.0) - (best.quality or 0.0)) * 100
    if round(points, 1):
        parts.append(f"{abs(points):.1f} points {'more' if points > 0 else 'less'} often right")
    if candidate.cost_usd is not None and best.cost_usd is not None:
        more = candidate.cost_usd - best.cost_usd
        if more:
            parts.append(f"{usd(abs(more))} {'dearer' if more > 0 else 'cheaper'}")
    slower = ((candidate.latency_ms or 0.0) - (best.latency_ms or 0.0)) / 1000
    if round(slower, 1):
        parts.append(f"{abs(slower):.1f} s {'slower' if slower > 0 else 'faster'}")
    behind = (best.utility or 0.0) - (candidate.utility or 0.0)
    less = f"{usd(behind)} less utility than {best.strategy}" if behind else "no more utility"
    return f"{less}: {', '.join(parts)}" if parts else less


def outside_bound(candidate: Candidate, bound: float | None) -> str:
    """How a candidate fails the quality bound."""
    if bound is None:
        return "outside of the quality bound"
    return f"{candidate.quality or 0.0:.1%} right is below the quality bound of {bound:.1%}"


def usd(amount: float) -> str:
    """An amount of money, also a tiny one, without an exponent."""
    if not amount:
        return "0 USD"
    places = max(0, 2 - math.floor(math.log10(abs(amount))))
    return f"{amount:.{places}f} USD"


def number(value: float) -> str:
    """A number with as many digits as it has: what is said is what was tried."""
    return f"{Decimal(f'{value:.10g}'):f}"


def interval(bounds: Bounds, form: str) -> str:
    """A number with its interval."""
    return f"{bounds.mean:{form}} [{bounds.low:{form}}, {bounds.high:{form}}]"


def rests_on(attribution: Attribution, *, compared: bool = False) -> str:
    """The features that mattered most, and by what each multiplied the prediction."""
    what = "odds" if attribution.scale == "log-odds" else "number"
    named = [
        f"{_meaning(c, compared=compared)}: {what} × {math.exp(c.effect):.2f}"
        for c in attribution.contributions[:NAMED]
    ]
    return "; ".join(named) if named else "no feature made a difference"


def _choice(explanation: Explanation, decision: Decision) -> Iterator[str]:
    yield decision.reason
    choice = explanation.policys_choice
    if decision.mode in {"greedy", "explored"}:
        how = "its own choice" if decision.mode == "greedy" else "a draw to explore"
        yield (
            f"Policy {decision.policy_version} took {decision.strategy} as {how}; "
            f"its propensity was {decision.propensity:.3g}."
        )
    elif choice is not None:
        same = " too" if choice == decision.strategy else ""
        yield f"Left to itself, policy {decision.policy_version} would have chosen {choice}{same}."


def _bound(decision: Decision, weighing: Weighing | None) -> Iterator[str]:
    if weighing is None:
        return
    preferences = weighing.preferences
    said = (
        f"A right answer was worth {usd(preferences.value_usd)}, a second's wait "
        f"{usd(preferences.latency_usd_per_s)}"
    )
    multiplier = (decision.preferences or {}).get("cost_multiplier", 1.0)
    if multiplier != 1.0:
        said += f", and the budget had a dollar spent bring {number(multiplier)} USD"
    if weighing.bound is None:
        yield f"{said}."
    elif weighing.bound == preferences.quality_floor:
        yield f"{said}; the quality bound was the floor of {weighing.bound:.1%}."
    else:
        yield (
            f"{said}; the quality bound was {weighing.bound:.1%}: that of direct less a margin "
            f"of {preferences.quality_margin * 100:.3g} points."
        )


def _forecasts(explanation: Explanation) -> Iterator[str]:
    found = explanation.predictability
    if found is not None:
        yield (
            f"Predictability {interval(found, '.0%')}: so likely is a query on this context "
            "answered right from a learned context at low effort."
        )
    expected = explanation.expected_queries
    if expected is not None:
        yield (
            f"Demand: {expected.mean:.1f} queries expected on this context in all, "
            f"{expected.low:.0f} to {expected.high:.0f} with 90% probability."
        )
    chosen = next((c for c in explanation.candidates if c.strategy == explanation.strategy), None)
    if chosen is not None and chosen.output_tokens_p90 is not None:
        tokens = _about(chosen.output_tokens_p50, chosen.output_tokens_p90, "output tokens", 0)
        seconds = _about(
            _seconds(chosen.latency_ms_p50), _seconds(chosen.latency_ms_p90) or 0.0, "s", 1
        )
        yield f"{chosen.strategy}: {tokens}; {seconds}."


def _about(middle: float | None, most: float, unit: str, digits: int) -> str:
    said = "" if middle is None else f"about {middle:.{digits}f} {unit}, "
    named = "" if said else f" {unit}"
    return f"{said}at most {most:.{digits}f}{named} in 9 of 10"


def _seconds(latency_ms: float | None) -> float | None:
    return None if latency_ms is None else latency_ms / 1000


def _own_answers(explanation: Explanation) -> Iterator[str]:
    """How the tenant's graded answers moved the predictions."""
    for candidate in explanation.candidates:
        was, now = candidate.policy_quality, candidate.quality
        if not candidate.offset or was is None or now is None:
            continue
        moved = f"from {was:.0%} to {now:.0%}"
        if candidate.graded:
            yield (
                f"Your last {candidate.graded} graded answers with {candidate.strategy} were right "
                f"{candidate.graded_right:.0%} against {candidate.graded_predicted:.0%} predicted: "
                f"moved {moved}."
            )
        else:
            yield f"{candidate.strategy}: moved {moved} by your graded answers with others."


def _candidate(candidate: ExplainedCandidate) -> str:
    if candidate.quality is None:
        return f"{candidate.strategy}: {candidate.verdict}."
    right = f"{candidate.quality:.1%} right"
    if candidate.quality_low is not None and candidate.quality_high is not None:
        right += f" [{candidate.quality_low:.1%}, {candidate.quality_high:.1%}]"
    elif candidate.quality_low is not None:
        right += f" [at least {candidate.quality_low:.1%}]"
    spent = "unknown cost" if candidate.cost_usd is None else usd(candidate.cost_usd)
    tokens = f"{candidate.output_tokens or 0.0:.0f}"
    if candidate.output_tokens_p90 is not None:
        tokens += f" (at most {candidate.output_tokens_p90:.0f} in 9 of 10)"
    latency = f"{(candidate.latency_ms or 0.0) / 1000:.1f} s"
    if candidate.latency_ms_p90 is not None:
        latency += f" (at most {candidate.latency_ms_p90 / 1000:.1f} in 9 of 10)"
    return (
        f"{candidate.strategy}: {right}, {tokens} output tokens, "
        f"{spent}, {latency} expected; "
        f"propensity {candidate.propensity:.3g}; {candidate.verdict}."
    )


def _features(explanation: Explanation) -> Iterator[str]:
    if explanation.predictability_rests_on is not None:
        yield f"Predictability: {rests_on(explanation.predictability_rests_on)}."
    difference = explanation.difference
    if difference is None:
        return
    pair = f"{difference.strategy} against {difference.against}"
    yield f"{pair}, right: {rests_on(difference.quality, compared=True)}."
    yield f"{pair}, output tokens: {rests_on(difference.output_tokens, compared=True)}."
    yield f"{pair}, latency: {rests_on(difference.latency_ms, compared=True)}."


def _meaning(one: Contribution, *, compared: bool) -> str:
    value = _measured(one.value, one)
    if compared and one.other_value != one.value:
        value += f" against {_measured(one.other_value, one)}"
    return f"{_MEANINGS.get(one.feature, one.meaning)} ({value})"


def _measured(value: float | None, one: Contribution) -> str:
    if value is None:
        return "does not apply"
    if one.feature == "strategy_effort":
        return _EFFORTS.get(value, f"{value:.0f}")
    if one.unit == "flag":
        return "yes" if value else "no"
    unit = one.unit.removesuffix("s") if value == 1 and len(one.unit) > 1 else one.unit
    shown = f"{value:,.2f}" if abs(value) < 10 and value % 1 else f"{value:,.0f}"
    return f"{shown} {unit}" if unit else shown
