"""A reward model for DM and DR whose predictions never saw the context they are for.

DR is unbiased only for predictions that do not depend on the row's own outcome; queries on one
context are alike, so whole contexts are left out (cross-fitting by context).

Source: Chernozhukov et al. 2018 (cross-fitting); folds by cluster as in scikit-learn's GroupKFold.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from forethought.training.intervals import cluster_codes
from forethought.training.ope import CHUNK_ROWS, Codes, Floats, column

_PSEUDO_ROWS: Final = 1.0
"""Rows at the overall mean that each action's mean starts with: never tried means average."""


class CrossFit(BaseEstimator):  # type: ignore[misc] # scikit-learn ships no types
    """Predicted rewards of every action, from the other folds' contexts.

    Args:
        model: A scikit-learn regressor, or a classifier for rewards of 0 and 1, fitted on
            features and the one-hot action; None for each action's mean reward.
        n_folds: At least 2.
        seed: Of the split into folds.

    Attributes:
        fold_: The fold of each row, shape (n,).
    """

    fold_: Codes

    def __init__(self, model: Any = None, *, n_folds: int = 5, seed: int = 0) -> None:
        self.model = model
        self.n_folds = n_folds
        self.seed = seed

    def fit_predict(
        self,
        action: ArrayLike,
        reward: ArrayLike,
        groups: Sequence[Hashable] | NDArray[Any],
        *,
        n_actions: int,
        X: ArrayLike | None = None,
    ) -> Floats:
        """``q_i(a)``, shape (n, n_actions).

        Args:
            action: Index of the action taken, shape (n,).
            reward: What each decision earned, shape (n,).
            groups: The context of each row, shape (n,).
            n_actions: k.
            X: Features, shape (n, d); needed with a model.

        Raises:
            ValueError: Fewer contexts than folds, a model without features, or shapes that
                disagree.
        """
        a = np.asarray(action, np.intp)
        r = column("reward", reward, a)
        self.fold_ = self._folds(groups, len(a))
        if self.model is None:
            return self._means(a, r, n_actions)
        if X is None:
            message = "a model needs features: X of shape (n, d)"
            raise ValueError(message)
        features = np.asarray(X)
        if features.shape[:1] != a.shape:
            message = f"X has shape {features.shape}, not ({len(a)}, d)"
            raise ValueError(message)
        predicted = np.empty((len(a), n_actions))
        hot = np.eye(n_actions, dtype=features.dtype)
        for fold in range(self.n_folds):
            others = self.fold_ != fold
            fitted = cast("Any", clone(self.model)).fit(
                np.column_stack([features[others], hot[a[others]]]), r[others]
            )
            own = np.flatnonzero(~others)
            for start in range(0, len(own), CHUNK_ROWS):
                rows = own[start : start + CHUNK_ROWS]
                for one in range(n_actions):
                    both = np.column_stack([features[rows], np.tile(hot[one], (len(rows), 1))])
                    predicted[rows, one] = _predict(fitted, both)
        return predicted

    def _folds(self, groups: Sequence[Hashable] | NDArray[Any], n: int) -> Codes:
        codes = cluster_codes(groups)
        if len(codes) != n:
            message = f"{len(codes)} groups for {n} rows"
            raise ValueError(message)
        n_clusters = int(codes.max(initial=-1)) + 1
        if self.n_folds < 2 or n_clusters < self.n_folds:
            message = f"{n_clusters} contexts cannot make {self.n_folds} folds (2 at least)"
            raise ValueError(message)
        dealt = np.random.default_rng(self.seed).permutation(n_clusters) % self.n_folds
        return np.asarray(dealt[codes], np.intp)

    def _means(self, a: Codes, r: Floats, n_actions: int) -> Floats:
        cell = self.fold_ * n_actions + a
        shape = (self.n_folds, n_actions)
        sums = np.bincount(cell, r, minlength=self.n_folds * n_actions).reshape(shape)
        counts = np.bincount(cell, minlength=self.n_folds * n_actions).reshape(shape)
        # Added up, not subtracted from the whole: nothing of the fold's own is left in.
        others = 1.0 - np.eye(self.n_folds)
        other_sums, other_counts = others @ sums, others @ counts
        overall = other_sums.sum(axis=1, keepdims=True) / other_counts.sum(axis=1, keepdims=True)
        means = (other_sums + _PSEUDO_ROWS * overall) / (other_counts + _PSEUDO_ROWS)
        return np.asarray(means[self.fold_])


def _predict(model: Any, X: Floats) -> Floats:
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X) @ np.asarray(model.classes_, np.float64))
    return np.asarray(model.predict(X), np.float64)
