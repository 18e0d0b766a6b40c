"""An export of any size: the same labels as in memory, and the same trees wherever they grow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forethought.models.bundle import PolicyBundle
from forethought.models.demand import DemandModel
from forethought.models.features import matrix
from forethought.router.errors import ConfigError
from forethought.training.bulk import Bulk, chunk_matrix, read_bulk
from forethought.training.dataset import from_signed
from forethought.training.engines import Engine, fit_bulk, on_dask, out_of_core
from forethought.training.errors import TrainingError
from forethought.training.fit import measure
from forethought.training.large import fit_large
from forethought.training.parquet import read_parquet, write_parquet
from forethought.training.signals import Signs, Weights
from forethought.training.sources import Source
from tests.training.synthetic import make_log


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7,200 decisions of two days, some judged by signs alone or by nobody."""
    folder = tmp_path_factory.mktemp("export")
    log = make_log(1800, seed=5)
    pairs = []
    for n, one in enumerate(log):
        decision = replace(one.decision, created_at=one.decision.created_at + 86_400 * (n > 3000))
        seen = Signs(retried_after_s=3.0) if n % 50 == 0 else Signs()
        unjudged = n % 25 == 0
        kept = replace(one, quality=None, feedback=()) if unjudged else one
        if n % 40 == 7 and kept.outcome is not None:
            kept = replace(kept, outcome=replace(kept.outcome, model="a fallback"))
        pairs.append((replace(kept, decision=decision), seen))
    write_parquet(pairs, folder)
    return folder


@pytest.fixture(scope="module")
def bulk(export: Path) -> Bulk:
    return read_bulk(export, Weights())


def _fit(bulk: Bulk, engine: Engine) -> PolicyBundle:
    return fit_bulk(
        bulk, engine=engine, seed=0, threads=1, demand=DemandModel(), say=lambda _: None, rounds=30
    )


def test_the_labels_and_sides_are_those_that_are_read_into_memory(export: Path, bulk: Bulk) -> None:
    held = from_signed(read_parquet(export), source="x", weights=Weights())
    np.testing.assert_allclose(bulk.quality[bulk.usable], held.quality)
    np.testing.assert_array_equal(bulk.tokens[bulk.usable], held.output_tokens)
    np.testing.assert_array_equal(bulk.latency_ms[bulk.usable], held.latency_ms)
    np.testing.assert_array_equal(bulk.held_out[bulk.usable], held.held_out)
    assert len(np.unique(bulk.group)) == held.n_contexts
    inputs = np.concatenate([chunk_matrix(c.file, c.row_group) for c in bulk.chunks])
    np.testing.assert_allclose(
        inputs[bulk.usable], matrix(held.rows, held.strategies), rtol=1e-6, equal_nan=True
    )


def test_out_of_core_learns_what_is_there_to_learn(export: Path, bulk: Bulk) -> None:
    fitted = _fit(bulk, out_of_core)
    held = from_signed(read_parquet(export), source="x")
    row = held.test.rows[0]
    found = fitted.outcome.predict(matrix([row, row], ["direct", "learned:low"]))
    assert found.quality[0] == pytest.approx(0.1, abs=0.1)
    assert found.quality[1] == pytest.approx(0.95, abs=0.1)
    assert found.tokens == pytest.approx([120, 12], rel=0.2)
    assert _fit(bulk, out_of_core).version == fitted.version


def test_an_engine_wants_an_export_and_enough_of_it(tmp_path: Path) -> None:
    source = Source(data_dir=tmp_path)
    given = {
        "scheduler": None,
        "seed": 0,
        "threads": 1,
        "demand": DemandModel(),
        "say": lambda _: None,
    }
    with pytest.raises(ConfigError, match="reads an export"):
        fit_large(source, engine="stream", **given)  # type: ignore[arg-type]
    write_parquet([(one, Signs()) for one in make_log(20, seed=1)], tmp_path / "few")
    source = replace(source, origin=tmp_path / "few")
    with pytest.raises(TrainingError, match="rows are too few"):
        fit_large(source, engine="stream", **given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="No Dask scheduler"):
        fit_large(source, engine="dask", **given)  # type: ignore[arg-type]


@pytest.fixture
def cluster() -> Iterator[str]:
    """Two workers, each a process of its own."""
    distributed: Any = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        memory_limit="1GiB",
    ) as found:  # fmt: skip
        yield str(found.scheduler_address)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")
def test_two_dask_workers_grow_the_same_trees_within_tolerance(
    export: Path, bulk: Bulk, cluster: str
) -> None:
    one, two = _fit(bulk, out_of_core), _fit(bulk, on_dask(cluster))
    held = from_signed(read_parquet(export), source="x")
    inputs = matrix(held.test.rows, held.test.strategies)
    # Fifty features of noise: which of them a late tree splits depends on the bins' ends.
    first, second = (measure(held.test, f.outcome, f.predictability) for f in (one, two))
    assert first["quality"]["brier"] == pytest.approx(second["quality"]["brier"], abs=0.005)
    for head in ("tokens", "latency_ms"):
        assert first[head]["mae_log"] == pytest.approx(second[head]["mae_log"], abs=0.02)
    difference = one.outcome.predict(inputs).quality - two.outcome.predict(inputs).quality
    assert np.abs(difference).mean() < 0.05
