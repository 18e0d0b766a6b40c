"""A random search over how LightGBM fits, within a budget of trials or of minutes.

Random search finds as good a setting as a grid with a fraction of the trials where few parameters
matter (Bergstra and Bengio, JMLR 2012). Each trial is judged by cross-validation whose folds keep
contexts whole. The defaults stay unless a trial's loss is below theirs by more than one standard
error of the paired difference by context: of many trials, the luckiest always looks better.

With a number of trials, equal data and seed give an equal result; with minutes, the number of
trials depends on the machine, and is told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from forethought.models import boosting
from forethought.models.booster import Booster
from forethought.models.calibration import fit_calibration, group_codes
from forethought.models.features import FEATURE_NAMES, MISSING, matrix
from forethought.models.outcome import HEADS, INCREASING, Head, OutcomeModel
from forethought.models.predictability import (
    PREDICTABILITY_NAMES,
    STRATEGY,
    PredictabilityModel,
)
from forethought.training.dataset import Dataset, Floats

_EDGE: Final = 1e-7
_PATIENCE: Final = 30
_MAX_ROUNDS: Final = 400
_RATIO_BOUNDS: Final = (0.5, 3.0)  # as the outcome model's own

Told = Callable[[str, int, int | None], None]
"""What is being searched, the trial, and how many there will be (None: until the time is up)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long to search: so many trials a head, or so many seconds in all, what ends first."""

    trials: int | None = None
    seconds: float | None = None

    @property
    def searches(self) -> bool:
        return bool(self.trials) or bool(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What the search of one head found; losses are cross-validated means."""

    trials: int
    default_loss: float
    best_loss: float
    taken: bool
    params: dict[str, Any] = field(default_factory=dict)
    rounds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """One head's rows, cross-validation folds and default."""

    name: str
    X: Floats
    y: Floats
    groups: Sequence[str]
    objective: boosting.Objective
    feature_names: Sequence[str]
    increasing: frozenset[str]
    init: Booster | None
    folds: NDArray[np.intp]
    default: boosting.CrossFit


@dataclass(frozen=True, slots=True)
class _Trial:
    params: dict[str, Any]
    rounds: int
    out_of_fold: Floats
    losses: Floats


def tune(
    train: Dataset,
    outcome: OutcomeModel,
    predictability: PredictabilityModel,
    *,
    init: tuple[OutcomeModel, PredictabilityModel] | None,
    heads: Sequence[str],
    budget: Budget,
    seed: int,
    told: Told | None = None,
) -> tuple[OutcomeModel, PredictabilityModel, dict[str, Tuned]]:
    """Search better settings for the fitted ``heads``.

    Args:
        train: The rows that the models were fitted on.
        outcome: Fitted with the default settings.
        predictability: Likewise.
        init: The models that they started from, None for none.
        heads: Of ``outcome.HEADS`` and ``predictability``; others are left as they are.
        budget: Shared evenly between the heads.
        seed: Of the settings that are tried, and of the fits.
        told: Is told of each trial.
    """
    found: dict[str, Tuned] = {}
    began = time.monotonic()
    for number, name in enumerate(heads, start=1):
        problem = _problem(name, train, init, seed)
        deadline = None
        if budget.seconds is not None:
            deadline = began + budget.seconds * number / len(heads)
        best, found[name] = _search(problem, budget.trials, deadline, [seed, number], told)
        if best is None:
            continue
        booster = _fit_whole(problem, best, seed)
        if name == "predictability":
            predictability = replace(
                predictability,
                booster=booster,
                calibration=fit_calibration(best.out_of_fold, problem.y, problem.groups, seed=seed),
            )
        else:
            outcome = _with_head(outcome, name, booster, best, problem, seed)
    return outcome, predictability, found


def _with_head(
    outcome: OutcomeModel, name: str, booster: Booster, best: _Trial, problem: _Problem, seed: int
) -> OutcomeModel:
    head = next(one for one in HEADS if one == name)
    changed = replace(outcome, boosters={**outcome.boosters, head: booster})
    if head == "quality":
        calibration = fit_calibration(best.out_of_fold, problem.y, problem.groups, seed=seed)
        return replace(changed, calibration=calibration)
    predicted = np.maximum(np.expm1(best.out_of_fold), 0.0).sum()
    ratio = np.expm1(problem.y).sum() / predicted if predicted > 0 else 1.0
    mean_ratio = {**outcome.mean_ratio, head: float(np.clip(ratio, *_RATIO_BOUNDS))}
    return replace(changed, mean_ratio=mean_ratio)


def _problem(
    name: str,
    train: Dataset,
    init: tuple[OutcomeModel, PredictabilityModel] | None,
    seed: int,
) -> _Problem:
    names: Sequence[str]
    if name == "predictability":
        own = [i for i, strategy in enumerate(train.strategies) if strategy == STRATEGY]
        y = train.quality[own]
        rows = [train.rows[i] for i in own]
        X = np.array([[row.get(n, MISSING) for n in PREDICTABILITY_NAMES] for row in rows])
        names, increasing = PREDICTABILITY_NAMES, frozenset[str]()
        start = None if init is None else init[1].booster
    else:
        own = list(range(len(train)))
        y = _target(train, name)
        X, names, increasing = (
            matrix(train.rows, train.strategies), FEATURE_NAMES, INCREASING[_head(name)],
        )  # fmt: skip
        start = None if init is None else init[0].boosters[_head(name)]
    known = np.flatnonzero(~np.isnan(y)).tolist()
    groups = [train.groups[own[i]] for i in known]
    objective: boosting.Objective = "l2" if name in {"tokens", "latency_ms"} else "cross_entropy"
    X, y = X[known], y[known]
    return _Problem(
        name=name, X=X, y=y, groups=groups, objective=objective, feature_names=names,
        increasing=increasing, init=start, folds=boosting.grouped_folds(groups, seed=seed),
        default=boosting.cross_fit(
            X, y, groups, objective=objective, feature_names=names, increasing=increasing,
            seed=seed, init=start,
        ),
    )  # fmt: skip


def _head(name: str) -> Head:
    return next(head for head in HEADS if head == name)


def _target(train: Dataset, name: str) -> Floats:
    if name == "quality":
        return train.quality
    return np.log1p(train.output_tokens if name == "tokens" else train.latency_ms)


def _search(
    problem: _Problem,
    trials: int | None,
    deadline: float | None,
    seed: Sequence[int],
    told: Told | None,
) -> tuple[_Trial | None, Tuned]:
    rng = np.random.default_rng(seed)
    default = _loss(problem, problem.default.out_of_fold)
    best: _Trial | None = None
    n = 0
    while (trials is None or n < trials) and (deadline is None or time.monotonic() < deadline):
        n += 1
        if told is not None:
            told(problem.name, n, trials)
        trial = _cross_validated(problem, _drawn(rng, len(problem.y)), seed=int(seed[0]))
        if best is None or trial.losses.mean() < best.losses.mean():
            best = trial
    taken = best is not None and _clearly_better(best.losses, default, problem.groups)
    return best if taken else None, Tuned(
        trials=n,
        default_loss=float(default.mean()),
        best_loss=float(default.mean() if best is None else best.losses.mean()),
        taken=taken,
        params={} if best is None or not taken else best.params,
        rounds=0 if best is None or not taken else best.rounds,
    )


def _drawn(rng: np.random.Generator, n_rows: int) -> dict[str, Any]:
    return {
        "num_leaves": int(rng.choice([3, 4, 8, 16, 31])),
        "min_data_in_leaf": int(np.clip(n_rows * 10 ** rng.uniform(-2.7, -1.3), 5, 500)),
        "learning_rate": round(float(10 ** rng.uniform(-1.7, -0.8)), 4),
        "lambda_l2": round(float(10 ** rng.uniform(-1.0, 1.7)), 3),
        "feature_fraction": round(float(rng.uniform(0.3, 1.0)), 2),
        "bagging_fraction": round(float(rng.uniform(0.5, 1.0)), 2),
        "bagging_freq": 1,
        "max_bin": int(rng.choice([31, 63, 127])),
    }


def _cross_validated(problem: _Problem, params: dict[str, Any], *, seed: int) -> _Trial:
    rounds = min(_MAX_ROUNDS, math.ceil(10 / params["learning_rate"]))
    fits = []
    for fold in range(int(problem.folds.max()) + 1):
        out = problem.folds == fold
        fits.append((out, *_train(problem, params, ~out, out, rounds, seed)))
    longest = max(len(curve) for _, _, curve in fits)
    total = np.zeros(longest)
    for out, _, curve in fits:
        total += out.sum() * np.concatenate([curve, np.full(longest - len(curve), curve[-1])])
    best = int(np.argmin(total)) + 1
    out_of_fold = np.empty(len(problem.y))
    before = 0 if problem.init is None else problem.init.n_iterations
    for out, booster, _ in fits:
        out_of_fold[out] = booster.predict(problem.X[out], n_iterations=before + best)
    return _Trial(params, best, out_of_fold, _loss(problem, out_of_fold))


def _fit_whole(problem: _Problem, trial: _Trial, seed: int) -> Booster:
    every = np.ones(len(problem.y), dtype=bool)
    booster, _ = _train(problem, trial.params, every, None, trial.rounds, seed)
    return booster


def _train(
    problem: _Problem,
    params: dict[str, Any],
    rows: NDArray[np.bool_],
    valid: NDArray[np.bool_] | None,
    rounds: int,
    seed: int,
) -> tuple[Booster, Floats]:
    import lightgbm as lgb  # noqa: PLC0415 - seconds to import

    names = problem.feature_names
    options = {
        **params,
        "objective": problem.objective,
        "metric": problem.objective,
        "monotone_constraints": [int(name in problem.increasing) for name in names],
        "monotone_constraints_method": "intermediate",
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    start = None if problem.init is None else lgb.Booster(model_str=problem.init.text)
    data = lgb.Dataset(problem.X[rows], problem.y[rows], feature_name=list(names), params=options)
    if valid is None:
        fitted = lgb.train(options, data, rounds, init_model=start)
        return Booster(fitted.model_to_string()), np.empty(0)
    curves: dict[str, dict[str, list[float]]] = {}
    fitted = lgb.train(
        options, data, rounds, init_model=start,
        valid_sets=[lgb.Dataset(problem.X[valid], problem.y[valid], reference=data)],
        valid_names=["held_out"],
        callbacks=[
            lgb.record_evaluation(curves),
            lgb.early_stopping(_PATIENCE, verbose=False),
        ],
    )  # fmt: skip
    (curve,) = curves["held_out"].values()
    return Booster(fitted.model_to_string(num_iteration=-1)), np.array(curve)


def _loss(problem: _Problem, predicted: Floats) -> Floats:
    y = problem.y
    if problem.objective == "l2":
        return np.asarray((y - predicted) ** 2)
    p = np.clip(predicted, _EDGE, 1 - _EDGE)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log(1 - p)))


def _clearly_better(losses: Floats, default: Floats, groups: Sequence[str]) -> bool:
    """Whether the mean is lower by more than one standard error, clustered by context."""
    gains = np.bincount(group_codes(groups), default - losses)
    n = len(gains)
    return bool(gains.sum() > math.sqrt(n) * float(np.std(gains, ddof=1))) if n > 1 else False
