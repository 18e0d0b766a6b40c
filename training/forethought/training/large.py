"""Train on an export that does not fit in memory: fit by an engine, judge on a sample."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final, Literal

from forethought.models.bundle import PolicyBundle
from forethought.models.demand import DemandModel
from forethought.router.errors import ConfigError
from forethought.training.bulk import read_bulk
from forethought.training.dataset import Dataset, from_signed, is_held_out
from forethought.training.drift import reference
from forethought.training.engines import Engine, fit_bulk, on_dask, out_of_core
from forethought.training.fit import measure
from forethought.training.parquet import read_parquet
from forethought.training.sources import STORE, Source, is_export

EngineName = Literal["memory", "stream", "dask"]

JUDGED: Final = 20_000
"""The first held-out decisions, on which a policy is judged: some 6 kB of memory each."""


def fit_large(
    source: Source,
    *,
    engine: EngineName,
    scheduler: str | None,
    seed: int,
    threads: int,
    demand: DemandModel,
    say: Callable[[str], None],
) -> tuple[Dataset, PolicyBundle]:
    """The policy, and the held-out decisions to judge it by. Nothing that served is started from.

    Raises:
        ConfigError: The source is no export, or a scheduler is missing.
        TrainingError: There is too little data for it.
    """
    path = source.origin
    if path is None or path == STORE or not is_export(path):
        raise ConfigError(
            f"The engine {engine} reads an export.",
            param="engine",
            remedy="Make one with `forethought export FOLDER`, then train --from FOLDER.",
        )
    if source.split != "context":
        raise ConfigError(
            f"The engine {engine} holds contexts out by their id alone.",
            param="split",
            remedy="Leave --split out, or use --engine memory.",
        )
    say("reading the labels")
    bulk = read_bulk(path, source.weights)
    bundle = fit_bulk(
        bulk, engine=_engine(engine, scheduler), seed=seed, threads=threads,
        demand=demand, say=say,
    )  # fmt: skip
    say("reading held-out decisions")
    pairs = (
        pair
        for pair in read_parquet(path)
        if is_held_out(pair[0].decision.context_id or f"decision:{pair[0].decision.id}")
    )
    test = from_signed(islice(pairs, JUDGED), source=path.name)
    info = dict(bundle.manifest["info"])
    info["held_out"] = {"fitted": measure(test, bundle.outcome, bundle.predictability)}
    info["engine"] = engine
    # Of held-out contexts: the same traffic, and at hand.
    info["reference"] = reference(test.rows, test.groups)
    return test, PolicyBundle.build(
        predictability=bundle.predictability,
        outcome=bundle.outcome,
        demand=bundle.demand,
        info=info,
    )


def _engine(name: EngineName, scheduler: str | None) -> Engine:
    if name != "dask":
        return out_of_core
    if scheduler is None:
        raise ConfigError(
            "No Dask scheduler was named.",
            param="scheduler",
            remedy="Give its address, such as --scheduler tcp://host:8786.",
        )
    return on_dask(scheduler)
