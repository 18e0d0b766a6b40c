"""Decisions whose true outcome probabilities are known, for tests of fitting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forethought.models.bundle import PolicyBundle
from forethought.models.demand import DemandModel
from forethought.models.features import DECISION_FEATURES
from forethought.models.outcome import OutcomeModel
from forethought.models.predictability import PredictabilityModel

STRATEGIES = ("direct", "effort:low", "effort:high", "learned:low", "learned:high")
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """n logged decisions; ``true_quality`` is the probability that ``quality`` was drawn from."""

    rows: list[dict[str, float]]
    strategies: list[str]
    groups: list[str]
    true_quality: Floats
    quality: Floats
    tokens: Floats
    latency_ms: Floats


def make_decisions(n_contexts: int, *, seed: int, queries_per_context: int = 4) -> Decisions:
    """Half of the contexts resemble maths, where learned contexts help; half stories."""
    rng = np.random.default_rng(seed)
    rows, strategies, groups = [], [], []
    true_quality, tokens, latency_ms = [], [], []
    for context in range(n_contexts):
        maths = float(rng.random() < 0.5)
        own = {feature.name: float(rng.normal()) for feature in DECISION_FEATURES[:25]}
        own["ctx_like_maths"] = 0.1 + 0.2 * maths + float(rng.normal(scale=0.05))
        own["ctx_chars"] = float(rng.lognormal(6, 0.5))
        for _ in range(queries_per_context):
            row = {feature.name: float(rng.normal()) for feature in DECISION_FEATURES}
            row.update(own)
            row["art_similarity_max"] = float(rng.uniform(0, 1))
            strategy = STRATEGIES[int(rng.integers(len(STRATEGIES)))]
            learned, high = strategy.startswith("learned"), strategy.endswith("high")
            gain = (4 * row["art_similarity_max"] - 1) * maths - 0.5 * (1 - maths)
            log_odds = -1 + learned * gain + 1.2 * high + 0.5 * (1 - maths)
            length = float(rng.lognormal(5.3 if high else 2.5, 0.3))
            rows.append(row)
            strategies.append(strategy)
            groups.append(f"context-{context}")
            true_quality.append(1 / (1 + np.exp(-log_odds)))
            tokens.append(length)
            latency_ms.append(80 + 60 * length + 0.2 * row["ctx_chars"])
    p = np.array(true_quality)
    return Decisions(
        rows=rows,
        strategies=strategies,
        groups=groups,
        true_quality=p,
        quality=(rng.random(len(p)) < p).astype(np.float64),
        tokens=np.array([float(round(length)) for length in tokens]),
        latency_ms=np.array(latency_ms),
    )


def fit_outcome(d: Decisions, *, init: OutcomeModel | None = None) -> OutcomeModel:
    return OutcomeModel.fit(
        d.rows, d.strategies, d.quality, d.tokens, d.latency_ms, d.groups, seed=0, init=init
    )


def fit_policy(n_contexts: int, *, seed: int) -> PolicyBundle:
    """A policy fitted on ``make_decisions``."""
    data = make_decisions(n_contexts, seed=seed)
    return PolicyBundle.build(
        predictability=PredictabilityModel.fit(data.rows, data.quality, data.groups, seed=0),
        outcome=fit_outcome(data),
        demand=DemandModel(),
    )
