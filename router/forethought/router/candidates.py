"""What each strategy would cost and score: the predictions that a decision weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from forethought.router.allocation import Preferences, utility, with_propensities
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
) -> tuple[Candidate, ...]:
    """Predict every admissible strategy's outcome and utility, in one call a head.

    Raises ValueError where a prediction is not finite.
    """
    names = [n for n, why in excluded.items() if why is None]
    predicted = bundle.outcome.predict_for(features, names)
    found: dict[str, Candidate] = {}
    for name, quality, quality_low, tokens, latency_ms in zip(
        names,
        predicted.quality.tolist(),
        predicted.quality_low.tolist(),
        predicted.tokens.tolist(),
        predicted.latency_ms.tolist(),
        strict=True,
    ):
        if not math.isfinite(quality + tokens + latency_ms):
            message = f"the prediction for {name} is not finite"
            raise ValueError(message)
        spent = cost(inputs[name], prices, output_tokens=round(tokens))
        found[name] = Candidate(
            strategy=name,
            quality=quality,
            quality_low=quality_low,
            output_tokens=tokens,
            cost_usd=spent,
            latency_ms=latency_ms,
            utility=utility(
                quality, cost_usd=spent, latency_ms=latency_ms, preferences=preferences
            ),
        )
    return tuple(
        found.get(name) or Candidate(strategy=name, excluded=why) for name, why in excluded.items()
    )


def target_probabilities(
    logged: LoggedDecision,
    bundle: PolicyBundle,
    preferences: Preferences,
    prices: Prices | None,
) -> dict[str, float]:
    """With which probability ``bundle`` would have chosen each strategy for a logged decision.

    The input tokens are those of the logged candidates; only what the bundle predicts changes.
    """
    decision = logged.decision
    excluded = {c.strategy: c.excluded for c in decision.candidates}
    repriced = predict_candidates(
        bundle, decision.features, excluded, {n: Usage() for n in excluded}, prices, preferences
    )
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
