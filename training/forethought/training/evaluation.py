"""What a candidate would have earned beside the champion, on decisions it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from forethought.models.bundle import PolicyBundle
from forethought.router.allocation import Preferences
from forethought.training import intervals, ope
from forethought.training.betting import betting
from forethought.training.dataset import Dataset
from forethought.training.diagnostics import propensity_calibration
from forethought.training.estimators import (
    DR,
    IPS,
    SNDR,
    SNIPS,
    ClippedIPS,
    DirectMethod,
    DRos,
    Sample,
    SwitchDR,
)
from forethought.training.intervals import CONFIDENCE, Interval
from forethought.training.judged import (
    Champion,
    Judged,
    Target,
    judgeable,
    judgeable_stages,
    judged,
    latency_ceiling,
    usual_rows,
    utility_floor,
)
from forethought.training.progressive import Stage
from forethought.training.selection import Tuned

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

CLIP: Final = 20.0
"""Of clipped IPS: one decision counts for no more than twenty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """Estimated mean utility (USD a decision) and quality of one policy."""

    version: str
    utility_usd: Mapping[str, float]
    """By estimator: ``dm``, ``ips``, ``clipped_ips``, ``snips``, ``dr``, ``sndr``, and, tuned by
    SLOPE, ``switch_dr`` and ``dros``; ``exact`` for recorded rows."""
    quality: float
    effective_sample_size: float
    largest_weight: float


@dataclass(frozen=True, slots=True)
class Staged:
    """Paired terms with their bounds and stages, each of shape (n,), for ``betting``."""

    terms: Floats
    groups: Sequence[str]
    low: Floats | float
    high: Floats | float
    stage: Codes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Candidate minus champion, from the same rows: three intervals.

    ``betting`` is over all stages, the others over the candidate's own held-out decisions. In
    ``betting`` no context counts for more rows than nine tenths of the training contexts have.
    ``bootstrap`` is always two-sided at 90%.
    """

    bootstrap: Interval
    bernstein: Interval
    betting: Interval

    @classmethod
    def of(
        cls,
        terms: Floats,
        groups: Sequence[str],
        *,
        low: Floats | float,
        high: Floats | float,
        most: float,
        max_rows: int,
        confidence: float,
        seed: int,
        staged: Staged | None = None,
    ) -> Difference:
        """The intervals of paired terms; ``most`` is what two policies can differ by.

        ``staged``: the terms of all stages, these last, for ``betting``: the other two are for
        terms that are alike.
        """
        exact = intervals.empirical_bernstein(
            terms, groups, low=low, high=high, confidence=confidence
        )
        bets = staged or Staged(terms, groups, low, high, None)
        return cls(
            bootstrap=intervals.cluster_bootstrap(terms, groups, seed=seed),
            bernstein=replace(exact, low=max(exact.low, -most), high=min(exact.high, most)),
            betting=betting(
                bets.terms,
                bets.groups,
                low=bets.low,
                high=bets.high,
                stage=bets.stage,
                mean_range=(-most, most),
                max_rows=max_rows,
                confidence=confidence,
                seed=seed,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A candidate against a champion on ``n_decisions`` decisions.

    ``n_held_out`` of them are on contexts that are held out from the candidate; the others judged
    ``n_stages`` policies that were fitted like it on fewer contexts, and count for it in
    ``candidate``. ``n_new`` are the held-out ones whose strategy the candidate likes better than
    the champion does: the only ones that show what it would change. ``left_out`` counts held-out
    decisions that could not be judged, by reason. ``cost_known``: without prices, cost is left out
    of U.
    """

    candidate: PolicyValue
    champion: PolicyValue
    utility: Difference
    quality: Difference
    latency: Difference | None
    """In milliseconds; None where it is not known for every decision."""
    n_decisions: int
    n_contexts: int
    n_new: int
    n_differ: int
    """Decisions on which the two policies' probabilities differ at all."""
    n_held_out: int
    cost_known: bool
    left_out: Mapping[str, int]
    n_stages: int = 0
    propensity_error: float | None = None
    """How far the logged propensities are from how often strategies were drawn; 0 is true."""


def evaluate(
    dataset: Dataset,
    *,
    candidate: PolicyBundle,
    champion: Champion,
    preferences: Preferences,
    target: Target,
    stages: Sequence[Stage] = (),
    since: float | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Evaluation:
    """Estimate both policies, and their difference, from decisions that neither was fitted on.

    Args:
        dataset: Of the log; its training rows only bound the utility from below.
        candidate: The policy in question.
        champion: The one that serves.
        preferences: What an answer is worth.
        target: The choice code that serves.
        stages: Of ``progressive.stages``: earlier fits, judged on parts of the training contexts.
        since: Unix seconds; decisions up to then do not count: they chose the champion.
        confidence: Two-sided, of the bounds that hold at any sample size.
        seed: Of the bootstrap, and of the order in which bets are made.

    Raises:
        SupportError: The log never gave a chance to what a policy would do.
        TrainingError: No held-out decision can be judged.
    """
    test, left_out, cost_known = judgeable(dataset.test, since)
    # What limits rewards must not come from rows that are judged.
    staged = {group for stage in stages for group in stage.judged.groups}
    known = dataset.train
    known = known.take(np.array([group not in staged for group in known.groups], dtype=bool))
    low = utility_floor(known, preferences)
    slowest = latency_ceiling(known)
    parts = [
        judged(rows, policy, champion, preferences, target, low)
        for rows, policy in (
            *judgeable_stages(stages, since, cost_known=cost_known),
            (test, candidate),
        )
    ]
    own = parts[-1]
    found = Judged.joined(parts)
    stage = np.repeat(np.arange(len(parts)), [len(part.action) for part in parts])
    codes = intervals.cluster_codes(found.groups)
    max_rows = usual_rows(known.groups)

    def difference(name: str, reward_range: tuple[float, float]) -> Difference:
        def terms(of: Judged) -> tuple[Floats, Floats, Floats]:
            reward, q = (np.clip(one, *reward_range) for one in of.rewards[name])
            lows, highs = ope.dr_term_bounds(of.p, of.new - of.old, q, reward_range=reward_range)
            return ope.dr_terms(reward, of.action, of.p, of.new - of.old, q), lows, highs

        last, last_low, last_high = terms(own)
        every, lows, highs = terms(found)
        return Difference.of(
            last, own.groups, low=last_low, high=last_high,
            most=reward_range[1] - reward_range[0], max_rows=max_rows, confidence=confidence,
            seed=seed,
            staged=Staged(every, found.groups, lows, highs, stage) if len(parts) > 1 else None,
        )  # fmt: skip

    def value(version: str, t: Floats) -> PolicyValue:
        u, predicted = found.rewards["utility"]
        quality, predicted_quality = found.rewards["quality"]
        sample = Sample.of(u, found.action, found.p, t, predicted)
        possible = sample.weight.sum() > 0
        return PolicyValue(
            version=version,
            utility_usd={
                "dm": DirectMethod().estimate(sample),
                "ips": IPS().estimate(sample),
                "clipped_ips": ClippedIPS(clip=CLIP).estimate(sample),
                "snips": SNIPS().estimate(sample) if possible else float("nan"),
                "dr": DR().estimate(sample),
                "sndr": SNDR().estimate(sample) if possible else float("nan"),
                "switch_dr": Tuned(SwitchDR()).fit(sample, codes).value_,
                "dros": Tuned(DRos()).fit(sample, codes).value_,
            },
            quality=float(
                ope.dr_terms(quality, found.action, found.p, t, predicted_quality).mean()
            ),
            effective_sample_size=ope.effective_sample_size(sample.weight),
            largest_weight=ope.largest_possible_weight(found.p, t),
        )

    timed = slowest > 0 and not np.isnan(found.rewards["latency"][0]).any()
    return Evaluation(
        candidate=value(candidate.version, found.new),
        champion=value("direct" if champion is None else champion.version, found.old),
        utility=difference("utility", (low, preferences.value_usd)),
        quality=difference("quality", (0.0, 1.0)),
        latency=difference("latency", (0.0, slowest)) if timed else None,
        n_decisions=len(found.action),
        n_contexts=int(codes.max()) + 1,
        n_new=own.n_new,
        n_differ=found.n_differ,
        n_held_out=len(own.action),
        n_stages=len(parts) - 1,
        cost_known=cost_known,
        left_out=left_out,
        propensity_error=propensity_calibration(found.action, found.p).error,
    )


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """JSON-able figures of an evaluation."""

    def interval(found: Interval) -> dict[str, float]:
        return {"value": found.value, "low": found.low, "high": found.high}

    def difference(found: Difference) -> dict[str, Any]:
        return {
            "bootstrap": interval(found.bootstrap),
            "bernstein": interval(found.bernstein),
            "betting": interval(found.betting),
        }

    def policy(found: PolicyValue) -> dict[str, Any]:
        return {
            "version": found.version,
            "utility_usd": dict(found.utility_usd),
            "quality": found.quality,
            "effective_sample_size": found.effective_sample_size,
            "largest_weight": found.largest_weight,
        }

    return {
        "candidate": policy(evaluation.candidate),
        "champion": policy(evaluation.champion),
        "utility_difference_usd": difference(evaluation.utility),
        "quality_difference": difference(evaluation.quality),
        "latency_difference_ms": None
        if evaluation.latency is None
        else difference(evaluation.latency),
        "confidence": evaluation.utility.betting.confidence,
        "propensity_error": evaluation.propensity_error,
        "decisions": evaluation.n_decisions,
        "decisions_held_out": evaluation.n_held_out,
        "stages": evaluation.n_stages,
        "contexts": evaluation.n_contexts,
        "decisions_that_differ": evaluation.n_differ,
        "decisions_that_show_it": evaluation.n_new,
        "cost_known": evaluation.cost_known,
        "left_out": dict(evaluation.left_out),
    }
