"""What the plots of a run are drawn from: predictions, importance, weights, and the frontier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from forethought.models.bundle import PolicyBundle
from forethought.models.features import matrix
from forethought.models.outcome import HEADS
from forethought.router.allocation import Preferences
from forethought.router.candidates import target_probabilities
from forethought.training import ope
from forethought.training.dataset import Dataset, Floats
from forethought.training.full_feedback import PricesOf

VALUES: Final = tuple(10.0**e for e in (-6, -5, -4.5, -4, -3.5, -3, -2.5, -2, -1))
"""Of a right answer in USD: the frontier is drawn by sweeping it."""

_MOST: Final = 2_000
"""Held-out decisions that the weights and the frontier are made of: some 0.2 ms a policy each."""

_SHOWN: Final = 15


@dataclass(frozen=True, slots=True)
class Point:
    """A policy's quality and its cost in USD an answer."""

    label: str
    quality: float
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """``predicted`` and ``judged``: quality on held-out rows, shape (n,).

    ``importance``: total gain by head and feature, the largest first. ``weights``: importance
    weights by policy. ``frontier``: the candidate's points from the least to the greatest value
    of a right answer; ``others``: always one strategy, and the champion.
    """

    predicted: Floats
    judged: Floats
    importance: Mapping[str, Sequence[tuple[str, float]]]
    weights: Mapping[str, Floats] = field(default_factory=dict)
    frontier: Sequence[Point] = ()
    others: Sequence[Point] = ()


def gather(
    dataset: Dataset,
    *,
    candidate: PolicyBundle,
    champion: PolicyBundle | None,
    preferences: Preferences,
    prices_of: PricesOf,
) -> Evidence:
    """Everything of one run. Off-policy points are SNIPS estimates on drawn, judged decisions."""
    test = dataset.test.explicit
    judged = test.take(~np.isnan(test.quality))
    predicted = np.empty(0)
    if len(judged):
        predicted = candidate.outcome.predict(matrix(judged.rows, judged.strategies)).quality
    found = Evidence(predicted=predicted, judged=judged.quality, importance=importance(candidate))
    if dataset.recorded:
        return replace(found, others=_recorded_points(judged))
    drawn = _drawn(judged)
    if not len(drawn):
        return found
    names = list(drawn.candidate_names)
    action = np.array([names.index(strategy) for strategy in drawn.strategies], dtype=np.intp)

    def weights(policy: PolicyBundle | None, value_usd: float) -> Floats:
        likes = replace(preferences, value_usd=value_usd)
        target = _targets(drawn, policy, likes, prices_of)
        return ope.importance_weights(action, drawn.candidate_propensities, target)

    own = weights(candidate, preferences.value_usd)
    old = weights(champion, preferences.value_usd)
    point = _estimator(drawn)
    others = [point(name, (action == a) / drawn.propensity) for a, name in enumerate(names)]
    frontier = [point(f"{value:g}", weights(candidate, value)) for value in VALUES]
    return replace(
        found,
        weights={"candidate": own, "champion": old},
        frontier=[one for one in frontier if one is not None],
        others=[one for one in (*others, point("champion", old)) if one is not None],
    )


def importance(bundle: PolicyBundle) -> dict[str, list[tuple[str, float]]]:
    """Total gain of each feature's splits by head, the largest first."""
    import lightgbm as lgb  # noqa: PLC0415 - seconds to import

    boosters = [(head, bundle.outcome.boosters[head]) for head in HEADS]
    found = {}
    for head, fitted in (*boosters, ("predictability", bundle.predictability.booster)):
        booster = lgb.Booster(model_str=fitted.text)
        gains = booster.feature_importance("gain").tolist()
        pairs = zip(booster.feature_name(), gains, strict=True)
        found[head] = sorted((p for p in pairs if p[1] > 0), key=lambda p: -p[1])[:_SHOWN]
    return found


def _drawn(judged: Dataset) -> Dataset:
    """Decisions that a policy drew, with whole propensities and a known cost; the latest ones."""
    usable = np.array([d.decision.mode in {"greedy", "explored"} for d in judged.decisions], bool)
    usable &= np.abs(judged.candidate_propensities.sum(axis=1) - 1.0) < 1e-6
    usable &= ~np.isnan(judged.cost_usd)
    kept = np.zeros(len(judged), dtype=bool)
    kept[np.flatnonzero(usable)[-_MOST:]] = True
    return judged.take(kept)


def _targets(
    drawn: Dataset, policy: PolicyBundle | None, preferences: Preferences, prices_of: PricesOf
) -> Floats:
    names = drawn.candidate_names
    found = np.zeros((len(drawn), len(names)))
    for i, logged in enumerate(drawn.decisions):
        chances: Mapping[str, float] = {"direct": 1.0}
        if policy is not None:
            prices = prices_of(logged.decision.model)
            chances = target_probabilities(logged, policy, preferences, prices)
        found[i] = [chances.get(name, 0.0) for name in names]
    return found


def _estimator(drawn: Dataset) -> Callable[[str, Floats], Point | None]:
    def point(label: str, weights: Floats) -> Point | None:
        if not weights.sum() > 0:
            return None
        return Point(label, ope.snips(drawn.quality, weights), ope.snips(drawn.cost_usd, weights))

    return point


def _recorded_points(judged: Dataset) -> list[Point]:
    points = []
    for name in judged.candidate_names:
        own = judged.take(np.array([strategy == name for strategy in judged.strategies], bool))
        if len(own) and not np.isnan(own.cost_usd).any():
            points.append(Point(name, float(own.quality.mean()), float(own.cost_usd.mean())))
    return points
