"""Training rows from the recorded tables: each answer with the features the router would see.

Features are computed here and not stored, so that they never lag behind the code. An answer
without sleep is given twice, before any sleep and with the main level's learned context at hand:
its outcome is the same, and the router meets both situations. Only where sleep found no notes
are they one. What is known of other contexts is as ``bench.past`` has it.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.journal import Row
from bench.past import Past, precedents
from bench.publish import golds
from bench.recorder import MAX_TOKENS, NO_SLEEP, context_messages, learned_of
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import FeatureExtractor, HistoryFacts, RequestFacts
from forethought.models.history import NO_PRECEDENTS
from forethought.router.situation import artefact_facts
from forethought.router.sleep.prompts import PROMPT_VERSION
from forethought.training.dataset import Dataset
from forethought.training.recorded import read_recorded

MAIN_LEVEL = "k3r1"


def training_rows(
    recorded: Path,
    datasets: Path,
    *,
    model: str,
    variant: str = PROMPT_VERSION,
    main_level: str = MAIN_LEVEL,
    past: Past = "mixed",
    surprisals: Mapping[str, float] | None = None,
) -> Iterator[Row]:
    """The rows of ``model`` in the form that ``forethought train --from`` reads.

    ``surprisals``: nats a token by query, as if each was scored before it was answered.
    """
    contexts = golds(datasets)
    filters = [("model", "=", model)]
    sleeps = {
        (row["context_id"], row["level"]): {**row, "notes": json.loads(row["notes"])}
        for row in pq.read_table(recorded / "sleeps.parquet", filters=filters).to_pylist()
        if row["variant"] == variant
    }
    answers = pq.read_table(recorded / "answers.parquet", filters=filters).to_pylist()
    answers = [r for r in answers if r["seed"] == 0 and r["variant"] in {variant, NO_SLEEP}]
    extractor = FeatureExtractor(WordLlamaEmbedder().load())
    vectors = {
        name: extractor.context(context_messages(context)[0]["content"])
        for name, (context, _) in contexts.items()
    }
    artefacts = {
        key: extractor.artefact(artefact_facts(learned_of(sleep)))
        for key, sleep in sleeps.items()
        if sleep["notes"]
    }
    qualities: dict[str, dict[str, float]] = {}
    for answer in answers:
        if answer["level"] in {NO_SLEEP, main_level}:
            qualities.setdefault(answer["query_id"], {})[answer["strategy"]] = answer["quality"]
    scored = surprisals or {}
    before = precedents(contexts, qualities, vectors, extractor, past=past, surprisals=scored)
    known: dict[tuple[str, str], dict[str, Any]] = {}

    def features(answer: Row, level: str) -> dict[str, Any]:
        key = (answer["query_id"], level)
        if key not in known:
            context, queries = contexts[answer["context_id"]]
            n = list(queries).index(answer["query_id"])
            found = extractor.decision(
                vectors[answer["context_id"]],
                queries[answer["query_id"]]["query"],
                artefacts.get((answer["context_id"], level)),
                HistoryFacts(
                    n_queries=n,
                    age_s=60.0 * n,
                    precedents=before.get(answer["query_id"], NO_PRECEDENTS),
                ),
                RequestFacts(
                    max_tokens=MAX_TOKENS[context["dataset"]],
                    n_messages=2,
                    surprisal=scored.get(answer["query_id"], math.nan),
                ),
            )
            known[key] = {k: None if math.isnan(v) else v for k, v in found.items()}
        return known[key]

    for answer in answers:
        seen_at = [answer["level"]]
        if answer["level"] == NO_SLEEP and (answer["context_id"], main_level) in artefacts:
            seen_at.append(main_level)
        for level in seen_at:
            yield {
                "kind": "answer", "features": features(answer, level), "level": answer["level"],
                "seen_at": level,
                **{k: answer[k] for k in (
                    "context_id", "query_id", "dataset", "split", "strategy", "model", "quality",
                    "input_tokens", "cached_tokens", "output_tokens", "latency_ms",
                )},
            }  # fmt: skip


def read_training(
    recorded: Path,
    datasets: Path,
    *,
    model: str,
    main_level: str = MAIN_LEVEL,
    past: Past = "mixed",
    surprisals: Mapping[str, float] | None = None,
) -> tuple[Dataset, list[Row]]:
    """What ``training_rows`` yields as the dataset that is trained on, and the rows beside it.

    Row i of the dataset is row i of the list, which also names data set, split and level.
    """
    rows = list(
        training_rows(
            recorded, datasets, model=model, main_level=main_level, past=past, surprisals=surprisals
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / f"{model}.jsonl"
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_recorded(lines), rows
