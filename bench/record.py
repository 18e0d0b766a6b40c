"""Record real outcomes: every (context, query, strategy) of a data set on a real model.

Runs the code that serves (the sleep writer, the strategies, the features), one context after
the other in each of ``--parallel`` lanes, so that the upstream's prompt cache is used as it is
in service. One JSON object a row; a rerun goes on after the last whole context.

Needs: an OpenAI-compatible server, for instance `forethought serve` or llama.cpp's.
Takes: about a minute a context with the 1.5B on 2 cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from openai import OpenAI

from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import FeatureExtractor, HistoryFacts, RequestFacts
from forethought.router.context import split
from forethought.router.decision import artefact_facts
from forethought.router.grading import grade
from forethought.router.records import LearnedContext, SleepLevel, Usage
from forethought.router.sleep.writer import Call, Reply, estimated_tokens, write
from forethought.router.strategies import STRATEGIES, Request

DATASETS = Path(__file__).parent / "datasets"
SHORT = {"fairytaleqa": "Answer in a few words.", "tatqa": "Answer in a few words."}
LOW_EFFORT = ("effort:low", "learned:low")
MAX_TOKENS = {"gsm8k": 400, "fairytaleqa": 200, "tatqa": 300}


def context_messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """What a client sends before the query: the context, and its wish for the answer's form."""
    wish = SHORT.get(row["dataset"])
    text = row["context"] if wish is None else f"{row['context']}\n\n{wish}"
    return [{"role": "system", "content": text}]


class Recorder:
    """Records one context at a time against ``client``."""

    def __init__(
        self, client: OpenAI, model: str, level: SleepLevel, extractor: FeatureExtractor
    ) -> None:
        self.client, self.model, self.level, self.extractor = client, model, level, extractor

    def context(
        self, row: dict[str, Any], max_queries: int, full_queries: int
    ) -> Iterator[dict[str, Any]]:
        """The rows of one context: one for sleep, one for each query and strategy.

        From ``full_queries`` on, a query is recorded with the strategies of low effort alone,
        which cost a hundredth of the others: so more contexts fit into the same hours.
        """
        messages = context_messages(row)
        began = time.perf_counter()
        written = write(messages[0]["content"], self.level, self._sleep_call)
        learned = LearnedContext(
            id=f"lc_{row['id']}", context_id=row["id"], version=1, level=self.level.name,
            model=self.model, notes=written.notes, text=written.text,
            tokens=estimated_tokens(written.text), usage=written.usage, cost_usd=None,
            created_at=0.0, dropped=written.dropped,
        )  # fmt: skip
        common = {
            "context_id": row["id"], "dataset": row["dataset"], "split": row["split"],
            "model": self.model, "level": self.level.name,
        }  # fmt: skip
        yield {
            **common, "kind": "sleep", "notes": [asdict(n) for n in written.notes],
            "text": written.text, "dropped": written.dropped, "calls": written.calls,
            **asdict(written.usage), "latency_ms": 1000 * (time.perf_counter() - began),
        }  # fmt: skip
        vector = self.extractor.context(messages[0]["content"])
        artefact = self.extractor.artefact(artefact_facts(learned))
        for n, query in enumerate(row["queries"][:max_queries]):
            body: dict[str, Any] = {
                "model": self.model,
                "messages": [*messages, {"role": "user", "content": query["query"]}],
                "max_tokens": MAX_TOKENS[row["dataset"]],
                "temperature": 0.0,
            }
            cut = split(body, known=lambda _: False, shared=lambda _: False)
            features = self.extractor.decision(
                vector,
                query["query"],
                artefact,
                HistoryFacts(n_queries=n, age_s=60.0 * n),
                RequestFacts(max_tokens=body["max_tokens"], n_messages=2),
            )
            request = Request(body=body, split=cut, learned=learned)
            for name, strategy in STRATEGIES.items():
                why = strategy.excluded(request)
                if why is not None or (n >= full_queries and name not in LOW_EFFORT):
                    continue
                answer = self._answer(strategy.prepare(request).body)
                yield {
                    **common, "kind": "answer", "query_id": query["id"], "query": query["query"],
                    "query_kind": query.get("kind"), "strategy": name,
                    "features": {k: None if math.isnan(v) else v for k, v in features.items()},
                    "quality": grade(row["dataset"], answer["answer"], query), **answer,
                }  # fmt: skip

    def _sleep_call(self, wanted: Call) -> Reply:
        reply = self.client.chat.completions.create(
            model=self.model, messages=cast("Any", wanted.messages), max_tokens=wanted.max_tokens,
            temperature=wanted.temperature, seed=wanted.seed,
        )  # fmt: skip
        return Reply(reply.choices[0].message.content or "", Usage(**_usage(reply)))

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        reply = self.client.chat.completions.create(**body)
        took = 1000 * (time.perf_counter() - began)
        return {
            "answer": reply.choices[0].message.content or "",
            "finish_reason": reply.choices[0].finish_reason,
            "latency_ms": took,
            "timings": (reply.model_extra or {}).get("timings"),
            **_usage(reply),
        }


def _usage(reply: Any) -> dict[str, int]:
    details = reply.usage.prompt_tokens_details
    return {
        "input_tokens": reply.usage.prompt_tokens,
        "cached_tokens": (details.cached_tokens or 0) if details else 0,
        "output_tokens": reply.usage.completion_tokens,
    }


def _draw(context_id: str) -> float:
    """A number in [0, 1) that depends on the context alone: reruns choose alike."""
    return int(hashlib.sha256(f"full {context_id}".encode()).hexdigest()[:8], 16) / 16**8


def contexts(names: list[str], splits: list[str], limits: list[int]) -> list[dict[str, Any]]:
    """The contexts of the data sets, interleaved, so that an early stop has some of each."""
    columns = []
    for name, limit in zip(names, limits, strict=True):
        lines = (DATASETS / f"{name}_multi.jsonl").read_text().splitlines()
        rows = [row for row in map(json.loads, lines) if row["split"] in splits][:limit]
        columns += [((i + 0.5) / len(rows), row) for i, row in enumerate(rows)]
    return [row for _, row in sorted(columns, key=lambda pair: pair[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base-url", default="http://127.0.0.1:8300/v1")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--dataset", nargs="+", default=["gsm8k", "fairytaleqa"])
    parser.add_argument("--limit", nargs="+", type=int, default=[100, 40])
    parser.add_argument("--split", nargs="+", default=["train", "validation"])
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--full-queries", type=int, default=1, help="with every strategy")
    parser.add_argument("--full-share", type=float, default=0.5, help="of the contexts")
    parser.add_argument("--drafts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=4)
    args = parser.parse_args()

    done = set()
    if args.out.exists():
        done = {json.loads(line)["context_id"] for line in args.out.open()}
    todo = [r for r in contexts(args.dataset, args.split, args.limit) if r["id"] not in done]
    client = OpenAI(base_url=args.base_url, api_key=args.api_key, timeout=1800, max_retries=1)
    level = SleepLevel(drafts=args.drafts, rounds=args.rounds)
    recorder = Recorder(client, args.model, level, FeatureExtractor(WordLlamaEmbedder().load()))
    lock, began, finished = threading.Lock(), time.time(), 0

    def one(row: dict[str, Any]) -> None:
        nonlocal finished
        # Whole contexts only: what a kill cuts off is done again.
        full = args.full_queries if _draw(row["id"]) < args.full_share else 0
        rows = list(recorder.context(row, args.queries, full))
        with lock, args.out.open("a") as out:
            out.writelines(json.dumps(r) + "\n" for r in rows)
            finished += 1
            left = (time.time() - began) / finished * (len(todo) - finished)
            print(f"{finished}/{len(todo)} contexts, {left / 60:.0f} min left", flush=True)

    with ThreadPoolExecutor(args.parallel) as lanes:
        list(lanes.map(one, todo))


if __name__ == "__main__":
    main()
