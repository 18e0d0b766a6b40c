"""Fit a policy bundle, and measure it on contexts that it never saw.

A head (quality, tokens, latency, predictability, demand) with too few rows keeps the initial
model's. What was fitted, on how many rows and how well it predicts, is in the bundle's
``manifest["info"]``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from forethought.models.boosting import MIN_ROWS
from forethought.models.bundle import PolicyBundle
from forethought.models.calibration import expected_calibration_error
from forethought.models.demand import DemandModel
from forethought.models.features import matrix
from forethought.models.outcome import HEADS, Head, OutcomeModel
from forethought.models.predictability import STRATEGY, PredictabilityModel
from forethought.training.dataset import Dataset, Floats
from forethought.training.drift import reference
from forethought.training.errors import TrainingError
from forethought.training.search import Budget, Told, tune
from forethought.training.signals import SIGN_QUALITY

MIN_CONTEXTS: Final = 2
"""Cross-validation keeps contexts whole, so it needs two."""

Model = TypeVar("Model", OutcomeModel, PredictabilityModel)

_EDGE: Final = 1e-6
_MORE: Final = "Serve more traffic and give feedback on it, or train --from recorded outcomes."


def fit_bundle(
    dataset: Dataset,
    *,
    seed: int,
    init: PolicyBundle | None,
    budget: Budget | None = None,
    told: Told | None = None,
) -> PolicyBundle:
    """Fit every predictor on the training rows, starting from ``init``.

    Rows without a quality still teach tokens and latency. Classes are not reweighted: that would
    make the probabilities wrong, and it is those that the allocation weighs.

    Args:
        dataset: Of the log or of recorded rows; its held-out rows are only measured on.
        seed: Makes the fit reproducible: equal data and seed, equal version.
        init: The bundle to start from, which must not have seen these rows. None: from nothing.
        budget: How long to search better settings than the defaults; None: not at all.
        told: Is told of each trial of the search.

    Raises:
        TrainingError: No head has rows enough, or one has not and there is no ``init``.
    """
    train, test = dataset.train, dataset.test
    status: dict[str, str] = {}
    outcome = _fit_outcome(train, seed, None if init is None else init.outcome, status)
    predictability = _fit_predictability(
        train, seed, None if init is None else init.predictability, status
    )
    if not any(said.startswith("fitted") for said in status.values()):
        raise TrainingError(
            f"{len(train)} usable training rows in {train.n_contexts} contexts are too few to fit "
            f"anything: {MIN_ROWS} rows in {MIN_CONTEXTS} contexts needed.",
            param=dataset.source,
            remedy=_MORE,
        )
    tuning: dict[str, Any] = {}
    if budget is not None and budget.searches:
        outcome, predictability, tuned = tune(
            train,
            outcome,
            predictability,
            init=None if init is None else (init.outcome, init.predictability),
            heads=[head for head, said in status.items() if said.startswith("fitted")],
            budget=budget,
            seed=seed,
            told=told,
        )
        tuning = {head: asdict(one) for head, one in tuned.items()}
    demand = _fit_demand(dataset, None if init is None else init.demand, status)
    held_out = {"fitted": measure(test, outcome, predictability)}
    if init is not None:
        held_out["initial"] = measure(test, init.outcome, init.predictability)
    return PolicyBundle.build(
        predictability=predictability,
        outcome=outcome,
        demand=demand,
        info={
            "seed": seed,
            "initial": None if init is None else init.version,
            "data": {
                "source": dataset.source,
                "recorded": dataset.recorded,
                "fingerprint": dataset.fingerprint,
                "train_rows": len(train),
                "train_contexts": train.n_contexts,
                "held_out_rows": len(test),
                "held_out_contexts": test.n_contexts,
                "since": float(dataset.created_at.min()),
                "until": float(dataset.created_at.max()),
                "left_out": dict(dataset.left_out),
                "judged_by": _judged_by(train),
            },
            "fit": status,
            "tuning": tuning,
            "reference": reference(train.rows, train.groups),
            "held_out": held_out,
        },
    )


def _judged_by(train: Dataset) -> dict[str, int]:
    """How many training rows each source of quality judged; implicit signs are marked."""
    counts = Counter(
        f"sign:{who}" if who in SIGN_QUALITY else who or "nobody" for who in train.judged_by
    )
    return dict(sorted(counts.items()))


def measure(
    test: Dataset, outcome: OutcomeModel, predictability: PredictabilityModel
) -> dict[str, dict[str, Any]]:
    """How well the predictors do on held-out rows, by head; empty where there are no rows.

    Only explicit judgements count as quality.

    Probabilities: Brier score, log loss, expected calibration error, AUROC (None where only
    one class occurs; right is quality >= 0.5). Tokens and latency: mean absolute error of
    log(1 + y).
    """
    if not len(test):
        return {}
    test = test.explicit
    predicted = outcome.predict(matrix(test.rows, test.strategies))
    found = {
        "quality": _probability_scores(predicted.quality, test.quality),
        "tokens": _log_error(predicted.tokens, test.output_tokens),
        "latency_ms": _log_error(predicted.latency_ms, test.latency_ms),
    }
    low_effort = [i for i, name in enumerate(test.strategies) if name == STRATEGY]
    if low_effort:
        mean = predictability.predict([test.rows[i] for i in low_effort]).mean
        found["predictability"] = _probability_scores(mean, test.quality[low_effort])
    return {head: scores for head, scores in found.items() if scores}


def _fit_outcome(
    train: Dataset, seed: int, init: OutcomeModel | None, status: dict[str, str]
) -> OutcomeModel:
    targets: dict[Head, Floats] = {
        "quality": train.quality,
        "tokens": train.output_tokens,
        "latency_ms": train.latency_ms,
    }
    lacking: dict[Head, str] = {}
    for head in HEADS:
        why = _too_few(targets[head], train.groups)
        status[head] = f"fitted on {_n_known(targets[head])} rows" if why is None else why
        if why is not None:
            lacking[head] = why
    if len(lacking) == len(HEADS):
        return _kept(init, "outcome", train, status)
    if lacking and init is None:
        head, why = next(iter(lacking.items()))
        raise TrainingError(
            f"The head {head} cannot be fitted ({why}) and there is no earlier model to keep.",
            param=train.source,
            remedy=_MORE,
        )
    # The model fits its heads together: one that lacks rows gets any values, then is replaced.
    filled = {
        head: np.full(len(train), 0.5) if head in lacking else values
        for head, values in targets.items()
    }
    fitted = OutcomeModel.fit(
        train.rows,
        train.strategies,
        filled["quality"],
        filled["tokens"],
        filled["latency_ms"],
        train.groups,
        seed=seed,
        init=init,
    )
    if init is None:
        return fitted
    for head, why in lacking.items():
        status[head] = f"kept: {why}"
    return replace(
        fitted,
        kinds=init.kinds if "quality" in lacking else fitted.kinds,
        boosters={**fitted.boosters, **{head: init.boosters[head] for head in lacking}},
        calibration=init.calibration if "quality" in lacking else fitted.calibration,
        mean_ratio={
            head: (init if head in lacking else fitted).mean_ratio[head]
            for head in fitted.mean_ratio
        },
        spread={
            head: spread
            for head in HEADS
            if (spread := (init if head in lacking else fitted).spread.get(head)) is not None
        },
    )


def _fit_predictability(
    train: Dataset, seed: int, init: PredictabilityModel | None, status: dict[str, str]
) -> PredictabilityModel:
    own = [i for i, name in enumerate(train.strategies) if name == STRATEGY]
    quality, groups = train.quality[own], [train.groups[i] for i in own]
    why = _too_few(quality, groups)
    if why is not None:
        status["predictability"] = f"{why} answered by {STRATEGY}"
        return _kept(init, "predictability", train, status)
    status["predictability"] = f"fitted on {_n_known(quality)} rows"
    return PredictabilityModel.fit(
        [train.rows[i] for i in own], quality, groups, seed=seed, init=init
    )


def _fit_demand(dataset: Dataset, init: DemandModel | None, status: dict[str, str]) -> DemandModel:
    prior = init or DemandModel()
    if not dataset.demand.counts:
        status["demand"] = "kept: no contexts' queries to count"
        return prior
    status["demand"] = f"fitted on {len(dataset.demand.counts)} contexts"
    demand = dataset.demand
    return DemandModel.fit(demand.counts, gaps_s=demand.gaps_s, idle_s=demand.idle_s, prior=prior)


def _kept(init: Model | None, name: str, train: Dataset, status: dict[str, str]) -> Model:
    heads: Sequence[str] = HEADS if name == "outcome" else (name,)
    if init is None:
        raise TrainingError(
            f"The {name} model cannot be fitted ({status[heads[0]]}) and there is no earlier one "
            "to keep.",
            param=train.source,
            remedy=_MORE,
        )
    for head in heads:
        status[head] = f"kept: {status[head]}"
    return init


def _too_few(values: Floats, groups: Sequence[str]) -> str | None:
    known = np.flatnonzero(~np.isnan(values)).tolist()
    n_contexts = len({groups[i] for i in known})
    if len(known) >= MIN_ROWS and n_contexts >= MIN_CONTEXTS:
        return None
    return f"only {len(known)} known rows in {n_contexts} contexts"


def _n_known(values: Floats) -> int:
    return int((~np.isnan(values)).sum())


def _probability_scores(p: Floats, y: Floats) -> dict[str, Any]:
    known = ~np.isnan(y)
    if not known.any():
        return {}
    p, y = p[known], y[known]
    clipped = np.clip(p, _EDGE, 1 - _EDGE)
    return {
        "rows": len(y),
        "mean": float(y.mean()),
        "brier": float(((p - y) ** 2).mean()),
        "log_loss": float(-(y * np.log(clipped) + (1 - y) * np.log(1 - clipped)).mean()),
        "ece": expected_calibration_error(p, y),
        "auroc": _auroc(p, y >= 0.5),
    }


def _auroc(p: Floats, right: NDArray[np.bool_]) -> float | None:
    if right.all() or not right.any():
        return None
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - slow to import

    return float(roc_auc_score(right, p))


def _log_error(predicted: Floats, actual: Floats) -> dict[str, Any]:
    known = ~np.isnan(actual)
    if not known.any():
        return {}
    error = np.abs(np.log1p(predicted[known]) - np.log1p(actual[known]))
    return {"rows": int(known.sum()), "mae_log": float(error.mean())}
