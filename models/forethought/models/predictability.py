"""Predictability: will sleep pay on this context?

P(the next query on this context is answered right from its learned context at the lowest
test-time effort, that is by the strategy ``learned:low``). It is known before the query is,
from the context and its history alone, so that sleep can be decided on.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from forethought.models import boosting
from forethought.models.booster import Booster
from forethought.models.calibration import Calibration, Floats, Interval, fit_calibration
from forethought.models.concentration import bounds, fit_concentration
from forethought.models.features import CONTEXT_FEATURES, HISTORY_FEATURES, MISSING

STRATEGY: Final = "learned:low"
"""The strategy whose logged outcomes are the labels."""

PREDICTABILITY_NAMES: Final = tuple(feature.name for feature in CONTEXT_FEATURES + HISTORY_FEATURES)

Row = Mapping[str, float]


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
        quality = boosting.checked_share("y", y, len(rows))
        known = np.flatnonzero(~np.isnan(quality)).tolist()
        boosting.require_rows("predictability", len(known))
        its_groups = [groups[index] for index in known]
        X = _matrix([rows[index] for index in known])
        fitted = boosting.cross_fit(
            X,
            quality[known],
            its_groups,
            objective="cross_entropy",
            feature_names=PREDICTABILITY_NAMES,
            seed=seed,
            init=None if init is None else init.booster,
        )
        calibration = fit_calibration(fitted.out_of_fold, quality[known], its_groups, seed=seed)
        once = _distinct(X, its_groups)
        concentration = fit_concentration(
            calibration(fitted.out_of_fold[once]).mean,
            quality[known][once],
            [its_groups[index] for index in once],
        )
        low, high = bounds(np.array(calibration.mean), concentration)
        return cls(
            booster=fitted.booster,
            calibration=replace(calibration, low=tuple(low.tolist()), high=tuple(high.tolist())),
            concentration=concentration,
        )

    def predict(self, rows: Sequence[Row]) -> Interval:
        """Mean and 90% interval of the predictability of each row's context, each (n,)."""
        return self.calibration(boosting.predict(self.booster, _matrix(rows)))

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


def _distinct(X: Floats, groups: Sequence[Hashable]) -> list[int]:
    """The first of the rows of a context that are the same: one query, answered several times."""
    first: dict[tuple[Hashable, bytes], int] = {}
    for index, (group, row) in enumerate(zip(groups, X, strict=True)):
        first.setdefault((group, row.tobytes()), index)
    return list(first.values())


def _matrix(rows: Sequence[Row]) -> Floats:
    values = [[row.get(name, MISSING) for name in PREDICTABILITY_NAMES] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(PREDICTABILITY_NAMES))
