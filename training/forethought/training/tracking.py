"""Runs of training, kept in MLflow: a local SQLite file, or a tracking server by URL.

A run has its parameters, figures, plots, the data's fingerprint, and the bundle as artefact,
which MLflow's model registry lists as a version of ``forethought-policy``; the aliases
``champion`` and ``challenger`` follow our own registry. Nothing is pickled: what comes back from
MLflow is a bundle, verified as any other.

MLflow is imported only when it is used. Tracking never stops training: where it fails, the policy
is trained, saved and judged all the same, and what failed is said.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from forethought.models.bundle import PolicyBundle
from forethought.training.errors import TrainingError

EXPERIMENT: Final = "forethought"
MODEL: Final = "forethought-policy"
"""What the policies are called in MLflow's model registry."""

VERSION_TAG: Final = "policy_version"
_BUNDLE: Final = "bundle"
_KIND: Final = {"mlflow.experimentKind": "custom_model_development"}
"""What MLflow calls an experiment that trains models; unnamed, its page guesses."""
_NOISY: Final = ("mlflow", "alembic")

Alias = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """Where a run was recorded, or why not (then ``run_id`` is None)."""

    url: str
    run_id: str | None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run.

    Attributes:
        version: The policy's, which the run is called.
        params: What it was given; nested mappings become dotted names.
        metrics: What came out; likewise. Values that are no finite numbers are left out.
        tags: Such as the data's fingerprint.
        data: Name and digest of the data.
        bundle: The folder that becomes the artefact ``bundle``.
        plots: Figures (of matplotlib) by file name.
        alias: What the policy is from now on, if anything.
    """

    version: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    tags: Mapping[str, str]
    data: tuple[str, str]
    bundle: Path
    plots: Mapping[str, Any] = field(default_factory=dict)
    alias: Alias | None = None


def local_url(data_dir: Path) -> str:
    """The default: a file in the data folder. Look at it with ``mlflow ui``."""
    return f"sqlite:///{(data_dir / 'mlflow.db').absolute()}"


def track(record: Record, *, data_dir: Path, url: str | None) -> Tracked:
    """Record one run.

    Args:
        record: What is recorded.
        data_dir: Where the local database and its artefacts are.
        url: A tracking server or database; None: the local one.
    """
    where = url or local_url(data_dir)
    try:
        with _client(where) as client:
            run_id = _record(client, None if url else data_dir, record)
    except ImportError:
        return Tracked(url=where, run_id=None, failure="MLflow is not installed")
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises, the policy is trained
        return Tracked(url=where, run_id=None, failure=_first_line(error))
    return Tracked(url=where, run_id=run_id)


def set_alias(alias: Alias, version: str | None, *, data_dir: Path, url: str | None) -> str | None:
    """Let an alias of MLflow's registry name a policy (None: none); says what failed, if anything.

    A policy that MLflow does not know, such as the one that ships, leaves the alias unset.
    """
    if url is None and not (data_dir / "mlflow.db").exists():
        return None  # nothing was ever tracked here
    try:
        with _client(url or local_url(data_dir)) as client:
            _point(client, alias, version)
    except ImportError:
        return "MLflow is not installed"
    except Exception as error:  # noqa: BLE001 - the policy serves, whatever MLflow raises
        return _first_line(error)
    return None


def fetch_bundle(alias: str, *, data_dir: Path, url: str | None) -> PolicyBundle:
    """The bundle that an alias (or a policy's version) names in MLflow's registry, verified.

    Raises:
        TrainingError: MLflow cannot be asked, or knows no such policy.
        BundleError: A file of the bundle was changed.
    """
    where = url or local_url(data_dir)
    with tempfile.TemporaryDirectory(prefix="forethought-") as folder:
        try:
            with _client(where) as client:
                found = _registered(client, alias)
                run_id = None if found is None else found.run_id
                path = run_id and client.download_artifacts(run_id, _BUNDLE, folder)
        except Exception as error:
            raise TrainingError(
                f"The policy {alias!r} cannot be read from MLflow at {where}: "
                f"{_first_line(error)}.",
                param="version",
                remedy="Name the server that has it with --mlflow.",
            ) from error
        if not path:
            raise TrainingError(
                f"MLflow at {where} has no {MODEL} called {alias!r}.",
                param="version",
                remedy="Train one with --mlflow set to the same server.",
            )
        return PolicyBundle.load(Path(path))


def _record(client: Any, local: Path | None, record: Record) -> str:
    from mlflow.entities import (  # noqa: PLC0415 - seconds to import
        Dataset,
        DatasetInput,
        Metric,
        Param,
        RunTag,
    )

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        experiment_id = experiment.experiment_id
    else:
        artefacts = None if local is None else (local / "mlruns").absolute().as_uri()
        experiment_id = client.create_experiment(
            EXPERIMENT, artifact_location=artefacts, tags=_KIND
        )
    run = client.create_run(experiment_id, run_name=record.version)
    run_id: str = run.info.run_id
    status = "FAILED"
    try:
        now_ms = int(run.info.start_time)
        client.log_batch(
            run_id,
            metrics=[
                Metric(key, float(value), now_ms, 0)
                for key, value in _flat(record.metrics)
                if isinstance(value, int | float) and math.isfinite(value)
            ],
            params=[Param(key, str(value)) for key, value in _flat(record.params)],
            tags=[RunTag(key, value) for key, value in record.tags.items()],
        )
        name, digest = record.data
        used = Dataset(name=name, digest=digest, source_type="forethought", source=name)
        client.log_inputs(run_id, [DatasetInput(used)])
        client.log_artifacts(run_id, str(record.bundle), _BUNDLE)
        for file, figure in record.plots.items():
            client.log_figure(run_id, figure, f"plots/{file}")
        _register(client, run, record.version)
        if record.alias is not None:
            _point(client, record.alias, record.version)
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    return run_id


def _register(client: Any, run: Any, version: str) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - seconds to import

    try:
        client.get_registered_model(MODEL)
    except MlflowException:
        client.create_registered_model(MODEL)
    client.create_model_version(
        MODEL,
        source=f"{run.info.artifact_uri}/{_BUNDLE}",
        run_id=run.info.run_id,
        tags={VERSION_TAG: version},
    )


def _point(client: Any, alias: Alias, version: str | None) -> None:
    found = None if version is None else _registered(client, version)
    if found is not None:
        client.set_registered_model_alias(MODEL, alias, found.version)
        other = "challenger" if alias == "champion" else "champion"
        if other in (found.aliases or []):
            client.delete_registered_model_alias(MODEL, other)
    elif any(alias in (one.aliases or []) for one in _versions(client)):
        client.delete_registered_model_alias(MODEL, alias)


def _registered(client: Any, name: str) -> Any:
    """The newest registered version with this alias, or of this policy; None if there is none."""
    found = [
        one
        for one in _versions(client)
        if name in (one.aliases or []) or one.tags.get(VERSION_TAG) == name
    ]
    return max(found, key=lambda one: int(one.version), default=None)


def _versions(client: Any) -> list[Any]:
    # The search lists no aliases: each version is asked for.
    found = client.search_model_versions(f"name='{MODEL}'")
    return [client.get_model_version(MODEL, one.version) for one in found]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        # MLflow allows letters, digits, and "_-./ :" in names.
        key = prefix + "".join(c if c.isalnum() or c in "_-./: " else "_" for c in name)
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


@contextmanager
def _client(url: str) -> Iterator[Any]:
    """MLflow's client. No log lines, and nothing sent to anyone but the tracking server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - seconds to import

        for logger in loggers:  # importing MLflow sets its own
            logger.setLevel(logging.WARNING)
        yield MlflowClient(tracking_uri=url, registry_uri=url)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
