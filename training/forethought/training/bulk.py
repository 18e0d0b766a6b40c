"""An export with more decisions than fit in memory: its labels in arrays, its features by chunks.

What a decision needs beside its features (label, side, context) is some 60 bytes and is held;
features are read from Parquet a row group at a time, whenever they are needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from forethought.models.feature_table import (
    ARTEFACT_FEATURES,
    DECISION_FEATURES,
    FEATURE_NAMES,
    FEATURE_VERSION,
    LEARNABLE_VERSIONS,
    STRATEGY_FEATURES,
)
from forethought.models.features import strategy_features
from forethought.training.dataset import Flags, Floats, is_held_out
from forethought.training.errors import TrainingError
from forethought.training.parquet import FEATURE, parquet_files
from forethought.training.signals import SIGN_QUALITY, Weights

pc: Any = pyarrow.compute  # its functions are made when it is imported, so no checker sees them

Codes = NDArray[np.int64]
Matrix = NDArray[np.float32]

CALIBRATION_SHARE: Final = 0.2
"""Of the training contexts, kept from the boosting to calibrate on."""

_COLUMNS: Final = (
    "id", "context_id", "created_at", "strategy", "feature_version", "feedback", "outcome.status",
    "outcome.model", "outcome.latency_ms", "usage.output_tokens", "sign.retried_after_s",
    "sign.rephrased_after_s", "sign.continued_after_s", "sign.abandoned",
)  # fmt: skip
_SIGN_COLUMNS: Final = {
    "retry": "sign.retried_after_s",
    "rephrase": "sign.rephrased_after_s",
    "continue": "sign.continued_after_s",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One row group of one file; its rows begin at ``start`` of the whole export."""

    file: str
    row_group: int
    start: int
    n_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """n decisions, all arrays of shape (n,).

    ``usable``: rows with features of this version and an answer. ``quality`` is NaN where nothing
    speaks for or against; ``explicit`` says whether it was judged. ``to_calibrate``: of the rows
    that are not held out, those that calibrate.
    """

    path: Path
    chunks: tuple[Chunk, ...]
    strategies: tuple[str, ...]
    strategy: Codes
    group: Codes
    created_at: Floats
    usable: Flags
    quality: Floats
    explicit: Flags
    tokens: Floats
    latency_ms: Floats
    held_out: Flags
    to_calibrate: Flags
    fingerprint: str

    def __len__(self) -> int:
        return len(self.strategy)

    @property
    def train(self) -> Flags:
        return self.usable & ~self.held_out

    def parts(self, rows: Flags) -> Iterator[tuple[Chunk, Flags]]:
        """Each chunk that has any of ``rows``, with which of its own they are."""
        for chunk in self.chunks:
            own = rows[chunk.start : chunk.start + chunk.n_rows]
            if own.any():
                yield chunk, own


def read_bulk(path: Path, weights: Weights) -> Bulk:
    """Read the labels of an export, in two passes over a few columns; contexts' sides by their id.

    Raises:
        TrainingError: There is no export, or it has nothing to learn from.
    """
    chunks: list[Chunk] = []
    tables: list[pa.Table] = []
    start = 0
    for file in parquet_files(path):
        parquet = pq.ParquetFile(file)
        for number in range(parquet.num_row_groups):
            n = parquet.metadata.row_group(number).num_rows
            chunks.append(Chunk(str(file), number, start, n))
            start += n
        tables.append(parquet.read(columns=list(_COLUMNS)))
    # An export from before there were fallbacks has no column for them.
    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    del tables
    group, ids = _encoded(_contexts(table))
    strategy, names = _encoded(table["strategy"])
    ok = _flags(pc.equal(table["outcome.status"], "ok"))
    known = np.array([_is_known(name) for name in names])[strategy]
    quality, explicit, implied = _quality(table, weights)
    current = _flags(pc.is_in(table["feature_version"], pa.array(LEARNABLE_VERSIONS)))
    left = _flags(table["sign.abandoned"])
    usable = current & known & (ok | (left & (explicit | implied)))
    if "outcome.model" in table.schema.names:
        usable &= _flags(pc.is_null(table["outcome.model"]))  # no fallback answered
    if not usable.any():
        raise TrainingError(
            f"The export {path} has no decision to learn from.",
            param=str(path),
            remedy="Serve some traffic first, and give feedback on it.",
        )
    held_out = np.array([is_held_out(name) for name in ids])[group]
    calibrates = np.array([_second(name) < CALIBRATION_SHARE for name in ids])[group]
    tokens = np.where(ok, _floats(table["usage.output_tokens"]), np.nan)
    tokens[tokens == 0] = np.nan  # a reply without a usage block: unknown, not empty
    latency_ms = np.where(ok, _floats(table["outcome.latency_ms"]), np.nan)
    quality = _drawn_to_the_mean(quality, explicit, usable & ~held_out, weights, implied, table)
    digest = hashlib.sha256(FEATURE_VERSION.encode())
    for array in (quality, tokens, latency_ms, _floats(table["created_at"])):
        digest.update(np.ascontiguousarray(array).tobytes())
    return Bulk(
        path=path, chunks=tuple(chunks), strategies=tuple(names), strategy=strategy, group=group,
        created_at=_floats(table["created_at"]), usable=usable, quality=quality,
        explicit=explicit, tokens=tokens, latency_ms=latency_ms, held_out=held_out,
        to_calibrate=calibrates & ~held_out, fingerprint=digest.hexdigest()[:16],
    )  # fmt: skip


def chunk_matrix(file: str, row_group: int, kept: Flags | None = None) -> Matrix:
    """Model input of a row group's rows, as ``features.matrix`` gives it, in float32.

    Any process may call it that can read the file.
    """
    parquet = pq.ParquetFile(file)
    there = set(parquet.schema_arrow.names)
    wanted = [FEATURE + f.name for f in DECISION_FEATURES if FEATURE + f.name in there]
    table = parquet.read_row_group(row_group, columns=[*wanted, "strategy"])
    out = np.full((table.num_rows, len(FEATURE_NAMES)), np.nan, dtype=np.float32)
    place = {name: i for i, name in enumerate(FEATURE_NAMES)}
    for name in wanted:
        out[:, place[name.removeprefix(FEATURE)]] = _floats(table[name])
    strategy, names = _encoded(table["strategy"])
    own = np.array([_strategy_row(name) for name in names], dtype=np.float32)
    first = place[STRATEGY_FEATURES[0].name]
    out[:, first : first + len(STRATEGY_FEATURES)] = own[strategy]
    # What a strategy does not read cannot change its outcome, as in features.matrix.
    reads = own[strategy, [f.name for f in STRATEGY_FEATURES].index("strategy_uses_learned")]
    artefact = place[ARTEFACT_FEATURES[0].name]
    out[reads == 0, artefact : artefact + len(ARTEFACT_FEATURES)] = np.nan
    return out if kept is None else out[kept]


@lru_cache(maxsize=2)
def cached_matrix(file: str, row_group: int) -> Matrix:
    """The same for whole row groups, the last two kept: LightGBM reads row by row, in order."""
    return chunk_matrix(file, row_group)


def _contexts(table: pa.Table) -> Any:
    """A decision without a context is one of its own, as in ``dataset.from_signed``."""
    own = pc.binary_join_element_wise("decision", table["id"], ":")
    return pc.coalesce(table["context_id"], own)


def _quality(table: pa.Table, weights: Weights) -> tuple[Floats, Flags, Flags]:
    """Explicit quality (NaN for none), where it is, and where a sign stands in."""
    n = table.num_rows
    quality = np.full(n, np.nan)
    feedback = table["feedback"].combine_chunks()
    if isinstance(feedback, pa.ChunkedArray):
        feedback = feedback.chunk(0) if feedback.num_chunks else pa.array([], feedback.type)
    parent = np.asarray(pc.list_parent_indices(feedback), dtype=np.int64)
    flat = pc.list_flatten(feedback)
    if len(flat):
        source, names = _encoded(flat.field("source"))
        weight = np.array([weights.of(name) for name in names])[source]
        order = np.lexsort((np.arange(len(parent)), weight, parent))
        last = np.append(parent[order][1:] != parent[order][:-1], True)
        chosen = order[last & (weight[order] > 0)]
        quality[parent[chosen]] = _floats(flat.field("quality"))[chosen]
    explicit = ~np.isnan(quality)
    signs = _sign_weights(table, weights)
    implied = ~explicit & (np.max(list(signs.values()), axis=0) > 0)
    return quality, explicit, implied


def _sign_weights(table: pa.Table, weights: Weights) -> dict[str, Floats]:
    """The weight of each sign where it was seen, 0 elsewhere."""
    ok = _flags(pc.equal(table["outcome.status"], "ok"))
    abandoned = _flags(table["sign.abandoned"])
    found: dict[str, Floats] = {"abandon": weights.of("abandon") * abandoned.astype(np.float64)}
    for name, column in _SIGN_COLUMNS.items():
        seen = _flags(pc.is_valid(table[column])) & (ok | abandoned)
        found[name] = weights.of(name) * seen.astype(np.float64)
    return found


def _drawn_to_the_mean(
    quality: Floats,
    explicit: Flags,
    to_fit: Flags,
    weights: Weights,
    implied: Flags,
    table: pa.Table,
) -> Floats:
    base = float(quality[explicit & to_fit].mean()) if (explicit & to_fit).any() else 0.5
    signs = _sign_weights(table, weights)
    # The heaviest sign counts; of equals, the last by name, as in ``signals.label``.
    names = sorted(signs)
    every = np.stack([signs[name] for name in names])
    heaviest = len(names) - 1 - every[::-1].argmax(axis=0)
    weight = every[heaviest, np.arange(len(quality))]
    says = np.array([SIGN_QUALITY[name] for name in names])[heaviest]
    return np.where(implied, base + weight * (says - base), quality)


def _encoded(column: Any) -> tuple[Codes, list[str]]:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    encoded = array.dictionary_encode()
    return np.asarray(encoded.indices, dtype=np.int64), encoded.dictionary.to_pylist()


def _floats(column: Any) -> Floats:
    values = pc.cast(column, pa.float64())
    return np.asarray(pc.fill_null(values, float("nan")), dtype=np.float64)


def _flags(column: Any) -> Flags:
    return np.asarray(pc.fill_null(column, False), dtype=bool)


def _is_known(strategy: str) -> bool:
    try:
        strategy_features(strategy)
    except ValueError:
        return False
    return True


def _strategy_row(name: str) -> list[float]:
    if not _is_known(name):
        return [0.0] * len(STRATEGY_FEATURES)
    return list(strategy_features(name).values())


def _second(context: str) -> float:
    """A number in [0, 1) by a context's id, independent of whether it is held out."""
    return float(int.from_bytes(hashlib.sha256(context.encode()).digest()[8:16], "big") / 2**64)
