"""The gate: a candidate serves only when it is better beyond doubt.

Promoted when the lower bound of the paired difference in utility (candidate - champion) is
above 0, that of the quality difference above -margin, and the upper bound of the latency
difference below its limit, if there is one. Whatever the log cannot tell is a refusal, not a
guess. All bounds must hold together, so each may have the whole error that this test may spend
(Berger 1982, intersection-union); ``forethought.training.ledger`` says how much that is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from forethought.training.errors import TrainingError
from forethought.training.evaluation import Difference, Evaluation
from forethought.training.intervals import Interval
from forethought.training.ledger import Test

Bound = Literal["betting", "bernstein", "bootstrap"]

ALPHA: Final = 0.05
"""The chance that something worthless is promoted, over all tests since the last promotion."""

MIN_NEW: Final = 10
"""Decisions that show what the candidate would change, below which a bootstrap says nothing.

In simulations without any difference (200 logs of 800 to 4,000 decisions, the rare strategy drawn
with 1%) the bootstrap promoted 11% of the logs that had 5 of them, 5.5% of those with 10: the 5%
that it claims.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRule:
    """What a candidate must show.

    Attributes:
        margin: How much quality may be lost, 0 to 1.
        latency_margin_ms: How much slower an answer may get on average; None: no limit, what
            waiting costs is in the utility.
        alpha: Error over all tests since the last promotion.
        bound: Which interval decides. ``bootstrap`` is approximate, and for one look only: it
            stays at 5% however often it is asked.
        min_new: Decisions as the candidate would newly take them that ``bootstrap`` needs.
    """

    margin: float = 0.02
    latency_margin_ms: float | None = None
    alpha: float = ALPHA
    bound: Bound = "betting"
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
    evaluate: Callable[[], Evaluation], rule: GateRule, test: Test | None = None
) -> tuple[GateResult, Evaluation | None]:
    """Evaluate and decide; what cannot be evaluated (missing support, no data) is refused.

    ``test``: which one it is of those that share the error; None: a single one.
    """
    try:
        evaluation = evaluate()
    except TrainingError as error:
        return GateResult(promote=False, reason=f"Not promoted: {error}"), None
    return decide(evaluation, rule, test), evaluation


def decide(evaluation: Evaluation, rule: GateRule, test: Test | None = None) -> GateResult:
    """Whether the candidate may serve, from its evaluation against the champion."""
    if not evaluation.n_differ:
        return GateResult(
            promote=False,
            reason="Not promoted: the candidate would have chosen as the champion did in all "
            f"{evaluation.n_decisions} held-out decisions, so there is nothing to gain.",
        )
    if rule.bound == "bootstrap" and evaluation.n_new < rule.min_new:
        share = evaluation.n_new / evaluation.n_held_out
        missing = rule.min_new - evaluation.n_new
        return GateResult(
            promote=False,
            reason=f"Not promoted: only {evaluation.n_new} held-out decisions were answered as "
            f"the candidate would newly do; {rule.min_new} are needed to say anything.",
            more_decisions=round(missing / share) if share else None,
        )
    utility, quality = _chosen(evaluation.utility, rule), _chosen(evaluation.quality, rule)
    doubts = [
        *_utility_doubts(utility),
        *_quality_doubts(quality, rule),
        *_own_doubts(evaluation, rule),
    ]
    needed = [utility.rows_until_above(0.0), quality.rows_until_above(-rule.margin)]
    if rule.latency_margin_ms is not None:
        limit = rule.latency_margin_ms
        if evaluation.latency is None:
            return GateResult(
                promote=False,
                reason="Not promoted: its latency is limited, but not known for all decisions.",
            )
        latency = _chosen(evaluation.latency, rule)
        needed.append(latency.negated().rows_until_above(-limit))
        if latency.high >= limit:
            doubts.append(
                f"answers may get slower by more than {limit:g} ms: the estimate is "
                f"{latency.value:+.0f} ms, at {_sure(latency)} below {latency.high:+.0f} ms only"
            )
    counted = _counted(test)
    if not doubts:
        return GateResult(
            promote=True,
            reason=f"Promoted: at {_sure(utility)} each, the candidate gains more than "
            f"{_usd(utility.low)} a decision (estimate {_usd(utility.value)}) and its quality is "
            f"no worse than {_points(quality.low, signed=True)} "
            f"(estimate {_points(quality.value, signed=True)}).{counted}",
        )
    more = None if None in needed else max(1, *(n - utility.n_rows for n in needed if n))
    advice = (
        "More of the same would not help."
        if more is None
        else f"It would take about {more:,} more judged held-out decisions, if things stay as "
        "they are."
    )
    return GateResult(
        promote=False,
        reason=f"Not promoted: {'; and '.join(doubts)}. {advice}{counted}",
        more_decisions=more,
    )


def _utility_doubts(utility: Interval) -> list[str]:
    if utility.low > 0:
        return []
    if utility.value <= 0:
        return [f"no utility is gained: the estimate is {_usd(utility.value)} a decision"]
    doubt = (
        f"the utility gain of {_usd(utility.value)} a decision is not beyond doubt: at "
        f"{_sure(utility)} it is above {_usd(utility.low)} only"
    )
    return [doubt]


def _quality_doubts(quality: Interval, rule: GateRule) -> list[str]:
    if quality.low > -rule.margin:
        return []
    doubt = (
        f"quality may fall by more than {_points(rule.margin)}: the estimate is "
        f"{_points(quality.value, signed=True)}, at {_sure(quality)} above "
        f"{_points(quality.low, signed=True)} only"
    )
    return [doubt]


def _own_doubts(evaluation: Evaluation, rule: GateRule) -> list[str]:
    """That earlier fits gained is proof of them; the candidate must not look otherwise itself."""
    if not evaluation.n_stages:
        return []
    gained, better = evaluation.utility.bernstein.value, evaluation.quality.bernstein.value
    where = f"on the {evaluation.n_held_out} decisions that are held out from the candidate itself"
    doubts = []
    if gained <= 0:
        doubts.append(f"{where} no utility is gained: {_usd(gained)} a decision")
    if better <= -rule.margin:
        doubts.append(f"{where} quality changes by {_points(better, signed=True)}")
    return doubts


def _counted(test: Test | None) -> str:
    if test is None:
        return ""
    return (
        f" This is test {test.number} since the last promotion; it may spend {test.level:.2%} of "
        f"the {test.alpha:.0%} chance of error that all of them share."
    )


def _chosen(difference: Difference, rule: GateRule) -> Interval:
    if rule.bound == "bootstrap":
        return difference.bootstrap
    return difference.betting if rule.bound == "betting" else difference.bernstein


def _sure(interval: Interval) -> str:
    share = (1 + interval.confidence) / 2
    digits = max(0, int(np.ceil(-np.log10(1 - share))) - 2)
    digits += abs(100 * share - round(100 * share, digits)) > 10.0 ** -(digits + 2)
    return f"{share:.{digits}%} confidence ({interval.method})"


def _usd(value: float) -> str:
    return f"{value:+.6f} USD"


def _points(share: float, *, signed: bool = False) -> str:
    return f"{100 * share:{'+' if signed else ''}.1f} points"
