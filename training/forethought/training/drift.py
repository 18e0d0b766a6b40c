r"""Has the world moved away from what a policy was fitted on?

Two windows of the newest decisions are looked at:

- *Features* by the population stability index, ``PSI = sum_b (p_b - q_b) ln(p_b / q_b)`` over the
  deciles of the training rows and one bin for "does not apply". 0.25 is the usual mark of a large
  shift, but small samples exceed it by chance (where nothing moved, PSI is about
  ``chi2(B - 1) (1/n + 1/m)``; Yurdakul and Naranjo, 2020). So a feature has moved only if a
  chi-squared test of homogeneity says so too, at 1% over all features. n and m count contexts,
  as the queries on one context are alike.
- *Calibration* by the mean of what was predicted for the answers minus what they were judged to
  be, over contexts. Its interval has to leave the allowed error on one side.

Features that moved are an alarm: the policy may still be right. A policy that is proven wrong
about its own answers is demoted.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from forethought.models.calibration import group_codes
from forethought.models.features import DECISION_FEATURES
from forethought.models.history import REMEMBERED
from forethought.router.records import LoggedDecision
from forethought.training.dataset import Floats

PSI_LIMIT: Final = 0.25
"""The usual mark of a large shift (credit scoring's rule of thumb; Siddiqi 2006)."""

CALIBRATION_LIMIT: Final = 0.1
"""How far the mean prediction may be from the mean judgement."""

WINDOW: Final = 2_000
"""Of the newest decisions."""

MIN_CONTEXTS: Final = 30
"""Below, nothing is said: a context is one observation."""

_ALPHA: Final = 0.01
_BINS: Final = 10
_FLOOR: Final = 1e-4
"""Share of an empty bin, as usual: a logarithm of nothing is infinite."""

Reference = Mapping[str, Any]
"""Of ``reference``: edges and shares by feature, and the number of contexts."""

STATUS_FILE: Final = "drift.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRule:
    """Limits of what is tolerated, and how many of the newest decisions are looked at."""

    psi_limit: float = PSI_LIMIT
    calibration_limit: float = CALIBRATION_LIMIT
    window: int = WINDOW
    min_contexts: int = MIN_CONTEXTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What was found. ``moved``: features whose PSI passes both marks, the largest first.

    ``calibration_error``: mean of prediction minus judgement, None where too few are judged;
    ``calibration_low`` and ``calibration_high`` its 99% interval.
    """

    policy: str
    checked_at: float
    n_decisions: int
    n_contexts: int
    n_judged: int
    psi_max: float | None
    moved: Mapping[str, float] = field(default_factory=dict)
    calibration_error: float | None = None
    calibration_low: float | None = None
    calibration_high: float | None = None
    calibration_alarm: bool = False
    demoted_to: str | None = None

    @property
    def alarm(self) -> bool:
        return bool(self.moved) or self.calibration_alarm


def reference(rows: Sequence[Mapping[str, float]], groups: Sequence[str]) -> dict[str, Any]:
    """The distribution of each feature, to compare later rows with; JSON-able, some 10 kB.

    What is remembered of past queries is left out: it fills as the log grows, in any world.
    """
    features: dict[str, Any] = {}
    for feature in (one for one in DECISION_FEATURES if one.name not in REMEMBERED):
        values = _column(rows, feature.name)
        known = values[~np.isnan(values)]
        inner = np.linspace(0, 1, _BINS + 1)[1:-1]
        edges = np.quantile(known, inner).tolist() if len(known) else []
        rounded = sorted({float(f"{edge:.6g}") for edge in edges})
        shares = [round(share, 6) for share in _shares(values, rounded).tolist()]
        features[feature.name] = {"edges": rounded, "shares": shares}
    return {"contexts": len(set(groups)), "features": features}


def psi(expected: Floats, found: Floats) -> float:
    r"""``sum (p - q) ln(p / q)`` of two rows of shares, shape (bins,)."""
    p, q = np.maximum(found, _FLOOR), np.maximum(expected, _FLOOR)
    return float(((p - q) * np.log(p / q)).sum())


def check(
    decisions: Sequence[LoggedDecision],
    *,
    policy: str,
    against: Reference | None,
    rule: DriftRule,
) -> Drift:
    """Compare the newest decisions with what the policy was fitted on.

    Args:
        decisions: In time order; those with features count. Calibration is judged on the answers
            that ``policy`` chose and predicted.
        policy: The version that serves.
        against: Its ``reference``; None: features are not compared.
        rule: What is tolerated.
    """
    newest = [one for one in decisions if one.decision.features][-rule.window :]
    groups = [_group(one) for one in newest]
    n_contexts = len(set(groups))
    moved: dict[str, float] = {}
    largest = None
    if against is not None and n_contexts >= rule.min_contexts:
        found = _psi_by_feature(newest, against)
        largest = max((value for value, _ in found.values()), default=None)
        passed = {
            name: value
            for name, (value, chance) in found.items()
            if value > rule.psi_limit and not chance
        }
        moved = dict(sorted(passed.items(), key=lambda pair: -pair[1]))
    errors, n_judged = _errors(newest, policy)
    mean = low = high = None
    alarm = False
    if len(errors) >= rule.min_contexts:
        mean = float(errors.mean())
        half = _quantile() * float(errors.std(ddof=1)) / math.sqrt(len(errors))
        low, high = mean - half, mean + half
        alarm = low > rule.calibration_limit or high < -rule.calibration_limit
    return Drift(
        policy=policy,
        checked_at=time.time(),
        n_decisions=len(newest),
        n_contexts=n_contexts,
        n_judged=n_judged,
        psi_max=largest,
        moved=moved,
        calibration_error=mean,
        calibration_low=low,
        calibration_high=high,
        calibration_alarm=alarm,
    )


def write_status(found: Drift, folder: Path) -> None:
    """Leave what was found where running servers read it, for their metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, staged = tempfile.mkstemp(prefix=f".{STATUS_FILE}-", dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({**asdict(found), "alarm": found.alarm}, file)
    Path(staged).replace(folder / STATUS_FILE)


def _psi_by_feature(
    newest: Sequence[LoggedDecision], against: Reference
) -> dict[str, tuple[float, bool]]:
    """PSI of each feature, and whether it may be chance."""
    from scipy.stats import chi2  # noqa: PLC0415 - a second to import

    rows = [one.decision.features for one in newest]
    n = len({_group(one) for one in newest})
    m = max(1, int(against["contexts"]))
    found = {}
    features = against["features"]
    for name, of_feature in features.items():
        if name.startswith("hist_"):
            continue  # a policy's own doing: more traffic is more history
        expected = np.array(of_feature["shares"])
        shares = _shares(_column(rows, name), of_feature["edges"])
        pooled = (n * shares + m * expected) / (n + m)
        there = pooled > 0
        squares = (shares - expected)[there] ** 2 / pooled[there]
        statistic = float(squares.sum()) / (1 / n + 1 / m)
        critical = float(chi2.isf(_ALPHA / len(features), max(1, int(there.sum()) - 1)))
        found[name] = (psi(expected, shares), statistic <= critical)
    return found


def _errors(newest: Sequence[LoggedDecision], policy: str) -> tuple[Floats, int]:
    """Prediction minus judgement, a mean for each context."""
    errors: list[float] = []
    groups: list[str] = []
    for one in newest:
        decision = one.decision
        predicted = {c.strategy: c.quality for c in decision.candidates}.get(decision.strategy)
        if decision.policy_version == policy and predicted is not None and one.quality is not None:
            errors.append(predicted - one.quality)
            groups.append(_group(one))
    if not errors:
        return np.empty(0), 0
    codes = group_codes(groups)
    return np.bincount(codes, errors) / np.bincount(codes), len(errors)


def _shares(values: Floats, edges: Sequence[float]) -> Floats:
    """Of each bin between the edges, and of NaN last, shape (len(edges) + 2,)."""
    missing = np.isnan(values)
    counts = np.bincount(
        np.searchsorted(np.array(edges), values[~missing], side="left"), minlength=len(edges) + 1
    )
    return np.append(counts, missing.sum()) / max(1, len(values))


def _column(rows: Sequence[Mapping[str, float]], name: str) -> Floats:
    return np.array([row.get(name, math.nan) for row in rows], dtype=np.float64)


def _group(one: LoggedDecision) -> str:
    return one.decision.context_id or one.decision.id


def _quantile() -> float:
    from scipy.stats import norm  # noqa: PLC0415 - a second to import

    return float(norm.isf(_ALPHA / 2))
