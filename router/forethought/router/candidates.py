"""What each strategy would cost and score: the predictions that a decision weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forethought.models.features import KNOWN_STRATEGIES
from forethought.models.outcome import OutcomePrediction
from forethought.router.allocation import Preferences, utility, with_propensities
from forethought.router.blending import Offset, Offsets, logged_offsets
from forethought.router.pricing import Prices, cost
from forethought.router.records import Candidate, LoggedDecision, Usage

if TYPE_CHECKING:
    from forethought.models.bundle import PolicyBundle


def predict_candidates(
    bundle: PolicyBundle,
    features: Mapping[str, float],
    excluded: Mapping[str, str | None],
    inputs: Mapping[str, Usage],
    prices: Prices | None,
    preferences: Preferences,
    offsets: Offsets | None = None,
) -> tuple[Candidate, ...]:
    """Predict every admissible strategy's outcome and utility, in one pass.

    ``offsets`` are what the tenant's own answers add to the policy's qualities. Raises ValueError
    where a prediction is not finite, or a strategy is one that nothing predicts.
    """
    outcome = bundle.foresee(features).outcome
    return candidates_of(outcome, excluded, inputs, prices, preferences, offsets)


def candidates_of(
    outcome: OutcomePrediction,
    excluded: Mapping[str, str | None],
    inputs: Mapping[str, Usage],
    prices: Prices | None,
    preferences: Preferences,
    offsets: Offsets | None = None,
) -> tuple[Candidate, ...]:
    """The same from a prediction for each of ``KNOWN_STRATEGIES``."""
    predicted = dict(
        zip(
            KNOWN_STRATEGIES,
            zip(
                outcome.quality.tolist(),
                outcome.quality_low.tolist(),
                outcome.quality_high.tolist(),
                outcome.tokens.tolist(),
                outcome.tokens_p90.tolist(),
                outcome.latency_ms.tolist(),
                outcome.latency_ms_p90.tolist(),
                strict=True,
            ),
            strict=True,
        )
    )
    found: dict[str, Candidate] = {}
    for name, why in excluded.items():
        if why is not None:
            continue
        if name not in predicted:
            message = f"nothing predicts {name!r}; known: {', '.join(KNOWN_STRATEGIES)}"
            raise ValueError(message)
        quality, low, high, tokens, tokens_p90, latency_ms, latency_ms_p90 = predicted[name]
        if not math.isfinite(quality + tokens + latency_ms):
            message = f"the prediction for {name} is not finite"
            raise ValueError(message)
        offset = None if offsets is None else offsets.get(name)
        if offset is not None:
            quality, low, high = offset.moved(quality, low, high)
        spent = cost(inputs[name], prices, output_tokens=round(tokens))
        found[name] = Candidate(
            strategy=name,
            quality=quality,
            quality_low=low,
            quality_high=high,
            output_tokens=tokens,
            output_tokens_p90=_known(tokens_p90),
            cost_usd=spent,
            latency_ms=latency_ms,
            latency_ms_p90=_known(latency_ms_p90),
            utility=utility(
                quality, cost_usd=spent, latency_ms=latency_ms, preferences=preferences
            ),
            **({} if offset is None else _logged(offset)),
        )
    if preferences.max_latency_ms is not None:
        found = _within(found, preferences.max_latency_ms)
    return tuple(
        found.get(name) or Candidate(strategy=name, excluded=why) for name, why in excluded.items()
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 1)


def _logged(offset: Offset) -> dict[str, Any]:
    """The fields of a candidate that say what the tenant's own answers did to it."""
    fields: dict[str, Any] = {"offset": offset.mean, "offset_sd": offset.sd}
    if offset.n:
        fields |= {
            "graded": offset.n,
            "graded_right": offset.right,
            "graded_predicted": offset.predicted,
        }
    return fields


def _within(found: Mapping[str, Candidate], max_latency_ms: float) -> dict[str, Candidate]:
    """Exclude what is slower than the limit in more than one of ten answers, but for the fastest.

    Where the policy knows no quantile, its mean stands in.
    """

    def slow_ms(candidate: Candidate) -> float:
        p90 = candidate.latency_ms_p90
        return (candidate.latency_ms or 0.0) if p90 is None else p90

    fastest = min(found.values(), key=slow_ms, default=None)
    return {
        name: candidate
        if candidate is fastest or slow_ms(candidate) <= max_latency_ms
        else replace(
            candidate,
            utility=None,
            excluded=f"one answer in ten takes longer than {slow_ms(candidate) / 1000:.1f} s, "
            f"and the limit is {max_latency_ms / 1000:g} s",
        )
        for name, candidate in found.items()
    }


def target_probabilities(
    logged: LoggedDecision,
    bundle: PolicyBundle,
    preferences: Preferences,
    prices: Prices | None,
) -> dict[str, float]:
    """With which probability ``bundle`` would have chosen each strategy for a logged decision.

    The input tokens are those of the logged candidates; only what the bundle predicts changes.
    The tenant's own answers moved the qualities of the policy that decided; another starts anew.
    """
    decision = logged.decision
    excluded = {c.strategy: c.excluded for c in decision.candidates}
    own = decision.policy_version == bundle.version
    repriced = predict_candidates(
        bundle, decision.features, excluded, {n: Usage() for n in excluded}, prices, preferences,
        logged_offsets(decision.candidates) if own else None,
    )  # fmt: skip
    before = {c.strategy: c for c in decision.candidates}
    with_input = [
        replace(
            c,
            utility=c.utility
            - preferences.cost_multiplier * _input_cost(before[c.strategy], prices),
        )
        if c.utility is not None
        else c
        for c in repriced
    ]
    return {c.strategy: c.propensity for c in with_propensities(with_input, preferences)}


def _input_cost(candidate: Candidate, prices: Prices | None) -> float:
    if candidate.cost_usd is None or candidate.output_tokens is None or prices is None:
        return 0.0
    output = cost(Usage(output_tokens=round(candidate.output_tokens)), prices) or 0.0
    return max(0.0, candidate.cost_usd - output)
