"""What a candidate policy would have earned on held-out contexts, beside the champion.

The utility of an answer is ``U = value_usd * quality - cost_usd - latency_usd_per_s * latency``.
Judged are decisions that a policy drew (not those that the client forced, nor fallbacks) and
whose quality is known; all others are counted. This takes the quality to be known or not for
reasons that the features and the strategy explain. What sleep cost is not in U: it is paid per
context, whichever strategy answers afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from forethought.models.bundle import PolicyBundle
from forethought.models.features import matrix, strategy_features
from forethought.router.allocation import Preferences
from forethought.router.records import LoggedDecision
from forethought.training import intervals, ope
from forethought.training.betting import betting
from forethought.training.dataset import Dataset
from forethought.training.diagnostics import propensity_calibration
from forethought.training.errors import SupportError, TrainingError
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
from forethought.training.selection import Tuned

Floats = NDArray[np.float64]
Target = Callable[[LoggedDecision, PolicyBundle], Mapping[str, float]]
"""With which probability a policy would have chosen each strategy for a logged decision."""

CLIP: Final = 20.0
"""Of clipped IPS: one decision counts for no more than twenty."""

_DRAWN: Final = frozenset({"greedy", "explored"})
_SAME: Final = 1e-9


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Candidate minus champion, from the same rows: three intervals.

    In ``betting`` no context counts for more rows than nine tenths of the training contexts have.
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
    ) -> Difference:
        """The intervals of paired terms; ``most`` is what two policies can differ by."""
        exact = intervals.empirical_bernstein(
            terms, groups, low=low, high=high, confidence=confidence
        )
        return cls(
            bootstrap=intervals.cluster_bootstrap(terms, groups, seed=seed),
            bernstein=replace(exact, low=max(exact.low, -most), high=min(exact.high, most)),
            betting=betting(
                terms,
                groups,
                low=low,
                high=high,
                mean_range=(-most, most),
                max_rows=max_rows,
                confidence=confidence,
                seed=seed,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A candidate against a champion on ``n_decisions`` held-out decisions.

    ``n_new`` are those whose strategy the candidate likes better than the champion does: the
    only ones that show what it would change. ``left_out`` counts held-out decisions that could
    not be judged, by reason. ``cost_known``: without prices, cost is left out of U.
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
    cost_known: bool
    left_out: Mapping[str, int]
    propensity_error: float | None = None
    """How far the logged propensities are from how often strategies were drawn; 0 is true."""


def evaluate(
    dataset: Dataset,
    *,
    candidate: PolicyBundle,
    champion: PolicyBundle | None,
    preferences: Preferences,
    target: Target,
    since: float | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Evaluation:
    """Estimate both policies, and their difference, from the held-out decisions.

    Args:
        dataset: Of the log; its training rows only bound the utility from below.
        candidate: The policy in question.
        champion: The one that serves; None: always ``direct``, as without any policy.
        preferences: What an answer is worth.
        target: The choice code that serves.
        since: Unix seconds; decisions up to then do not count: they chose the champion.
        confidence: Two-sided, of the bounds that hold at any sample size.
        seed: Of the bootstrap, and of the order in which bets are made.

    Raises:
        SupportError: The log never gave a chance to what a policy would do.
        TrainingError: No held-out decision can be judged.
    """
    test, left_out, cost_known = _judgeable(dataset.test, since)
    names = test.candidate_names
    p = test.candidate_propensities
    action = np.array([names.index(strategy) for strategy in test.strategies], dtype=np.intp)
    new = _targets(test, candidate, target)
    old = _targets(test, champion, target)
    ope.check_support(p, new, names=names)
    ope.check_support(p, old, names=names)

    low = utility_floor(dataset.train, preferences)
    u = np.clip(utility(test, preferences), low, preferences.value_usd)
    predicted_quality, predicted, predicted_latency = _predictions(test, candidate, preferences)
    predicted = np.clip(predicted, low, preferences.value_usd)
    codes = intervals.cluster_codes(test.groups)
    max_rows = usual_rows(dataset.train.groups)

    def difference(reward: Floats, q: Floats, reward_range: tuple[float, float]) -> Difference:
        lows, highs = ope.dr_term_bounds(p, new - old, q, reward_range=reward_range)
        return Difference.of(
            ope.dr_terms(reward, action, p, new - old, q),
            test.groups,
            low=lows,
            high=highs,
            most=reward_range[1] - reward_range[0],
            max_rows=max_rows,
            confidence=confidence,
            seed=seed,
        )

    def value(version: str, t: Floats) -> PolicyValue:
        sample = Sample.of(u, action, p, t, predicted)
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
            quality=float(ope.dr_terms(test.quality, action, p, t, predicted_quality).mean()),
            effective_sample_size=ope.effective_sample_size(sample.weight),
            largest_weight=ope.largest_possible_weight(p, t),
        )

    latency = None
    slowest = latency_ceiling(dataset.train)
    if slowest > 0 and not np.isnan(test.latency_ms).any():
        latency = difference(
            np.clip(test.latency_ms, 0.0, slowest),
            np.clip(predicted_latency, 0.0, slowest),
            (0.0, slowest),
        )
    rows = np.arange(len(test))
    return Evaluation(
        candidate=value(candidate.version, new),
        champion=value("direct" if champion is None else champion.version, old),
        utility=difference(u, predicted, (low, preferences.value_usd)),
        quality=difference(test.quality, predicted_quality, (0.0, 1.0)),
        latency=latency,
        n_decisions=len(test),
        n_contexts=test.n_contexts,
        n_new=int(((new - old)[rows, action] > _SAME).sum()),
        n_differ=int((np.abs(new - old).max(axis=1) > _SAME).sum()),
        cost_known=cost_known,
        left_out=left_out,
        propensity_error=propensity_calibration(action, p).error,
    )


def usual_rows(groups: Sequence[str]) -> int:
    """Rows that nine in ten contexts have at most: of the training contexts, to cap others by."""
    if not groups:
        return 1
    sizes = list(Counter(groups).values())
    return int(np.quantile(sizes, 0.9, method="higher"))


def latency_ceiling(train: Dataset) -> float:
    """Above this, latencies are cut: twice the greatest among the training rows, in ms."""
    known = train.latency_ms[~np.isnan(train.latency_ms)]
    return 2.0 * float(known.max(initial=0.0))


def utility(dataset: Dataset, preferences: Preferences) -> Floats:
    """U of each row in USD, shape (n,); NaN where the quality is unknown.

    A cost that is unknown is left out, as it is when serving.
    """
    return np.asarray(preferences.value_usd * dataset.quality - _expense(dataset, preferences))


def utility_floor(train: Dataset, preferences: Preferences) -> float:
    """Below this, utilities are cut: twice the greatest expense among the training rows.

    A bound on the mean needs one on each value, and the held-out rows must not set it.
    """
    expense = _expense(train, preferences)
    return -2.0 * float(expense.max()) if len(expense) else -preferences.value_usd


def _expense(dataset: Dataset, preferences: Preferences) -> Floats:
    seconds = np.nan_to_num(dataset.latency_ms) / 1000.0
    return np.asarray(np.nan_to_num(dataset.cost_usd) + preferences.latency_usd_per_s * seconds)


def _judgeable(held_out: Dataset, since: float | None) -> tuple[Dataset, dict[str, int], bool]:
    """The decisions that count, why others do not, and whether their costs are known."""
    reasons = [
        "made before the champion served, which they helped to choose"
        if since is not None and held_out.created_at[i] <= since
        else _why_not(
            held_out.decisions[i], held_out.quality[i], held_out.candidate_propensities[i]
        )
        for i in range(len(held_out))
    ]
    kept = np.array([reason is None for reason in reasons], dtype=bool)
    left_out = Counter(reason for reason in reasons if reason is not None)
    # Some prices known and some not would favour the strategies of unknown cost.
    unpriced = np.isnan(held_out.cost_usd) & kept
    cost_known = not np.array_equal(unpriced, kept)
    if cost_known and unpriced.any():
        left_out["cost unknown"] += int(unpriced.sum())
        kept &= ~unpriced
    if not kept.any():
        said = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise TrainingError(
            "No held-out decision can be judged"
            + (f" (left out: {said})." if said else ": the log has none."),
            remedy="Give feedback on decisions that the router drew, on more contexts.",
        )
    return held_out.take(kept), dict(left_out), cost_known


def _why_not(logged: LoggedDecision, quality: float, propensities: Floats) -> str | None:
    decision = logged.decision
    if decision.mode not in _DRAWN:
        return f"{decision.mode}, not drawn by a policy"
    if np.isnan(quality):
        return "without feedback"
    said = {c.strategy: c.propensity for c in decision.candidates}.get(decision.strategy)
    if said is None or abs(said - decision.propensity) > 1e-6 or abs(propensities.sum() - 1) > 1e-6:
        return "with propensities that do not add up"
    return None


def _targets(test: Dataset, bundle: PolicyBundle | None, target: Target) -> Floats:
    column = {name: index for index, name in enumerate(test.candidate_names)}
    found = np.zeros((len(test), len(column)))
    if bundle is None:
        if "direct" in column:
            found[:, column["direct"]] = 1.0
            return found
        raise SupportError(
            "The log has no decision for which direct was a candidate.",
            strategies=["direct"],
            remedy="Serve for a while, then train again.",
        )
    for index, logged in enumerate(test.decisions):
        for name, probability in target(logged, bundle).items():
            if name in column:
                found[index, column[name]] = probability
            elif probability > 0:
                raise SupportError(
                    f"The policy would choose {name}, which no logged decision could.",
                    strategies=[name],
                    remedy="Serve with it allowed for a while, then train again.",
                )
    return found


def _predictions(
    test: Dataset, bundle: PolicyBundle, preferences: Preferences
) -> tuple[Floats, Floats, Floats]:
    """Predicted quality, utility and latency (ms) of every candidate, shape (n, k); else 0."""
    known = [name for name in test.candidate_names if _is_known(name)]
    quality = np.zeros(test.candidate_propensities.shape)
    earned, latency = np.zeros_like(quality), np.zeros_like(quality)
    logged_cost = [
        {c.strategy: c.cost_usd or 0.0 for c in one.decision.candidates} for one in test.decisions
    ]
    for name in known:
        column = test.candidate_names.index(name)
        predicted = bundle.outcome.predict(matrix(test.rows, [name] * len(test)))
        cost = np.array([costs.get(name, 0.0) for costs in logged_cost])
        quality[:, column] = predicted.quality
        latency[:, column] = predicted.latency_ms
        earned[:, column] = (
            preferences.value_usd * predicted.quality
            - cost
            - preferences.latency_usd_per_s * predicted.latency_ms / 1000.0
        )
    return quality, earned, latency


def _is_known(strategy: str) -> bool:
    try:
        strategy_features(strategy)
    except ValueError:
        return False
    return True


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
        "contexts": evaluation.n_contexts,
        "decisions_that_differ": evaluation.n_differ,
        "decisions_that_show_it": evaluation.n_new,
        "cost_known": evaluation.cost_known,
        "left_out": dict(evaluation.left_out),
    }


def rows_of(groups: Sequence[str]) -> dict[str, list[int]]:
    """The indices of each group's rows, in order."""
    found: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        found.setdefault(group, []).append(index)
    return found
