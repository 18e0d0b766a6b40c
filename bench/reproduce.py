"""Ask again: do greedy rows that were published come out the same on a model today?

Draws rows of each strategy, sends the same requests and compares grades and texts. Another
engine or another batch rounds differently, so a text may part from the recorded one at some
token; the grade should seldom follow.

Needs: bench/recorded/*.parquet, and a server (--base-url) or weights (--gguf) of the model.
Takes: some minutes with the 1.5B on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from openai import OpenAI

from bench.journal import Journal, Row
from bench.publish import DATASETS, RECORDED, golds
from bench.record import embedded, read_level, run
from bench.recorder import NO_SLEEP, Recorder, Task
from forethought.router.sleep.prompts import PROMPT_VERSION


def drawn(answers: Sequence[Row], n: int, seed: int) -> dict[str, list[Row]]:
    """``n`` greedy rows of each strategy, of all data sets and levels alike."""
    generator = np.random.default_rng(seed)
    found = {}
    for name in sorted({row["strategy"] for row in answers}):
        own = [row for row in answers if row["strategy"] == name]
        places = generator.permutation(len(own))[:n]
        found[name] = [own[i] for i in sorted(places)]
    return found


def tasks_of(rows: Sequence[Row], datasets: Path) -> list[Task]:
    contexts = golds(datasets)
    return [
        Task(
            context=contexts[row["context_id"]][0],
            query=contexts[row["context_id"]][1][row["query_id"]],
            strategy=row["strategy"],
            level=None if row["level"] == NO_SLEEP else read_level(row["level"]),
        )
        for row in rows
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.reproduce", description=(__doc__ or "").split("\n\n")[0]
    )
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--base-url", help="an OpenAI-compatible server, with its /v1")
    server.add_argument("--gguf", type=Path, help="weights to serve with llama.cpp meanwhile")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--datasets", type=Path, default=DATASETS)
    parser.add_argument("--variant", default=PROMPT_VERSION)
    parser.add_argument("--rows", type=int, default=20, help="of each strategy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=4)
    args = parser.parse_args(argv)

    def table(name: str) -> list[Row]:
        rows: list[Row] = pq.read_table(
            args.recorded / f"{name}.parquet", filters=[("model", "=", args.model)]
        ).to_pylist()
        return [row for row in rows if row["variant"] in {args.variant, NO_SLEEP}]

    by_strategy = drawn([r for r in table("answers") if r["seed"] == 0], args.rows, args.seed)
    rows = [row for own in by_strategy.values() for row in own]
    if not rows:
        raise SystemExit(f"{args.recorded} has no greedy rows of {args.model!r}")

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "again.jsonl")
        for sleep in table("sleeps"):
            notes = json.loads(sleep["notes"])
            journal.append({**sleep, "kind": "sleep", "notes": notes})
        tasks = tasks_of(rows, args.datasets)

        def ask(base_url: str, api_key: str) -> list[Row | None]:
            client = OpenAI(base_url=base_url, api_key=api_key, max_retries=4, timeout=3600)
            recorder = Recorder(client, args.model, journal, variant=args.variant)
            run(recorder, [[task] for task in tasks], parallel=args.parallel, title="again")
            return [journal.get(recorder.key(task)) for task in tasks]

        if args.gguf is not None:
            with embedded(args.gguf, args.model, args.parallel) as (base_url, api_key):
                again = ask(base_url, api_key)
        else:
            again = ask(args.base_url, args.api_key)
        journal.close()

    figures: dict[str, float] = {}
    print(f"{'strategy':14} {'rows':>5} {'same grade':>11} {'same text':>10} {'mean then':>10} now")
    place = 0
    for name, own in by_strategy.items():
        pairs = [
            (old, new) for old, new in zip(own, again[place : place + len(own)], strict=True) if new
        ]
        place += len(own)
        if not pairs:
            print(f"{name:14}     0   no answer came back")
            continue
        grades = np.array([[old["quality"], new["quality"]] for old, new in pairs])
        same = float(np.isclose(grades[:, 0], grades[:, 1], atol=1e-4).mean())
        text = float(np.mean([old["answer"] == new["answer"] for old, new in pairs]))
        then, now = grades.mean(axis=0)
        print(f"{name:14} {len(pairs):5} {same:11.2f} {text:10.2f} {then:10.3f} {now:.3f}")
        figures[f"same_grade_{name.replace(':', '_')}"] = round(same, 4)
    print(json.dumps({"bench": "reproduce", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
