"""Small, strongly regularised LightGBM models for logs of a hundred to some thousand rows.

Everything is deterministic by seed and single-threaded. The number of rounds is chosen by
cross-validation whose folds keep groups (contexts) whole; the same folds give the out-of-fold
predictions that calibration needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from forethought.models.booster import Booster
from forethought.models.calibration import Floats, group_codes, sigmoid

MIN_ROWS: Final = 20
"""Fewer rows than this are refused: five folds would have a handful of rows each."""

_N_FOLDS: Final = 5
_MAX_ROUNDS: Final = 200
_LEARNING_RATE: Final = 0.06
# A warm start corrects an earlier model a little; it must not forget it for a few rows.
_WARM_MAX_ROUNDS: Final = 60
_WARM_LEARNING_RATE: Final = 0.03

Objective = Literal["cross_entropy", "l2"]
Start = Callable[[NDArray[np.bool_]], Floats]
"""Fits a simpler model on the rows that are marked, and gives its raw score of all rows."""


@dataclass(frozen=True, slots=True)
class CrossFit:
    """A model of all rows, and for each row the prediction of a model that never saw its group.

    The booster gives what is added to the start's raw score, where there is a start; ``rounds``
    are those that were added.
    """

    booster: Booster
    rounds: int
    out_of_fold: Floats


def cross_fit(
    X: Floats,
    y: Floats,
    groups: Sequence[Hashable],
    *,
    objective: Objective,
    feature_names: Sequence[str],
    increasing: frozenset[str] = frozenset(),
    seed: int,
    init: Booster | None = None,
    start: Start | None = None,
    params: Mapping[str, Any] | None = None,
) -> CrossFit:
    """Fit a model, choosing its number of rounds by grouped cross-validation.

    Args:
        X: Inputs, shape (n, n_features); NaN is a value of its own.
        y: Targets, shape (n,); in [0, 1] for ``cross_entropy``.
        groups: Rows of one group are never on both sides of a fold, shape (n,).
        objective: The loss.
        feature_names: Names of the columns of X.
        increasing: Features in which the prediction must not fall.
        seed: Of folds, feature and row sampling.
        init: An earlier model to improve on. It must not have seen these rows, or the
            out-of-fold predictions are too good.
        start: What the trees correct; None: the mean.
        params: LightGBM's parameters where they are to differ from the ones chosen here; a lower
            learning rate gets more rounds.
    """
    if len(groups) != len(y):
        message = f"{len(y)} rows but {len(groups)} groups"
        raise ValueError(message)
    folds = grouped_folds(groups, seed=seed)
    own = _params(len(y), objective, feature_names, increasing, seed=seed, warm=init is not None)
    max_rounds = _MAX_ROUNDS if init is None else _WARM_MAX_ROUNDS
    if params is not None:
        max_rounds = math.ceil(max_rounds * own["learning_rate"] / params["learning_rate"])
        own = {**own, **params}
    earlier = None if init is None else init.predict(X, raw=True)

    def scores(fitted_on: NDArray[np.bool_]) -> Floats | None:
        simple = None if start is None else start(fitted_on)
        return earlier if simple is None else simple if earlier is None else simple + earlier

    found: list[tuple[NDArray[np.bool_], Floats | None, Booster]] = []
    curve = np.zeros(max_rounds)
    for fold in range(int(folds.max()) + 1):
        seen = folds != fold
        before = scores(seen)
        booster, losses = _train(own, X, y, before, seen, ~seen, max_rounds)
        found.append((~seen, before, booster))
        # A constant target stops early: its last loss holds for the remaining rounds.
        padded = np.concatenate([losses, np.full(max_rounds - len(losses), losses[-1])])
        curve += padded * (~seen).sum()
    rounds = int(np.argmin(curve)) + 1
    raw = np.empty(len(y))
    for held_out, before, booster in found:
        raw[held_out] = booster.predict(X[held_out], n_iterations=rounds, raw=True)
        if before is not None:
            raw[held_out] += before[held_out]
    everything = np.ones(len(y), dtype=bool)
    final, _ = _train(own, X, y, scores(everything), everything, None, rounds)
    return CrossFit(
        booster=final if init is None else init.followed_by(final),
        rounds=rounds,
        out_of_fold=sigmoid(raw) if objective == "cross_entropy" else raw,
    )


def grouped_folds(groups: Sequence[Hashable], *, seed: int) -> NDArray[np.intp]:
    """Fold number of each row, shape (n,): groups whole, folds of about equal size.

    Raises ValueError where there are fewer than two groups.
    """
    codes = group_codes(groups)
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        message = f"cannot cross-validate with {len(sizes)} context(s): at least 2 are needed"
        raise ValueError(message)
    order = np.random.default_rng(seed).permutation(len(sizes))
    largest_first = order[np.argsort(-sizes[order], kind="stable")]
    fold_of = np.empty(len(sizes), dtype=np.intp)
    load = np.zeros(min(_N_FOLDS, len(sizes)))
    for group in largest_first:
        fold_of[group] = np.argmin(load)
        load[fold_of[group]] += sizes[group]
    return fold_of[codes]


def predict(booster: Booster, X: Floats) -> Floats:
    """Predict for rows of shape (n, n_features): about 25 µs for 8 rows."""
    return booster.predict(X)


def contributions(
    booster: Booster, row: Floats, feature_names: Sequence[str]
) -> list[tuple[str, float]]:
    """TreeSHAP values (Lundberg 2018) of one row of shape (n_features,), largest first.

    On the scale of the raw score: log-odds for ``cross_entropy``. Features without effect are
    left out.
    """
    values = booster.contributions(row.reshape(1, -1))[0]
    named = zip(feature_names, values[:-1].tolist(), strict=True)
    return sorted((pair for pair in named if pair[1]), key=lambda pair: -abs(pair[1]))


def from_text(text: str, feature_names: Sequence[str]) -> Booster:
    """Read a booster back; ValueError where it is none or has other features."""
    booster = Booster(text)
    if booster.feature_names != list(feature_names):
        message = "the LightGBM model has other features than this version computes"
        raise ValueError(message)
    return booster


def checked(name: str, values: NDArray[Any] | Sequence[float], n_rows: int) -> Floats:
    """``values`` as an array of shape (n_rows,); ValueError naming it otherwise."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n_rows,):
        message = f"{name} has shape {array.shape}, not ({n_rows},)"
        raise ValueError(message)
    return array


def checked_share(name: str, values: NDArray[Any] | Sequence[float], n_rows: int) -> Floats:
    """The same, for values that have to be in [0, 1] or NaN."""
    array = checked(name, values, n_rows)
    outside = array[(array < 0) | (array > 1)]
    if len(outside):
        message = f"{name} must be in [0, 1], not {outside[0]:g}"
        raise ValueError(message)
    return array


def checked_count(name: str, values: NDArray[Any] | Sequence[float], n_rows: int) -> Floats:
    """The same, for values that must not be negative."""
    array = checked(name, values, n_rows)
    if np.any(array < 0):
        message = f"{name} must not be negative, as {array[array < 0][0]:g} is"
        raise ValueError(message)
    return array


def require_rows(name: str, n_rows: int) -> None:
    """ValueError where there are too few rows to fit ``name`` on."""
    if n_rows < MIN_ROWS:
        message = f"{n_rows} rows with a known outcome are too few to fit {name}: {MIN_ROWS} needed"
        raise ValueError(message)


def _train(
    params: Mapping[str, Any],
    X: Floats,
    y: Floats,
    before: Floats | None,
    fitted_on: NDArray[np.bool_],
    judged_on: NDArray[np.bool_] | None,
    rounds: int,
) -> tuple[Booster, Floats]:
    """The trees that correct ``before``, and the loss on ``judged_on`` after each round."""
    import lightgbm as lgb  # noqa: PLC0415 - takes seconds and 150 MB, and serving never fits

    names = params["feature_names"]
    options = {name: value for name, value in params.items() if name != "feature_names"}

    def rows(chosen: NDArray[np.bool_], reference: lgb.Dataset | None = None) -> lgb.Dataset:
        return lgb.Dataset(
            X[chosen],
            y[chosen],
            init_score=None if before is None else before[chosen],
            reference=reference,
            feature_name=list(names),
            params=options,
        )

    train = rows(fitted_on)
    if judged_on is None:
        return Booster(lgb.train(options, train, rounds).model_to_string()), np.empty(0)
    evaluations: dict[str, dict[str, list[float]]] = {}
    booster = lgb.train(
        options,
        train,
        rounds,
        valid_sets=[rows(judged_on, train)],
        valid_names=["held_out"],
        callbacks=[lgb.record_evaluation(evaluations)],
    )
    (losses,) = evaluations["held_out"].values()
    return Booster(booster.model_to_string()), np.array(losses)


def _params(
    n_rows: int,
    objective: Objective,
    feature_names: Sequence[str],
    increasing: frozenset[str],
    *,
    seed: int,
    warm: bool,
) -> dict[str, Any]:
    unknown = increasing - set(feature_names)
    if unknown:
        message = f"monotone constraints on unknown features: {sorted(unknown)}"
        raise ValueError(message)
    return {
        "objective": objective,
        "metric": objective,
        "feature_names": tuple(feature_names),
        "monotone_constraints": [int(name in increasing) for name in feature_names],
        "monotone_constraints_method": "intermediate",
        "num_leaves": 4 if n_rows < 500 else 8,
        "min_data_in_leaf": int(np.clip(n_rows // 50, 5, 40)),
        "learning_rate": _WARM_LEARNING_RATE if warm else _LEARNING_RATE,
        "lambda_l2": 5.0,
        "feature_fraction": 0.6,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "max_bin": 63,
        "min_data_in_bin": 3,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
