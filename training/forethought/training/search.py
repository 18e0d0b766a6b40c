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
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from forethought.models import boosting
from forethought.models.calibration import group_codes
from forethought.models.outcome import HEADS, Head, HeadProblem, OutcomeModel, head_problem
from forethought.models.predictability import (
    STRATEGY,
    OwnProblem,
    PredictabilityModel,
    own_problem,
)
from forethought.training.dataset import Dataset, Floats

_EDGE: Final = 1e-7

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


@dataclass(frozen=True, slots=True)
class _Trial:
    params: dict[str, Any]
    fitted: boosting.CrossFit
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
        deadline = None
        if budget.seconds is not None:
            deadline = began + budget.seconds * number / len(heads)
        limits = (budget.trials, deadline)
        if name == "predictability":
            own = _own(train, None if init is None else init[1])
            best, found[name] = _search(name, own, limits, [seed, number], told)
            if best is not None:
                predictability = PredictabilityModel.of(own, best.fitted, seed=seed)
        else:
            head = _head(name)
            problem = _of_head(head, train, None if init is None else init[0])
            best, found[name] = _search(name, problem, limits, [seed, number], told)
            if best is not None:
                outcome = outcome.with_head(head, problem, best.fitted, seed=seed)
    return outcome, predictability, found


def _own(train: Dataset, init: PredictabilityModel | None) -> OwnProblem:
    asked = [i for i, strategy in enumerate(train.strategies) if strategy == STRATEGY]
    groups = [train.groups[i] for i in asked]
    return own_problem([train.rows[i] for i in asked], train.quality[asked], groups, init=init)


def _of_head(head: Head, train: Dataset, init: OutcomeModel | None) -> HeadProblem:
    values = {
        "quality": train.quality,
        "tokens": train.output_tokens,
        "latency_ms": train.latency_ms,
    }[head]
    return head_problem(head, train.rows, train.strategies, values, train.groups, init=init)


def _head(name: str) -> Head:
    return next(head for head in HEADS if head == name)


def _search(
    name: str,
    problem: HeadProblem | OwnProblem,
    limits: tuple[int | None, float | None],
    seed: Sequence[int],
    told: Told | None,
) -> tuple[_Trial | None, Tuned]:
    trials, deadline = limits
    rng = np.random.default_rng(seed)
    default = _loss(name, problem.y, problem.fit(seed=seed[0]).out_of_fold)
    best: _Trial | None = None
    n = 0
    while (trials is None or n < trials) and (deadline is None or time.monotonic() < deadline):
        n += 1
        if told is not None:
            told(name, n, trials)
        params = _drawn(rng, len(problem.y))
        fitted = problem.fit(seed=seed[0], params=params)
        trial = _Trial(params, fitted, _loss(name, problem.y, fitted.out_of_fold))
        if best is None or trial.losses.mean() < best.losses.mean():
            best = trial
    taken = best is not None and _clearly_better(best.losses, default, problem.groups)
    return best if taken else None, Tuned(
        trials=n,
        default_loss=float(default.mean()),
        best_loss=float(default.mean() if best is None else best.losses.mean()),
        taken=taken,
        params={} if best is None or not taken else best.params,
        rounds=0 if best is None or not taken else best.fitted.rounds,
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


def _loss(name: str, y: Floats, predicted: Floats) -> Floats:
    """Of each row: squared error of what is modelled as a logarithm, else cross-entropy."""
    if name in {"tokens", "latency_ms"}:
        return np.asarray((y - predicted) ** 2)
    p = np.clip(predicted, _EDGE, 1 - _EDGE)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log(1 - p)))


def _clearly_better(losses: Floats, default: Floats, groups: Sequence[Hashable]) -> bool:
    """Whether the mean is lower by more than one standard error, clustered by context."""
    gains = np.bincount(group_codes(groups), default - losses)
    n = len(gains)
    return bool(gains.sum() > math.sqrt(n) * float(np.std(gains, ddof=1))) if n > 1 else False
