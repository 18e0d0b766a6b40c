"""Fit a policy on an export of any size: out of core on one machine, or on a Dask cluster.

Both grow the same trees up to what the split of the rows changes (LightGBM's data-parallel
learner finds the bins of each feature on one worker's rows; Ke et al., NeurIPS 2017). With this
much data nothing is cross-validated: the boosting leaves a fifth of the training contexts out,
and those calibrate.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from forethought.models.booster import Booster
from forethought.models.boosting import Objective
from forethought.models.bundle import PolicyBundle
from forethought.models.calibration import Calibration, fit_calibration
from forethought.models.demand import DemandModel
from forethought.models.features import FEATURE_NAMES, KNOWN_STRATEGIES
from forethought.models.kinds import KindModel
from forethought.models.outcome import INCREASING, Head, OutcomeModel, mean_ratio
from forethought.models.predictability import (
    PREDICTABILITY_NAMES,
    STRATEGY,
    PredictabilityModel,
)
from forethought.models.spread import Spread
from forethought.router.errors import ConfigError
from forethought.training.bulk import Bulk, cached_matrix, chunk_matrix
from forethought.training.dataset import Flags, Floats
from forethought.training.errors import TrainingError

ROUNDS: Final = 120
MIN_ROWS: Final = 500
"""Below, ``--engine memory`` fits better: it cross-validates."""

_MOST_TO_CALIBRATE: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadData:
    """What one head is fitted on: ``rows`` of a bulk, with their target in all its rows' order."""

    name: str
    bulk: Bulk
    rows: Flags
    target: Floats
    objective: Objective
    feature_names: Sequence[str]
    increasing: frozenset[str]

    @property
    def columns(self) -> list[int]:
        """The columns of ``chunk_matrix`` that the head reads."""
        return [FEATURE_NAMES.index(name) for name in self.feature_names]


Engine = Callable[[HeadData, dict[str, Any], int], str]
"""Fits a head with LightGBM's parameters in so many rounds; returns the model's text."""


def fit_bulk(
    bulk: Bulk,
    *,
    engine: Engine,
    seed: int,
    threads: int,
    demand: DemandModel,
    say: Callable[[str], None],
    rounds: int = ROUNDS,
) -> PolicyBundle:
    """Fit every predictor but demand, which is kept.

    Raises:
        TrainingError: A head has fewer than ``MIN_ROWS`` rows.
    """
    boosters: dict[Head, Booster] = {}
    ratio: dict[Head, float] = {}
    spread: dict[Head, Spread] = {}
    status: dict[str, str] = {"demand": "kept: this engine does not fit it"}
    calibration: Calibration | None = None
    heads: tuple[tuple[Head, Floats, Objective], ...] = (
        ("quality", bulk.quality, "cross_entropy"),
        ("tokens", np.log1p(bulk.tokens), "l2"),
        ("latency_ms", np.log1p(bulk.latency_ms), "l2"),
    )
    for head, target, objective in heads:
        data = _head(bulk, head, target, objective, FEATURE_NAMES, INCREASING[head])
        say(f"fitting {head} on {int(data.rows.sum()):,} answers")
        boosters[head] = _fitted(data, engine, seed, threads, rounds)
        status[head] = f"fitted on {int(data.rows.sum())} rows"
        predicted, actual, groups, strategy = _left_out(data, boosters[head])
        if head == "quality":
            calibration = fit_calibration(predicted, actual, groups, seed=seed)
        else:
            ratio[head] = mean_ratio(actual, predicted)
            spread[head] = Spread.fit(actual, predicted, strategy, groups)
    own = _head(
        bulk, "predictability", _own_quality(bulk), "cross_entropy", PREDICTABILITY_NAMES,
        frozenset(),
    )  # fmt: skip
    say(f"fitting predictability on {int(own.rows.sum()):,} answers")
    booster = _fitted(own, engine, seed, threads, rounds)
    status["predictability"] = f"fitted on {int(own.rows.sum())} rows"
    predicted, actual, groups, _ = _left_out(own, booster)
    assert calibration is not None  # noqa: S101 - quality is among the heads
    return PolicyBundle.build(
        predictability=PredictabilityModel.calibrated(
            booster, predicted, actual, groups, seed=seed
        ),
        outcome=OutcomeModel(
            kinds=KindModel.none(),
            boosters=boosters,
            calibration=calibration,
            mean_ratio=ratio,
            spread=spread,
        ),
        demand=demand,
        info={
            "seed": seed,
            "initial": None,
            "data": {
                "source": bulk.path.name,
                "recorded": False,
                "fingerprint": bulk.fingerprint,
                "train_rows": int(bulk.train.sum()),
                "train_contexts": len(np.unique(bulk.group[bulk.train])),
                "held_out_rows": int((bulk.usable & bulk.held_out).sum()),
                "held_out_contexts": len(np.unique(bulk.group[bulk.usable & bulk.held_out])),
                "since": float(bulk.created_at.min()),
                "until": float(bulk.created_at.max()),
                "left_out": {"no use for this version": int((~bulk.usable).sum())},
                "judged_by": {"explicit": int((bulk.explicit & bulk.train).sum())},
            },
            "fit": status,
            "tuning": {},
            "held_out": {"fitted": {}},
        },
    )


def out_of_core(data: HeadData, params: dict[str, Any], rounds: int) -> str:
    """LightGBM on this machine: features are binned (one byte a value) as they are read."""
    import lightgbm as lgb  # noqa: PLC0415 - seconds to import

    class Rows(lgb.Sequence):
        """The rows of one row group; a list of them is a data set."""

        batch_size = 20_000

        def __init__(self, file: str, row_group: int, kept: Flags) -> None:
            self._at = (file, row_group)
            self._places = np.flatnonzero(kept)

        def __len__(self) -> int:
            return len(self._places)

        def __getitem__(self, index: Any) -> Any:
            # LightGBM wants doubles.
            rows = cached_matrix(*self._at)[self._places[index]]
            return rows[..., columns].astype(np.float64)

    columns = data.columns
    parts = list(data.bulk.parts(data.rows))
    sequences: list[Any] = [Rows(chunk.file, chunk.row_group, own) for chunk, own in parts]
    train = lgb.Dataset(
        sequences,
        data.target[data.rows],
        feature_name=list(data.feature_names),
        params=params,
        free_raw_data=True,
    )
    fitted = lgb.train(params, train, rounds)
    return str(fitted.model_to_string())


def on_dask(scheduler: str) -> Engine:
    """LightGBM on a Dask cluster: each worker reads its row groups from the (shared) folder.

    Raises:
        ConfigError: Dask is not installed, or the scheduler does not answer.
    """

    def fit(data: HeadData, params: dict[str, Any], rounds: int) -> str:
        try:
            # By name: Dask types only a part of what it offers.
            dask: Any = importlib.import_module("dask")
            da: Any = importlib.import_module("dask.array")
            distributed: Any = importlib.import_module("distributed")
        except ImportError as error:
            raise ConfigError(
                "Dask is not installed.",
                param="engine",
                remedy="Install it: pip install 'forethought[dask]'.",
            ) from error
        from lightgbm.dask import DaskLGBMRegressor  # noqa: PLC0415 - seconds to import

        try:
            client = distributed.Client(scheduler, timeout="20s")
        except OSError as error:
            raise ConfigError(
                f"The Dask scheduler {scheduler} does not answer.",
                param="scheduler",
                remedy="Start one with `dask scheduler`, workers with `dask worker`.",
            ) from error
        with client:
            x_parts, y_parts = [], []
            for chunk, own in data.bulk.parts(data.rows):
                n = int(own.sum())
                loaded = dask.delayed(_columns)(chunk.file, chunk.row_group, own, data.columns)
                x_parts.append(
                    da.from_delayed(loaded, (n, len(data.feature_names)), dtype=np.float32)
                )
                labels = data.target[chunk.start : chunk.start + chunk.n_rows][own]
                y_parts.append(da.from_array(labels, chunks=n))
            model = DaskLGBMRegressor(
                client=client, n_estimators=rounds, tree_learner="data",
                **{name: value for name, value in params.items() if name != "num_threads"},
            )  # fmt: skip
            model.fit(
                da.concatenate(x_parts), da.concatenate(y_parts),
                feature_name=list(data.feature_names),
            )  # fmt: skip
            return str(model.booster_.model_to_string())

    return fit


def _columns(file: str, row_group: int, kept: Flags, columns: list[int]) -> Any:
    """Runs on a worker."""
    return chunk_matrix(file, row_group, kept)[:, columns]


def _own_quality(bulk: Bulk) -> Floats:
    asked = np.array([name == STRATEGY for name in bulk.strategies])[bulk.strategy]
    return np.where(asked, bulk.quality, np.nan)


def _head(
    bulk: Bulk,
    name: str,
    target: Floats,
    objective: Objective,
    feature_names: Sequence[str],
    increasing: frozenset[str],
) -> HeadData:
    rows = bulk.train & ~np.isnan(target)
    n = int(rows.sum())
    n_left = int((rows & bulk.to_calibrate).sum())
    if n < MIN_ROWS or not n_left or n == n_left:
        raise TrainingError(
            f"{n} rows are too few to fit {name} so: {MIN_ROWS} needed.",
            param="engine",
            remedy="Use --engine memory.",
        )
    return HeadData(
        name=name, bulk=bulk, rows=rows, target=target, objective=objective,
        feature_names=feature_names, increasing=increasing,
    )  # fmt: skip


def _fitted(data: HeadData, engine: Engine, seed: int, threads: int, rounds: int) -> Booster:
    n = int(data.rows.sum())
    params = {
        "objective": data.objective,
        "monotone_constraints": [int(name in data.increasing) for name in data.feature_names],
        "num_leaves": 31,
        "min_data_in_leaf": int(np.clip(n // 50, 20, 1_000)),
        "learning_rate": 0.1,
        "lambda_l2": 5.0,
        "max_bin": 63,
        "feature_fraction": 1.0,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
    to_boost = replace(data, rows=data.rows & ~data.bulk.to_calibrate)
    return Booster(engine(to_boost, params, rounds))


def _left_out(
    data: HeadData, booster: Booster
) -> tuple[Floats, Floats, list[int], NDArray[np.intp]]:
    """Predictions, targets, contexts and strategies (their places in ``KNOWN_STRATEGIES``).

    Of the rows that calibrate, at most so many.
    """
    rows = data.rows & data.bulk.to_calibrate
    places = np.flatnonzero(rows)
    if len(places) > _MOST_TO_CALIBRATE:
        # Whole contexts, from the first rows on: time says nothing about a context's number.
        last = places[_MOST_TO_CALIBRATE]
        rows = rows & (data.bulk.group < data.bulk.group[last])
    predicted, actual, groups, strategies = [], [], [], []
    codes = {name: code for code, name in enumerate(KNOWN_STRATEGIES)}
    place = np.array([codes.get(name, -1) for name in data.bulk.strategies], np.intp)
    for chunk, own in data.bulk.parts(rows):
        X = chunk_matrix(chunk.file, chunk.row_group, own)[:, data.columns]
        predicted.append(booster.predict(X.astype(np.float64)))
        at = slice(chunk.start, chunk.start + chunk.n_rows)
        actual.append(data.target[at][own])
        groups.extend(data.bulk.group[at][own].tolist())
        strategies.append(place[data.bulk.strategy[at][own]])
    return np.concatenate(predicted), np.concatenate(actual), groups, np.concatenate(strategies)
