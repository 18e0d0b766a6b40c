"""Make bench/traces/mooncake.parquet of the Mooncake trace: who asks on which context, when.

Only what a replay needs is kept: when a request came, its lengths, and its context. All requests
share their first block of 512 tokens; the next one tells contexts apart.

Needs: mooncake_conversation_trace.jsonl of kvcache-ai/Mooncake (Apache-2.0), named by --source.
Takes: a second.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.recordings import Floats, Ints
from forethought.models.demand import DemandModel

TRACE: Final = Path(__file__).parent / "traces" / "mooncake.parquet"

_TYPES: Final = {
    "timestamp_ms": pa.int32(),
    "context": pa.int32(),
    "input_tokens": pa.int32(),
    "output_tokens": pa.int32(),
}


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The arrivals of I contexts, in seconds; ``end_s`` is when the watching stopped.

    ``arrivals_s`` has shape (I, N), each row rising and then filled with infinity; ``counts`` (I,)
    is how many each context has.
    """

    arrivals_s: Floats
    counts: Ints
    end_s: float

    def __len__(self) -> int:
        return len(self.counts)

    def until(self, time_s: float) -> Trace:
        """What had been seen by ``time_s``."""
        seen = np.where(self.arrivals_s < time_s, self.arrivals_s, np.inf)
        return _of(seen[np.isfinite(seen[:, 0])], time_s)

    def first_seen_from(self, time_s: float) -> Trace:
        """The contexts without a query before ``time_s``."""
        return _of(self.arrivals_s[self.arrivals_s[:, 0] >= time_s], self.end_s)

    def take(self, chosen: Ints) -> Trace:
        """The contexts at the places ``chosen``."""
        return _of(self.arrivals_s[chosen], self.end_s)

    def gaps_s(self) -> Floats:
        """All gaps between two queries on one context."""
        later = np.isfinite(self.arrivals_s[:, 1:])
        with np.errstate(invalid="ignore"):
            return np.asarray(np.diff(self.arrivals_s, axis=1)[later])

    def last_s(self) -> Floats:
        """When the last query of each context came, shape (I,)."""
        return np.asarray(self.arrivals_s[np.arange(len(self)), self.counts - 1])

    def fit(self) -> DemandModel:
        """The demand model of this trace alone: no prior, which is of the whole trace."""
        return DemandModel.fit(
            self.counts.tolist(),
            gaps_s=self.gaps_s().tolist(),
            idle_s=(self.end_s - self.last_s()).tolist(),
            prior_weight=0.0,
        )


def read_trace(path: Path = TRACE) -> Trace:
    """The whole trace, contexts in the order of their first query."""
    found = pq.read_table(path)
    times = found["timestamp_ms"].to_numpy() / 1000.0
    places = found["context"].to_numpy()
    counts = np.bincount(places)
    arrivals = np.full((len(counts), counts.max()), np.inf)
    order = np.argsort(places, kind="stable")
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    arrivals[places[order], within] = times[order]
    return _of(arrivals, float(times.max()))


def _of(arrivals_s: Floats, end_s: float) -> Trace:
    counts = np.isfinite(arrivals_s).sum(axis=1)
    return Trace(
        arrivals_s=arrivals_s[:, : max(1, counts.max(initial=1))],
        counts=counts.astype(np.int64),
        end_s=end_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=TRACE)
    args = parser.parse_args()
    places: dict[int, int] = {}
    rows = []
    with args.source.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            place = places.setdefault(row["hash_ids"][1], len(places))
            rows.append((row["timestamp"], place, row["input_length"], row["output_length"]))
    rows.sort(key=lambda row: row[0])
    columns = dict(zip(_TYPES, zip(*rows, strict=True), strict=True))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    written = pa.table(columns, schema=pa.schema(_TYPES))
    pq.write_table(written, args.out, compression="zstd", compression_level=19)
    trace = read_trace(args.out)
    figures = {
        "requests": len(rows),
        "contexts": len(trace),
        "bytes": args.out.stat().st_size,
        "one_query": round(float((trace.counts == 1).mean()), 4),
        "median_gap_s": round(float(np.median(trace.gaps_s())), 1),
    }
    for name, value in figures.items():
        print(f"{name:14} {value}")
    print(json.dumps({"bench": "trace", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
