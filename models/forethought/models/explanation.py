"""What a prediction rests on: each feature's share of it, and how sure it is.

Shares are TreeSHAP values (Lundberg, Erion and Lee 2018, "Consistent individualized feature
attribution for tree ensembles"), which LightGBM computes exactly, and the terms of what is linear.
They add up: the mean prediction and all shares are the raw prediction of a row, before
calibration. What sets two strategies apart on one query is the difference of their shares, in
which the mean cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from forethought.models.calibration import sigmoid
from forethought.models.features import FEATURE_NAMES, FEATURES, matrix
from forethought.models.kinds import KindRows

if TYPE_CHECKING:
    from forethought.models.calibration import Floats, Interval
    from forethought.models.demand import DemandModel
    from forethought.models.outcome import Head, OutcomeModel
    from forethought.models.predictability import PredictabilityModel

Scale = Literal["log-odds", "natural logarithm"]

_BY_NAME: Final = {feature.name: feature for feature in FEATURES}
_SPREAD: Final[tuple[Head, ...]] = ("tokens", "latency_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one feature adds to a raw prediction, on the scale of its ``Attribution``.

    ``meaning`` and ``unit`` are the feature's in words. ``value`` is what it was, None where it
    does not apply; ``other_value`` what it was for the other strategy, in a difference.
    """

    feature: str
    meaning: str
    unit: str
    value: float | None
    effect: float
    other_value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """A raw prediction taken apart: ``base`` + the sum of all effects + ``rest`` = ``total``.

    ``base`` is the mean prediction (0 for a difference of two). ``contributions`` are sorted by
    size, the largest first; features without effect are left out, and ``rest`` is the sum of
    those that were cut off.
    """

    scale: Scale
    base: float
    total: float
    contributions: tuple[Contribution, ...]
    rest: float = 0.0

    def largest(self, n: int) -> Attribution:
        """The same with the ``n`` largest contributions, the others summed up in ``rest``."""
        cut = self.contributions[n:]
        return replace(
            self,
            contributions=self.contributions[:n],
            rest=self.rest + math.fsum(one.effect for one in cut),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A prediction and its 90% interval."""

    mean: float
    low: float
    high: float


def of_predictability(model: PredictabilityModel, features: Mapping[str, float]) -> Attribution:
    """What the predictability of a context rests on, in log-odds."""
    names = model.booster.feature_names
    values = [features.get(name, math.nan) for name in names]
    *shares, mean = model.booster.contributions(np.array([values], dtype=np.float64))[0].tolist()
    return _attribution("log-odds", names, shares, mean, values)


def of_difference(
    model: OutcomeModel, features: Mapping[str, float], strategy: str, other: str, head: Head
) -> Attribution:
    """Why ``strategy`` is predicted another outcome than ``other`` on the same query.

    In log-odds for quality, in natural logarithms of 1 + y for tokens and milliseconds.

    Raises:
        ValueError: One of the two is no strategy that is predicted.
    """
    rows = matrix([features, features], [strategy, other])
    own, others = (dict(model.explain(row, head)) for row in rows)
    shares = [own.get(name, 0.0) - others.get(name, 0.0) for name in FEATURE_NAMES]
    scale: Scale = "log-odds" if head == "quality" else "natural logarithm"
    return _attribution(scale, FEATURE_NAMES, shares, 0.0, rows[0], rows[1])


def quality_bounds(
    model: OutcomeModel, features: Mapping[str, float], strategies: Sequence[str]
) -> dict[str, Bounds]:
    """The predicted quality of each strategy with its 90% interval."""
    rows = matrix([features] * len(strategies), strategies)
    raw = model.kinds(KindRows.of(rows)) + model.boosters["quality"].predict(rows, raw=True)
    found = _each(model.calibration(sigmoid(raw)))
    return dict(zip(strategies, found, strict=True))


def medians(
    model: OutcomeModel, features: Mapping[str, float], strategies: Sequence[str]
) -> dict[str, tuple[float | None, float | None]]:
    """The output tokens and milliseconds that half of each strategy's answers stay below.

    None where the model does not know how far answers spread.
    """
    rows = matrix([features] * len(strategies), strategies)
    both = (model.quantile(head, rows, 0.5).tolist() for head in _SPREAD)
    pairs = zip(*both, strict=True)
    return {
        name: (_finite(tokens), _finite(latency_ms))
        for name, (tokens, latency_ms) in zip(strategies, pairs, strict=True)
    }


def predictability_bounds(model: PredictabilityModel, features: Mapping[str, float]) -> Bounds:
    """The predictability of a context with its 90% interval."""
    return _each(model.predict([features]))[0]


def demand_bounds(model: DemandModel, n_seen: int, *, idle_s: float = 0.0) -> Bounds:
    """How many further queries are expected after ``n_seen``, the last one ``idle_s`` ago.

    ``low`` and ``high`` hold their number with 90% probability: a prediction interval, for the
    number itself is uncertain however well its mean is known.
    """
    low, high = model.interval(n_seen, idle_s=idle_s)
    mean = model.expected_more(n_seen, idle_s=idle_s)
    return Bounds(mean=mean, low=float(low), high=float(high))


def _attribution(
    scale: Scale,
    names: Sequence[str],
    shares: Sequence[float],
    base: float,
    values: Sequence[float] | Floats,
    other_values: Sequence[float] | Floats | None = None,
) -> Attribution:
    found = []
    for i, name in enumerate(names):
        if not shares[i]:
            continue
        feature = _BY_NAME.get(name)
        found.append(
            Contribution(
                feature=name,
                meaning=name if feature is None else feature.doc,
                unit="" if feature is None else feature.unit,
                value=_finite(values[i]),
                effect=shares[i],
                other_value=None if other_values is None else _finite(other_values[i]),
            )
        )
    found.sort(key=lambda one: -abs(one.effect))
    return Attribution(
        scale=scale,
        base=base,
        total=base + math.fsum(shares),
        contributions=tuple(found),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _each(interval: Interval) -> list[Bounds]:
    return [
        Bounds(mean=float(mean), low=float(low), high=float(high))
        for mean, low, high in zip(*interval, strict=True)
    ]
