"""Score every recorded query: its surprisal given its context, under an open-weight model.

Writes one row a query and scoring model into bench/recorded/surprisals.parquet, numbers only:
``nats_per_token`` is the mean negative log probability of the query's tokens given the context.
Rows that are there stay as they are, so a run that was broken off goes on. ``bench.predictor`` says
what it is worth.

Needs: weights (--gguf) of a model of the catalogue, and xllamacpp.
Takes: 10 minutes with SmolLM2-135M on one core, an hour with Qwen2.5-Coder-0.5B.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from bench.journal import Row
from bench.publish import DATASETS, RECORDED, golds
from forethought.router.upstream.llamacpp import EmbeddedUpstream
from forethought.router.upstream.scoring import LlamaCppScorer

FILE: Final = "surprisals.parquet"
_SCHEMA: Final = pa.schema(
    {
        "dataset": pa.dictionary(pa.int8(), pa.string()),
        "split": pa.dictionary(pa.int8(), pa.string()),
        "context_id": pa.string(),
        "query_id": pa.string(),
        "model": pa.dictionary(pa.int8(), pa.string()),
        "nats_per_token": pa.float32(),
        "n_tokens": pa.int32(),
    }
)


def read_surprisals(recorded: Path) -> dict[str, dict[str, float]]:
    """Nats a token by scoring model and by query; models that scored every query, if any did."""
    path = recorded / FILE
    rows: list[Row] = pq.read_table(path).to_pylist() if path.is_file() else []
    answers = pq.read_table(recorded / "answers.parquet", columns=["query_id"])
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["model"], {})[row["query_id"]] = row["nats_per_token"]
    asked = set(answers["query_id"].to_pylist())
    return {model: scored for model, scored in found.items() if asked <= scored.keys()}


async def scored(
    weights: Path, model: str, asked: Collection[str], threads: int
) -> AsyncGenerator[list[Row], None]:
    """The rows of the queries ``asked``, a context's at a time."""
    upstream = EmbeddedUpstream(weights, alias=model, parallel=1, threads=threads)
    await upstream.start()
    scorer = LlamaCppScorer(upstream, model)
    try:
        for context, queries in golds(DATASETS).values():
            rows: list[Row] = []
            for query in (q for q in queries.values() if q["id"] in asked):
                found = await scorer.score(context["context"], query["query"])
                rows.append(
                    {
                        "dataset": context["dataset"],
                        "split": context["split"],
                        "context_id": context["id"],
                        "query_id": query["id"],
                        "model": model,
                        "nats_per_token": found.nats_per_token,
                        "n_tokens": found.n_tokens,
                    }
                )
            yield rows
    finally:
        await upstream.aclose()


async def score_all(path: Path, asked: Collection[str], args: argparse.Namespace) -> list[Row]:
    """All rows of the model, with those that the file had; it is written as they come."""
    known: list[Row] = pq.read_table(path).to_pylist() if path.is_file() else []  # noqa: ASYNC240
    own = [row for row in known if row["model"] == args.model]
    missing = set(asked) - {row["query_id"] for row in own}
    if not missing:
        return own
    async with aclosing(scored(args.gguf, args.model, missing, args.threads)) as batches:
        async for rows in batches:
            if rows:
                own, known = own + rows, known + rows
                known.sort(key=lambda r: (r["model"], r["context_id"], r["query_id"]))
                pq.write_table(pa.Table.from_pylist(known, _SCHEMA), path, compression="zstd")
                print(f"{len(own)} of {len(asked)} queries", flush=True)
    return own


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.surprisal", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--model", required=True, help="what the rows call the scoring model")
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--out", type=Path, help="the folder to write to; default: --recorded")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    answers = pq.read_table(args.recorded / "answers.parquet", columns=["query_id"])
    asked = set(answers["query_id"].to_pylist())
    own = asyncio.run(score_all((args.out or args.recorded) / FILE, asked, args))
    mean = sum(row["nats_per_token"] for row in own) / len(own)
    figures = {"queries": len(own), "nats_per_token": round(mean, 4)}
    print(json.dumps({"bench": "surprisal", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
