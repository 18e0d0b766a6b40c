"""Runs of training, kept in MLflow: a local SQLite file, or a tracking server by URL.

MLflow is imported only when a run is recorded. Tracking never stops training: where it fails,
the policy is trained, saved and judged all the same, and what failed is said.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

EXPERIMENT: Final = "forethought"
_NOISY: Final = ("mlflow", "alembic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """Where a run was recorded, or why not (then ``run_id`` is None)."""

    url: str
    run_id: str | None
    failure: str | None = None


def local_url(data_dir: Path) -> str:
    """The default: a file in the data folder. Look at it with ``mlflow ui``."""
    return f"sqlite:///{(data_dir / 'mlflow.db').absolute()}"


def track(
    *,
    data_dir: Path,
    url: str | None,
    name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
    tags: Mapping[str, str],
    bundle: Path,
) -> Tracked:
    """Record one run.

    Args:
        data_dir: Where the local database and its artefacts are.
        url: A tracking server or database; None: the local one.
        name: What the run is called.
        params: What it was given; nested mappings become dotted names.
        metrics: What came out; likewise. Values that are no finite numbers are left out.
        tags: Such as the data's fingerprint.
        bundle: The folder that becomes the artefact ``bundle``.
    """
    where = url or local_url(data_dir)
    try:
        with _quiet():
            run_id = _record(where, None if url else data_dir, name, params, metrics, tags, bundle)
    except ImportError:
        return Tracked(url=where, run_id=None, failure="MLflow is not installed")
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises, the policy is trained
        first = next(iter(str(error).splitlines()), "")
        return Tracked(url=where, run_id=None, failure=f"{type(error).__name__}: {first}")
    return Tracked(url=where, run_id=run_id)


def _record(
    url: str,
    local: Path | None,
    name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
    tags: Mapping[str, str],
    bundle: Path,
) -> str:
    from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415 - seconds to import
    from mlflow.tracking import MlflowClient  # noqa: PLC0415 - likewise

    # Importing MLflow sets its own log levels.
    for logger in _NOISY:
        logging.getLogger(logger).setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=url)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        experiment_id = experiment.experiment_id
    else:
        artefacts = None if local is None else (local / "mlruns").absolute().as_uri()
        experiment_id = client.create_experiment(EXPERIMENT, artifact_location=artefacts)
    run = client.create_run(experiment_id, run_name=name)
    run_id: str = run.info.run_id
    status = "FAILED"
    try:
        now_ms = int(run.info.start_time)
        client.log_batch(
            run_id,
            metrics=[
                Metric(key, float(value), now_ms, 0)
                for key, value in _flat(metrics)
                if isinstance(value, int | float) and math.isfinite(value)
            ],
            params=[Param(key, str(value)) for key, value in _flat(params)],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        client.log_artifacts(run_id, str(bundle), "bundle")
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    return run_id


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        # MLflow allows letters, digits, and "_-./ :" in names.
        key = prefix + "".join(c if c.isalnum() or c in "_-./: " else "_" for c in name)
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines, and nothing sent to anyone but the tracking server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
