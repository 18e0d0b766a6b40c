"""The gate: a candidate serves only when it is better beyond doubt.

Promoted when the lower bound of the paired difference in utility (candidate - champion) is
above 0 and that of the quality difference above -margin. Whatever the log cannot tell is a
refusal, not a guess. The bounds are one-sided at 5% for one look at the data: they do not
account for trying again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from forethought.training.errors import TrainingError
from forethought.training.evaluation import Difference, Evaluation
from forethought.training.intervals import Interval

Bound = Literal["bootstrap", "bernstein"]

MIN_NEW: Final = 10
"""Decisions that show what the candidate would change, below which a bootstrap says nothing.

In simulations without any difference (200 logs of 800 to 4,000 decisions, the rare strategy drawn
with 1%) the bootstrap promoted 11% of the logs that had 5 of them, 5.5% of those with 10: the 5%
that it claims.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRule:
    """``margin``: how much quality may be lost. ``bound``: which interval decides."""

    margin: float = 0.02
    bound: Bound = "bootstrap"
    min_new: int = MIN_NEW


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """``promote``, and why or why not in plain words.

    ``more_decisions``: about how many more judged held-out decisions of the same kind it would
    take; None where promoted, or where more of the same would not help.
    """

    promote: bool
    reason: str
    more_decisions: int | None = None


def judge(
    evaluate: Callable[[], Evaluation], rule: GateRule
) -> tuple[GateResult, Evaluation | None]:
    """Evaluate and decide; what cannot be evaluated (missing support, no data) is refused."""
    try:
        evaluation = evaluate()
    except TrainingError as error:
        return GateResult(promote=False, reason=f"Not promoted: {error}"), None
    return decide(evaluation, rule), evaluation


def decide(evaluation: Evaluation, rule: GateRule) -> GateResult:
    """Whether the candidate may serve, from its evaluation against the champion."""
    if not evaluation.n_differ:
        return GateResult(
            promote=False,
            reason="Not promoted: the candidate would have chosen as the champion did in all "
            f"{evaluation.n_decisions} held-out decisions, so there is nothing to gain.",
        )
    utility, quality = _chosen(evaluation.utility, rule), _chosen(evaluation.quality, rule)
    if evaluation.n_new < rule.min_new:
        share = evaluation.n_new / evaluation.n_decisions
        missing = rule.min_new - evaluation.n_new
        return GateResult(
            promote=False,
            reason=f"Not promoted: only {evaluation.n_new} held-out decisions were answered as "
            f"the candidate would newly do; {rule.min_new} are needed to say anything.",
            more_decisions=round(missing / share) if share else None,
        )
    doubts = []
    if utility.low <= 0:
        doubts.append(
            f"the utility gain of {_usd(utility.value)} a decision is not beyond doubt: at "
            f"{_sure(utility)} it is above {_usd(utility.low)} only"
            if utility.value > 0
            else f"no utility is gained: the estimate is {_usd(utility.value)} a decision"
        )
    if quality.low <= -rule.margin:
        doubts.append(
            f"quality may fall by more than {_points(rule.margin)}: the estimate is "
            f"{_points(quality.value, signed=True)}, at {_sure(quality)} above "
            f"{_points(quality.low, signed=True)} only"
        )
    if not doubts:
        return GateResult(
            promote=True,
            reason=f"Promoted: at {_sure(utility)} each, the candidate gains more than "
            f"{_usd(utility.low)} a decision (estimate {_usd(utility.value)}) and its quality is "
            f"no worse than {_points(quality.low, signed=True)} "
            f"(estimate {_points(quality.value, signed=True)}).",
        )
    needed = [utility.rows_until_above(0.0), quality.rows_until_above(-rule.margin)]
    more = None if None in needed else max(1, *(n - utility.n_rows for n in needed if n))
    advice = (
        "More of the same would not help."
        if more is None
        else f"It would take about {more:,} more judged held-out decisions, if things stay as "
        "they are."
    )
    return GateResult(
        promote=False,
        reason=f"Not promoted: {'; and '.join(doubts)}. {advice}",
        more_decisions=more,
    )


def _chosen(difference: Difference, rule: GateRule) -> Interval:
    return difference.bootstrap if rule.bound == "bootstrap" else difference.bernstein


def _sure(interval: Interval) -> str:
    return f"{(1 + interval.confidence) / 2:.0%} confidence ({interval.method})"


def _usd(value: float) -> str:
    return f"{value:+.6f} USD"


def _points(share: float, *, signed: bool = False) -> str:
    return f"{100 * share:{'+' if signed else ''}.1f} points"
