"""Where the trees start: what each strategy does on each kind of context, as a linear model.

Trees that stop early, as they must on a few hundred contexts, leave much of such a plain
difference unsaid. A ridge regression on strategy x kind says it; the trees are fitted to what it
leaves over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forethought.models.features import FEATURE_NAMES, KNOWN_STRATEGIES, strategy_features

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

KINDS: Final = (
    *(name for name in FEATURE_NAMES if name.startswith("ctx_like_")),
    "ctx_number_density",
    "ctx_pipes",
)
"""The features that tell kinds of context apart."""

_RIDGE: Final = 33.0
"""Chosen by cross-validation over the contexts of bench/recorded, among 10, 33 and 100."""

_COLUMNS: Final = np.array([0, *(FEATURE_NAMES.index(name) for name in KINDS)])
"""The first is a place for the ones."""
_OWN: Final = np.array([FEATURE_NAMES.index(n) for n in strategy_features(KNOWN_STRATEGIES[0])])
_RADIX: Final = np.array([9.0, 3.0, 1.0])
"""The strategy features are whole numbers below 3: so they become one."""


def _code(strategy: str) -> int:
    return int(np.array(list(strategy_features(strategy).values())) @ _RADIX)


_PLACE: Final = np.zeros(27, np.intp)
_PLACE[[_code(name) for name in KNOWN_STRATEGIES]] = range(len(KNOWN_STRATEGIES))


class KindRows(NamedTuple):
    """Rows of ``features.matrix`` as a ``KindModel`` reads them.

    ``strategy`` (n,) is the place in ``KNOWN_STRATEGIES``; ``kinds`` (n, 1 + n_kinds) has a first
    column of ones. Where there is no context nothing is known of its kind: zeros.
    """

    strategy: Codes
    kinds: Floats

    @classmethod
    def of(cls, X: Floats) -> KindRows:
        """Read them from X, shape (n, n_features)."""
        kinds = X.take(_COLUMNS, axis=1)
        kinds[np.isnan(kinds)] = 0.0
        kinds[:, 0] = 1.0
        return cls(_PLACE[(X.take(_OWN, axis=1) @ _RADIX).astype(np.intp)], kinds)


@dataclass(frozen=True, slots=True, eq=False)
class KindModel:
    """Log-odds of a right answer = the weights of the row's strategy x (1, kind features).

    ``weights`` has shape (n_strategies, 1 + n_kinds); ``centre`` (n_kinds,) is the mean of the
    rows that it was fitted on, from which explanations count.
    """

    weights: Floats
    centre: Floats

    @classmethod
    def fit(cls, rows: KindRows, quality: Floats) -> KindModel:
        """Fit on qualities in [0, 1], shape (n,): logistic regression with a ridge.

        The kind features are standardised for it; the intercept is free.
        """
        kinds = rows.kinds[:, 1:]
        centre, scale = kinds.mean(axis=0), kinds.std(axis=0)
        scale[scale < 1e-9] = 1.0
        ones = np.ones((len(kinds), 1))
        own = np.eye(len(KNOWN_STRATEGIES))[rows.strategy]
        each = np.hstack([ones, (kinds - centre) / scale])
        design = (own[:, :, None] * each[:, None, :]).reshape(len(kinds), -1)
        intercept, coefficients = _ridge(design, quality)
        weights = coefficients.reshape(len(KNOWN_STRATEGIES), -1)
        slopes = weights[:, 1:] / scale
        level = intercept + weights[:, 0] - slopes @ centre
        return cls(np.column_stack([level, slopes]), centre)

    @classmethod
    def none(cls) -> KindModel:
        """No start at all: log-odds of 0 for every row. Trees on many contexts need none."""
        return cls(np.zeros((len(KNOWN_STRATEGIES), 1 + len(KINDS))), np.zeros(len(KINDS)))

    def __call__(self, rows: KindRows) -> Floats:
        """The log-odds of each row, shape (n,)."""
        return np.asarray(np.einsum("ij,ij->i", self.weights[rows.strategy], rows.kinds))

    def of_decision(self, row: Floats) -> Floats:
        """The log-odds of each of ``KNOWN_STRATEGIES`` for a ``features.decision_row``.

        As those of its matrix, whose rows are one kind of context.
        """
        kinds = row.take(_COLUMNS)
        kinds[np.isnan(kinds)] = 0.0
        kinds[0] = 1.0
        return np.asarray(np.einsum("ij,j->i", self.weights, kinds))

    def contributions(self, rows: KindRows) -> dict[str, float]:
        """By feature, what the first row has beside the mean of all strategies on a mean context.

        What its strategy adds on a mean context is said of ``strategy_effort``.
        """
        place = int(rows.strategy[0])
        own = np.asarray(self.weights[place], np.float64)
        levels = np.asarray(self.weights @ np.concatenate([[1.0], self.centre]))
        slopes = own[1:] * (rows.kinds[0, 1:] - self.centre)
        added = float(levels[place] - levels.mean())
        return dict(zip(KINDS, slopes.tolist(), strict=True)) | {"strategy_effort": added}

    def to_json(self) -> dict[str, Any]:
        return {"weights": self.weights.tolist(), "centre": self.centre.tolist()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KindModel:
        """Raises ValueError, KeyError or TypeError where ``data`` is not what to_json made."""
        weights = np.array(data["weights"], np.float64)
        centre = np.array(data["centre"], np.float64)
        shape = (len(KNOWN_STRATEGIES), 1 + len(KINDS))
        if weights.shape != shape or centre.shape != (len(KINDS),):
            message = f"the model of kinds has shape {weights.shape}, not {shape}"
            raise ValueError(message)
        if not (np.isfinite(weights).all() and np.isfinite(centre).all()):
            message = "the model of kinds has weights that are no numbers"
            raise ValueError(message)
        return cls(weights, centre)


def _ridge(design: Floats, y: Floats) -> tuple[float, Floats]:
    if y.min() == y.max() and y.min() in {0.0, 1.0}:
        share = (y.sum() + 0.5) / (len(y) + 1.0)  # one class only is no certainty
        return float(np.log(share / (1.0 - share))), np.zeros(design.shape[1])
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - serving never fits

    # A share is so much of a right answer and so much of a wrong one.
    both, labels = np.vstack([design, design]), np.repeat([1, 0], len(y))
    weights = np.concatenate([y, 1.0 - y])
    counted = weights > 0
    fitted = LogisticRegression(C=1.0 / _RIDGE, max_iter=1000)
    fitted.fit(both[counted], labels[counted], sample_weight=weights[counted])
    intercept, found = np.ravel(fitted.intercept_), np.ravel(fitted.coef_)
    return float(intercept[0]), np.asarray(found, np.float64)
