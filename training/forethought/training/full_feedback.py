"""Evaluate on recorded rows, where every strategy's outcome is known: no weighting needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from forethought.models.bundle import PolicyBundle
from forethought.router.allocation import Preferences, with_propensities
from forethought.router.candidates import predict_candidates
from forethought.router.pricing import Prices, cost
from forethought.router.records import Usage
from forethought.training.dataset import Dataset
from forethought.training.errors import TrainingError
from forethought.training.evaluation import Difference, Evaluation, PolicyValue
from forethought.training.intervals import CONFIDENCE
from forethought.training.judged import (
    latency_ceiling,
    rows_of,
    usual_rows,
    utility,
    utility_floor,
)

Floats = NDArray[np.float64]
PricesOf = Callable[[str], Prices | None]
"""The prices of a model by name."""


def with_costs(dataset: Dataset, prices_of: PricesOf) -> Dataset:
    """The recorded rows with their cost in USD, NaN where a model's price is unknown."""
    costs = [
        cost(usage, prices_of(model))
        for usage, model in zip(dataset.usages, dataset.models, strict=True)
    ]
    return replace(dataset, cost_usd=np.array([math.nan if c is None else c for c in costs]))


def evaluate_recorded(
    dataset: Dataset,
    *,
    candidate: PolicyBundle,
    champion: PolicyBundle | None,
    preferences: Preferences,
    prices_of: PricesOf,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Evaluation:
    """Both policies on the held-out queries whose every strategy was recorded and graded.

    Args:
        dataset: Of ``read_recorded``.
        candidate: The policy in question.
        champion: The one that serves; None: always ``direct``.
        preferences: What an answer is worth.
        prices_of: Prices by model.
        confidence: Two-sided, of the bounds that hold at any sample size.
        seed: Of the bootstrap.

    Raises:
        TrainingError: No held-out query has all strategies' outcomes, ``direct`` among them.
    """
    test = with_costs(dataset.test, prices_of)
    names = test.candidate_names
    queries = {
        query: dict(zip((test.strategies[i] for i in indices), indices, strict=True))
        for query, indices in rows_of(test.queries).items()
    }
    whole = {
        query: rows
        for query, rows in queries.items()
        if set(rows) == set(names) and not np.isnan(test.quality[list(rows.values())]).any()
    }
    if not whole or "direct" not in names:
        raise TrainingError(
            f"No held-out query of {dataset.source} has every strategy's outcome.",
            param=dataset.source,
            remedy="Record all strategies, direct among them, on more contexts.",
        )
    train = with_costs(dataset.train, prices_of)
    low = utility_floor(train, preferences)
    earned = np.clip(utility(test, preferences), low, preferences.value_usd)
    rows = np.array([[found[name] for name in names] for found in whole.values()], dtype=np.intp)
    new = _choices(test, rows, candidate, preferences, prices_of)
    old = _choices(test, rows, champion, preferences, prices_of)
    groups = [test.groups[int(row[0])] for row in rows]

    max_rows = usual_rows(list(dict(zip(train.queries, train.groups, strict=True)).values()))

    def difference(values: Floats, spread: float) -> Difference:
        # A difference of two probabilities times values that are at most ``spread`` apart.
        return Difference.of(
            ((new - old) * values[rows]).sum(axis=1),
            groups,
            low=-spread,
            high=spread,
            most=spread,
            max_rows=max_rows,
            confidence=confidence,
            seed=seed,
        )

    slowest = latency_ceiling(train)
    timed = slowest > 0 and not np.isnan(test.latency_ms[rows]).any()

    def value(version: str, chosen: Floats) -> PolicyValue:
        return PolicyValue(
            version=version,
            utility_usd={"exact": float((chosen * earned[rows]).sum(axis=1).mean())},
            quality=float((chosen * test.quality[rows]).sum(axis=1).mean()),
            effective_sample_size=float(len(rows)),
            largest_weight=1.0,
        )

    differing = int((np.abs(new - old).max(axis=1) > 1e-9).sum())
    return Evaluation(
        candidate=value(candidate.version, new),
        champion=value("direct" if champion is None else champion.version, old),
        utility=difference(earned, preferences.value_usd - low),
        quality=difference(test.quality, 1.0),
        latency=difference(np.clip(test.latency_ms, 0.0, slowest), slowest) if timed else None,
        n_decisions=len(rows),
        n_contexts=len(set(groups)),
        n_new=differing,
        n_differ=differing,
        n_held_out=len(rows),
        cost_known=not np.isnan(test.cost_usd).any(),
        left_out={"queries without every strategy": len(queries) - len(whole)}
        if len(queries) > len(whole)
        else {},
    )


def _choices(
    test: Dataset,
    rows: NDArray[np.intp],
    bundle: PolicyBundle | None,
    preferences: Preferences,
    prices_of: PricesOf,
) -> Floats:
    """The policy's probability of each strategy for each query, shape (n queries, k)."""
    names = test.candidate_names
    if bundle is None:
        return np.tile(np.array([float(name == "direct") for name in names]), (len(rows), 1))
    allowed: Mapping[str, None] = dict.fromkeys(names)
    found = np.zeros(rows.shape)
    for index, own in enumerate(rows):
        # What the learned context holds is known before the choice, whichever row wrote it down.
        features = {
            name: value
            for row in own
            for name, value in test.rows[row].items()
            if not math.isnan(value)
        }
        inputs = {
            name: Usage(
                input_tokens=test.usages[row].input_tokens,
                cached_tokens=test.usages[row].cached_tokens,
            )
            for name, row in zip(names, own, strict=True)
        }
        candidates = predict_candidates(
            bundle, features, allowed, inputs, prices_of(test.models[int(own[0])]), preferences
        )
        found[index] = [c.propensity for c in with_propensities(candidates, preferences)]
    return found
