"""Recorded outcomes: every strategy's answer to every query, as ``bench.record`` writes them.

They need no propensities: where all strategies were tried, nothing has to be weighted.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forethought.models.features import DECISION_FEATURES, strategy_features
from forethought.router.records import Usage
from forethought.training.dataset import Dataset, is_held_out
from forethought.training.errors import TrainingError

_KNOWN: Final = frozenset(feature.name for feature in DECISION_FEATURES)
_REMEDY: Final = "Record it anew with `python -m bench.record`, or remove the line."

Count = Annotated[int, Field(ge=0)]


class RecordedRow(BaseModel):
    """One line of the file; further fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    context_id: str
    query_id: str
    strategy: str
    features: dict[str, float | None]
    quality: Annotated[float, Field(ge=0, le=1)] | None
    output_tokens: Count
    input_tokens: Count = 0
    cached_tokens: Count = 0
    latency_ms: Annotated[float, Field(ge=0)]
    model: str
    split: Literal["train", "validation", "test", "held_out"] | None = None


def read_recorded(path: Path) -> Dataset:
    """Read a JSONL file, one row per (context, query, strategy).

    Lines whose ``kind`` is not ``answer`` (what sleep cost) are left out and counted. Rows of
    the split ``train`` are fitted on, all others held out; without splits, a hash of the
    context's id decides.

    Raises:
        TrainingError: The file cannot be read, or a line is wrong; it names line and field.
    """
    rows: list[RecordedRow] = []
    left_out: Counter[str] = Counter()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise TrainingError(
            f"The recorded outcomes {path} cannot be read: {reason}.", param=str(path)
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parse(line, path, number)
        if isinstance(row, str):
            left_out[row] += 1
        else:
            rows.append(row)
    if not rows:
        raise TrainingError(
            f"The file {path} holds no recorded outcomes.",
            param=str(path),
            remedy="Record some with `python -m bench.record`.",
        )
    # The name alone: a bundle's notes travel, and folders are nobody else's business.
    return _dataset(rows, dict(left_out), source=path.name)


def _parse(line: str, path: Path, number: int) -> RecordedRow | str:
    try:
        value: Any = json.loads(line)
        if isinstance(value, dict) and value.get("kind", "answer") != "answer":
            return f"lines of kind {value['kind']}"
        row = RecordedRow.model_validate(value)
        strategy_features(row.strategy)
        unknown = sorted(set(row.features) - _KNOWN)
        if unknown:
            raise _wrong(path, number, f"features: unknown {unknown[0]!r}")
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "line"
        raise _wrong(path, number, f"{field}: {first['msg']}") from error
    except ValueError as error:  # not JSON, or an unknown strategy
        raise _wrong(path, number, str(error)) from error
    return row


def _wrong(path: Path, number: int, what: str) -> TrainingError:
    return TrainingError(f"Line {number} of {path}: {what}.", param=str(path), remedy=_REMEDY)


def _dataset(rows: list[RecordedRow], left_out: dict[str, int], *, source: str) -> Dataset:
    n = len(rows)
    groups = [row.context_id for row in rows]
    by_hash = all(row.split in {None, "train"} for row in rows)
    held_out = [is_held_out(row.context_id) if by_hash else row.split != "train" for row in rows]
    sides: dict[str, bool] = {}
    for group, side in zip(groups, held_out, strict=True):
        if sides.setdefault(group, side) != side:
            raise TrainingError(
                f"Context {group!r} of {source} is in two splits.", param=source, remedy=_REMEDY
            )
    names = tuple(sorted({row.strategy for row in rows}))
    return Dataset(
        source=source,
        rows=[
            {name: math.nan if v is None else v for name, v in row.features.items()} for row in rows
        ],
        strategies=[row.strategy for row in rows],
        quality=np.array([math.nan if r.quality is None else r.quality for r in rows]),
        judged_by=["" if row.quality is None else "grader" for row in rows],
        output_tokens=np.array([float(row.output_tokens) for row in rows]),
        latency_ms=np.array([row.latency_ms for row in rows]),
        cost_usd=np.full(n, math.nan),
        propensity=np.full(n, math.nan),
        candidate_names=names,
        candidate_propensities=np.full((n, len(names)), math.nan),
        groups=groups,
        queries=[f"{row.context_id}/{row.query_id}" for row in rows],
        models=[row.model for row in rows],
        usages=[
            Usage(
                input_tokens=row.input_tokens,
                cached_tokens=row.cached_tokens,
                output_tokens=row.output_tokens,
            )
            for row in rows
        ],
        created_at=np.zeros(n),
        held_out=np.array(held_out, dtype=bool),
        left_out=left_out,
    )
