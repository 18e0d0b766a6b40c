"""Predictability: will sleep pay on this context?

P(the next query on this context is answered right from its learned context at the lowest
test-time effort, that is by the strategy ``learned:low``). It is known before the query is,
from the context and its history alone, so that sleep can be decided on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from forethought.models import boosting
from forethought.models.booster import Booster
from forethought.models.calibration import Calibration, Floats, Interval, fit_calibration
from forethought.models.concentration import bounds, fit_concentration
from forethought.models.features import CONTEXT_FEATURES, HISTORY_FEATURES, MISSING
from forethought.models.history import REALISED

STRATEGY: Final = "learned:low"
"""The strategy whose logged outcomes are the labels."""

PREDICTABILITY_NAMES: Final = tuple(feature.name for feature in CONTEXT_FEATURES + HISTORY_FEATURES)

_MOST: Final = 709.0
"""The exponential of more is no double."""

Row = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnProblem:
    """What predictability is fitted on: the n queries whose quality is known."""

    X: Floats
    y: Floats
    groups: Sequence[Hashable]
    init: Booster | None

    def fit(self, *, seed: int, params: Mapping[str, Any] | None = None) -> boosting.CrossFit:
        """Cross-fit it, with LightGBM's parameters as chosen here or as given."""
        return boosting.cross_fit(
            self.X,
            self.y,
            self.groups,
            objective="cross_entropy",
            feature_names=PREDICTABILITY_NAMES,
            increasing=REALISED,
            seed=seed,
            init=self.init,
            params=params,
        )


@dataclass(frozen=True, slots=True)
class PredictabilityModel:
    """LightGBM with cross-entropy, calibrated on out-of-fold predictions.

    ``concentration`` says how far contexts with one prediction lie apart; the 90% interval is that
    of such a context's own share of right answers (see ``concentration``).
    """

    booster: Booster
    calibration: Calibration
    concentration: float

    @classmethod
    def fit(
        cls,
        rows: Sequence[Row],
        y: NDArray[Any] | Sequence[float],
        groups: Sequence[Hashable],
        *,
        seed: int,
        init: PredictabilityModel | None = None,
    ) -> PredictabilityModel:
        """Fit on queries that ``learned:low`` answered.

        Args:
            rows: Features by name; only those of context and history are read, n of them.
            y: Quality of the answer in [0, 1], shape (n,); rows with NaN are left out.
            groups: The context of each row; a context is never split by a fold.
            seed: Makes the fit reproducible.
            init: An earlier model to start from, fitted on other rows.
        """
        problem = own_problem(rows, y, groups, init=init)
        return cls.of(problem, problem.fit(seed=seed), seed=seed)

    @classmethod
    def of(
        cls, problem: OwnProblem, fitted: boosting.CrossFit, *, seed: int
    ) -> PredictabilityModel:
        """The model of a cross-fit."""
        once = _distinct(problem.X, problem.groups)
        return cls.calibrated(
            fitted.booster, fitted.out_of_fold, problem.y, problem.groups, seed=seed, once=once
        )

    @classmethod
    def calibrated(
        cls,
        booster: Booster,
        raw: Floats,
        y: Floats,
        groups: Sequence[Hashable],
        *,
        seed: int,
        once: Sequence[int] | None = None,
    ) -> PredictabilityModel:
        """The model of a booster, from its raw predictions of rows that it never saw, (n,).

        ``once``: the rows that are different queries, where some were answered several times.
        """
        calibration = fit_calibration(raw, y, groups, seed=seed)
        own = list(range(len(y))) if once is None else list(once)
        concentration = fit_concentration(
            calibration(raw[own]).mean, y[own], [groups[index] for index in own]
        )
        low, high = bounds(np.array(calibration.mean), concentration)
        return cls(
            booster=booster,
            calibration=replace(calibration, low=tuple(low.tolist()), high=tuple(high.tolist())),
            concentration=concentration,
        )

    def predict(self, rows: Sequence[Row]) -> Interval:
        """Mean and 90% interval of the predictability of each row's context, each (n,)."""
        return self.calibration(boosting.predict(self.booster, _matrix(rows)))

    def of_score(self, score: float) -> Interval:
        """The same of one row, each (1,), from the raw score of the trees; see ``can_score``."""
        # As LightGBM does it, to the last bit: numpy's exponential is another one.
        raw = 1.0 / (1.0 + math.exp(-score)) if score > -_MOST else 0.0
        return self.calibration(np.array([raw]))

    @property
    def can_score(self) -> bool:
        """Whether the trees' score is a log-odds, as it is in all models that are fitted here."""
        return self.booster.objective == "cross_entropy"

    def explain(self, row: Row) -> list[tuple[str, float]]:
        """TreeSHAP contributions in log-odds, largest first."""
        return boosting.contributions(self.booster, _matrix([row])[0], PREDICTABILITY_NAMES)

    def to_texts(self) -> dict[str, str]:
        """The model as file name -> content."""
        return {
            "predictability.json": json.dumps(
                {"calibration": self.calibration.to_json(), "concentration": self.concentration},
                sort_keys=True,
            ),
            "predictability.txt": self.booster.text,
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> PredictabilityModel:
        """Raises ValueError, KeyError or TypeError where they are not what to_texts made."""
        fitted = json.loads(texts["predictability.json"])
        return cls(
            booster=boosting.from_text(texts["predictability.txt"], PREDICTABILITY_NAMES),
            calibration=Calibration.from_json(fitted["calibration"]),
            concentration=float(fitted["concentration"]),
        )


def own_problem(
    rows: Sequence[Row],
    y: NDArray[Any] | Sequence[float],
    groups: Sequence[Hashable],
    *,
    init: PredictabilityModel | None,
) -> OwnProblem:
    """The problem of the rows where ``y`` is not NaN; ValueError if they are too few."""
    quality = boosting.checked_share("y", y, len(rows))
    known = np.flatnonzero(~np.isnan(quality)).tolist()
    boosting.require_rows("predictability", len(known))
    return OwnProblem(
        X=_matrix([rows[index] for index in known]),
        y=quality[known],
        groups=[groups[index] for index in known],
        init=None if init is None else init.booster,
    )


def _distinct(X: Floats, groups: Sequence[Hashable]) -> list[int]:
    """The first of the rows of a context that are the same: one query, answered several times."""
    first: dict[tuple[Hashable, bytes], int] = {}
    for index, (group, row) in enumerate(zip(groups, X, strict=True)):
        first.setdefault((group, row.tobytes()), index)
    return list(first.values())


def _matrix(rows: Sequence[Row]) -> Floats:
    width = len(PREDICTABILITY_NAMES)
    values = (map(row.get, PREDICTABILITY_NAMES, repeat(MISSING)) for row in rows)
    found = np.fromiter(chain.from_iterable(values), np.float64, width * len(rows))
    return found.reshape(len(rows), width)
