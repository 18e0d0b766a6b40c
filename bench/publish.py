"""Publish journals of the recorder: grade every answer anew and write Parquet.

One file a table (see bench/recorded/README.md), sorted, so that the same journals give the same
files. Rows of data sets whose licence does not let them ship are refused.

Needs: journals of ``python -m bench.record``.
Takes: seconds.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.journal import Row, read_rows
from forethought.router.grading import grade

RECORDED = Path(__file__).parent / "recorded"
DATASETS = Path(__file__).parent / "datasets"
MAX_BYTES = 40_000_000

_COMMON = {
    "dataset": pa.dictionary(pa.int8(), pa.string()),
    "split": pa.dictionary(pa.int8(), pa.string()),
    "context_id": pa.string(),
    "model": pa.dictionary(pa.int8(), pa.string()),
}
_USAGE = {name: pa.int32() for name in ("input_tokens", "cached_tokens", "output_tokens")}
_CALL = {
    "temperature": pa.float32(),
    "seed": pa.int32(),
    "answer": pa.string(),
    "finish_reason": pa.dictionary(pa.int8(), pa.string()),
    **_USAGE,
    "latency_ms": pa.float32(),
    "ttft_ms": pa.float32(),
}
_LABEL = pa.dictionary(pa.int8(), pa.string())
SCHEMAS = {
    "answers": pa.schema(
        {
            **_COMMON, "level": _LABEL, "variant": _LABEL, "query_id": pa.string(),
            "query_kind": _LABEL, "strategy": _LABEL, **_CALL, "quality": pa.float32(),
            "licence": _LABEL,
        }
    ),
    "sleeps": pa.schema(
        {
            **_COMMON, "level": _LABEL, "variant": _LABEL, "notes": pa.string(),
            "text": pa.string(), "dropped": pa.int32(), "calls": pa.int32(), **_USAGE,
            "licence": _LABEL,
        }
    ),
    "sleep_calls": pa.schema(
        {
            **_COMMON, "variant": _LABEL, "request": pa.string(), "label": _LABEL, **_CALL,
            "licence": _LABEL,
        }
    ),
}  # fmt: skip
_TABLE_OF = {"answer": "answers", "sleep": "sleeps", "sleep_call": "sleep_calls"}
_ORDER = {
    "answers": ("model", "context_id", "query_id", "strategy", "level", "variant", "seed"),
    "sleeps": ("model", "context_id", "variant", "level"),
    "sleep_calls": ("model", "context_id", "variant", "label", "request"),
}


def golds(folder: Path) -> dict[str, tuple[Row, dict[str, Row]]]:
    """Each shipped context by id, with its queries by id."""
    found = {}
    for file in sorted(folder.glob("*_multi.jsonl")):
        for row in map(json.loads, file.read_text("utf-8").splitlines()):
            found[row["id"]] = (row, {query["id"]: query for query in row["queries"]})
    return found


def published(rows: Sequence[Row], contexts: dict[str, tuple[Row, dict[str, Row]]]) -> list[Row]:
    """The rows as they are published: graded by today's graders, with their licence.

    Raises:
        ValueError: A row is of a context that does not ship.
    """
    out = []
    for row in rows:
        if row["context_id"] not in contexts:
            raise ValueError(
                f"context {row['context_id']!r} is not in bench/datasets: its licence may not "
                "let its rows ship"
            )
        context, queries = contexts[row["context_id"]]
        new: dict[str, Any] = {**row, "licence": context["licence"], "split": context["split"]}
        if row["kind"] == "answer":
            new["quality"] = grade(row["dataset"], row["answer"], queries[row["query_id"]])
        if row["kind"] == "sleep":
            new["notes"] = json.dumps(row["notes"], ensure_ascii=False)
        out.append(new)
    return out


def write_tables(rows: Sequence[Row], folder: Path) -> dict[str, int]:
    """Write the rows to ``folder``, one Parquet file a table; returns the bytes of each."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for kind, name in _TABLE_OF.items():
        own = [row for row in rows if row["kind"] == kind]
        own.sort(key=lambda row: tuple(str(row[column]) for column in _ORDER[name]))
        schema = SCHEMAS[name]
        columns = {column: [row.get(column) for row in own] for column in schema.names}
        path = folder / f"{name}.parquet"
        pq.write_table(pa.table(columns, schema=schema), path, compression="zstd")
        sizes[name] = path.stat().st_size
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.publish", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("journals", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=RECORDED)
    args = parser.parse_args()

    contexts = golds(DATASETS)
    rows = [row for path in args.journals for row in read_rows(path)]
    rows = published(rows, contexts)
    sizes = write_tables(rows, args.out)
    counts = Counter((row["model"], row["dataset"], row["kind"]) for row in rows)
    for (model, dataset, kind), n in sorted(counts.items()):
        print(f"{model:22} {dataset:12} {kind:11} {n:6}")
    whole = sum(sizes.values())
    if whole > MAX_BYTES:
        raise SystemExit(f"{whole / 1e6:.1f} MB are more than the {MAX_BYTES / 1e6:.0f} allowed")
    figures = {"rows": len(rows), "megabytes": round(whole / 1e6, 3)}
    print(json.dumps({"bench": "publish", "figures": figures, "targets": {"megabytes": 40}}))


if __name__ == "__main__":
    main()
