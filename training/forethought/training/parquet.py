"""The log as Parquet: one folder a day, a schema with a version, without texts unless asked for.

``FOLDER/day=2026-11-25/part-0.parquet``: decisions joined with their outcomes, their feedback and
the signs of what followed (``signals``), which are computed while the queries' texts are at hand.
Features are columns ``feature.NAME``; a feature that a decision does not have is null, one that
does not apply is NaN. Times are Unix seconds (UTC), money is USD.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from forethought.models.features import DECISION_FEATURES, FEATURE_VERSION
from forethought.router.records import (
    Candidate,
    Decision,
    Feedback,
    LoggedDecision,
    Outcome,
    Usage,
)
from forethought.training.errors import TrainingError
from forethought.training.signals import Signed, Signs

SCHEMA_VERSION: Final = "1"
"""Changes whenever a column is removed, renamed or means something else."""

FEATURE: Final = "feature."
"""What the names of feature columns begin with."""

_VERSION_KEY: Final = b"forethought.schema"
_REDACTED_KEY: Final = b"forethought.redacted"
_ROWS: Final = 20_000
"""Decisions written, or read, at a time: some 50 MB."""

_TEXT: Final = pa.string()
_REAL: Final = pa.float64()
_CANDIDATE: Final = pa.struct(
    [
        (name, _TEXT if name in {"strategy", "excluded"} else _REAL)
        for name in Candidate.__dataclass_fields__
    ]
)
_FEEDBACK: Final = pa.struct(
    [("id", _TEXT), ("created_at", _REAL), ("quality", _REAL), ("source", _TEXT),
     ("comment", _TEXT)]
)  # fmt: skip
_USAGE: Final = tuple(Usage.__dataclass_fields__)
_SIGNS: Final = tuple(Signs.__dataclass_fields__)
_DECISION: Final[Mapping[str, Any]] = {
    "id": _TEXT, "created_at": _REAL, "tenant": _TEXT, "context_id": _TEXT,
    "learned_context_id": _TEXT, "query": _TEXT, "model": _TEXT, "strategy": _TEXT,
    "propensity": _REAL, "mode": _TEXT, "policy_version": _TEXT, "feature_version": _TEXT,
    "predictability": _REAL, "expected_queries": _REAL,
}  # fmt: skip
_OUTCOME: Final[Mapping[str, Any]] = {
    "status": _TEXT, "http_status": pa.int32(), "cost_usd": _REAL, "latency_ms": _REAL,
    "ttft_ms": _REAL, "finish_reason": _TEXT, "error": _TEXT, "finished_at": _REAL,
    "service_tier": _TEXT, "answer": _TEXT, "calls": pa.int32(), "model": _TEXT,
}  # fmt: skip
_TEXTS: Final = frozenset({"query", "error", "answer"})
"""Columns that may hold what users or models wrote: null unless asked for."""


@dataclass(slots=True)
class Exported:
    """What was written, and how many decisions a day."""

    folder: Path
    redacted: bool
    days: dict[str, int] = field(default_factory=dict)

    @property
    def n_decisions(self) -> int:
        return sum(self.days.values())


def write_parquet(pairs: Iterable[Signed], folder: Path, *, with_text: bool = False) -> Exported:
    """Write decisions in time order, day by day (UTC).

    A day that is there is replaced as a whole: exporting it again brings in what was judged late.

    Args:
        pairs: Of ``signals.with_signs``, whole days.
        folder: Where the days' folders are made.
        with_text: Whether queries, answers, errors and comments are written too.

    Raises:
        TrainingError: The folder cannot be written.
    """
    done = Exported(folder, redacted=not with_text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for day, of_day in groupby(pairs, key=lambda pair: day_of(pair[0].decision.created_at)):
            done.days[day] = _write_day(of_day, folder, day, with_text=with_text)
    except OSError as error:
        raise TrainingError(
            f"The folder {folder} cannot be written ({error.strerror or error}).",
            param=str(folder),
            remedy="Name another folder, or free some space.",
        ) from error
    return done


def read_parquet(path: Path) -> Iterator[Signed]:
    """The decisions of an export (a folder, or one file) in time order, with their signs.

    Raises:
        TrainingError: There is none, or it is of another schema.
    """
    for file in parquet_files(path):
        parquet = pq.ParquetFile(file)
        features = [n for n in parquet.schema_arrow.names if n.startswith(FEATURE)]
        for batch in parquet.iter_batches(_ROWS):
            yield from _pairs(batch, features)


def parquet_files(path: Path) -> list[Path]:
    """The files of an export, in time order, their schema checked."""
    files = [path] if path.is_file() else sorted(path.glob("day=*/part-*.parquet"))
    if not files:
        raise TrainingError(
            f"There is no export at {path}.",
            param=str(path),
            remedy="Make one with `forethought export FOLDER`.",
        )
    for file in files:
        try:
            found = (pq.read_schema(file).metadata or {}).get(_VERSION_KEY, b"none").decode()
        except (pa.ArrowException, OSError) as error:
            raise TrainingError(
                f"{file} is not a Parquet file that can be read ({error}).", param=str(file)
            ) from error
        if found != SCHEMA_VERSION:
            raise TrainingError(
                f"{file} has schema {found}, but this version reads {SCHEMA_VERSION}.",
                param=str(file),
                remedy="Export the log again with this version.",
            )
    return files


def scan(path: Path) -> pads.Dataset:
    """An export as a pyarrow dataset, for reading some columns of more rows than fit in memory."""
    files = [str(file) for file in parquet_files(path)]
    schema = pa.unify_schemas([pq.read_schema(file).remove_metadata() for file in files])
    return pads.dataset(files, schema=schema, format="parquet")


def empty_schema(features: Sequence[str]) -> pa.Schema:
    """The schema of a redacted export with these features."""
    return _schema(features, redacted=True)


def day_of(at: float) -> str:
    """The day (UTC) of a time."""
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d")


def _write_day(pairs: Iterable[Signed], folder: Path, day: str, *, with_text: bool) -> int:
    target, staged = folder / f"day={day}", folder / f".day={day}.new"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    writer: pq.ParquetWriter | None = None
    names: list[str] = []
    n = parts = 0
    try:
        for chunk in _chunks(pairs):
            own = _feature_names(chunk)
            if writer is None or not set(own) <= set(names):
                if writer is not None:
                    writer.close()
                names = own
                schema = _schema(names, redacted=not with_text)
                writer = pq.ParquetWriter(
                    staged / f"part-{parts}.parquet", schema, compression="zstd"
                )
                parts += 1
            writer.write_table(_table(chunk, names, writer.schema, with_text=with_text))
            n += len(chunk)
    finally:
        if writer is not None:
            writer.close()
    old = folder / f".day={day}.old"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    staged.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return n


def _chunks(pairs: Iterable[Signed]) -> Iterator[list[Signed]]:
    chunk: list[Signed] = []
    for pair in pairs:
        chunk.append(pair)
        if len(chunk) == _ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _feature_names(chunk: Sequence[Signed]) -> list[str]:
    """Those of this version always, so that days have equal columns; and what else there is."""
    names = {feature.name: None for feature in DECISION_FEATURES}
    others = {logged.decision.feature_version for logged, _ in chunk} - {FEATURE_VERSION}
    if others:
        for logged, _ in chunk:
            names.update(dict.fromkeys(logged.decision.features))
    return list(names)


def _schema(names: Sequence[str], *, redacted: bool) -> pa.Schema:
    signs = {n: pa.bool_() if n == "abandoned" else _REAL for n in _SIGNS}
    return pa.schema(
        [
            *_DECISION.items(),
            ("candidates", pa.list_(_CANDIDATE)),
            *((f"outcome.{name}", kind) for name, kind in _OUTCOME.items()),
            *((f"usage.{name}", pa.int64()) for name in _USAGE),
            ("feedback", pa.list_(_FEEDBACK)),
            *((f"sign.{name}", kind) for name, kind in signs.items()),
            *((FEATURE + name, _REAL) for name in names),
        ],
        metadata={
            _VERSION_KEY: SCHEMA_VERSION.encode(),
            _REDACTED_KEY: str(redacted).lower().encode(),
        },
    )


def _table(
    chunk: Sequence[Signed], names: Sequence[str], schema: pa.Schema, *, with_text: bool
) -> pa.Table:
    decisions = [logged.decision for logged, _ in chunk]
    outcomes = [logged.outcome for logged, _ in chunk]
    columns: dict[str, list[Any]] = {
        name: [getattr(decision, name) for decision in decisions] for name in _DECISION
    }
    for name in _OUTCOME:
        columns[f"outcome.{name}"] = [None if o is None else getattr(o, name) for o in outcomes]
    for name in _USAGE:
        columns[f"usage.{name}"] = [None if o is None else getattr(o.usage, name) for o in outcomes]
    for name in _SIGNS:
        columns[f"sign.{name}"] = [getattr(signs, name) for _, signs in chunk]
    for name in names:
        columns[FEATURE + name] = [d.features.get(name) for d in decisions]
    columns["candidates"] = [
        [{name: getattr(c, name) for name in _CANDIDATE.names} for c in d.candidates]
        for d in decisions
    ]
    columns["feedback"] = [
        [{**{name: getattr(f, name) for name in _FEEDBACK.names},
          **({} if with_text else {"comment": None})} for f in logged.feedback]
        for logged, _ in chunk
    ]  # fmt: skip
    if not with_text:
        for name in columns:
            if name.removeprefix("outcome.") in _TEXTS:
                columns[name] = [None] * len(chunk)
    return pa.Table.from_pydict(
        {name: pa.array(columns[name], kind) for name, kind in _types(schema)}, schema=schema
    )


def _types(schema: pa.Schema) -> list[tuple[str, Any]]:
    return list(zip(schema.names, schema.types, strict=True))


def _pairs(batch: pa.RecordBatch, features: Sequence[str]) -> Iterator[Signed]:
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    # An export from before there were fallbacks has no column for them.
    outcome_fields = [name for name in _OUTCOME if f"outcome.{name}" in columns]
    short = [(name, name.removeprefix(FEATURE)) for name in features]
    for i in range(batch.num_rows):
        values = {name: columns[name][i] for name in _DECISION}
        decision = Decision(
            **{**values, "query": values["query"] or ""},
            features={own: v for name, own in short if (v := columns[name][i]) is not None},
            candidates=tuple(Candidate(**c) for c in columns["candidates"][i]),
            reason="",
        )
        outcome = None
        if columns["outcome.status"][i] is not None:
            outcome = Outcome(
                decision_id=decision.id,
                usage=Usage(**{name: columns[f"usage.{name}"][i] for name in _USAGE}),
                **{name: columns[f"outcome.{name}"][i] for name in outcome_fields},
            )
        given = tuple(Feedback(decision_id=decision.id, **f) for f in columns["feedback"][i])
        yield (
            LoggedDecision(
                decision=decision,
                outcome=outcome,
                quality=given[-1].quality if given else None,
                feedback=given,
            ),
            Signs(**{name: columns[f"sign.{name}"][i] for name in _SIGNS}),
        )
