"""What the recorded outcomes say: quality and tokens by strategy, on the same questions.

Intervals are 95% bootstraps over whole contexts. Questions count that all strategies of a
table answered; contexts on which sleep found no notes have no learned strategies, so no part.

Needs: bench/recorded/*.jsonl (ship with the repository).
Takes: seconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.resampling import draws, estimate, means

RECORDED = Path(__file__).parent / "recorded" / "qwen2.5-coder-1.5b.jsonl"
LOW = ("effort:low", "learned:low")
ALL = ("direct", "effort:low", "effort:high", "learned:low", "learned:high")

Row = dict[str, Any]


def same_questions(rows: Sequence[Row], strategies: Sequence[str]) -> list[list[dict[str, Row]]]:
    """The questions that all of ``strategies`` answered, by context."""
    contexts: dict[str, dict[str, dict[str, Row]]] = {}
    for row in rows:
        of_context = contexts.setdefault(row["context_id"], {})
        of_context.setdefault(row["query_id"], {})[row["strategy"]] = row
    kept = [
        [answers for answers in questions.values() if set(strategies) <= set(answers)]
        for questions in contexts.values()
    ]
    return [questions for questions in kept if questions]


def main() -> None:
    rows = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
    figures: dict[str, float] = {}
    for dataset in ("gsm8k", "fairytaleqa"):
        own = [r for r in rows if r["dataset"] == dataset]
        slept = [r["output_tokens"] for r in own if r["kind"] == "sleep"]
        print(f"\n{dataset}: {len(slept)} contexts, each {np.mean(slept):.0f} tokens of sleep")
        for strategies in (LOW, ALL):
            asked = same_questions([r for r in own if r["kind"] == "answer"], strategies)
            n = sum(map(len, asked))
            print(f"  the same {n} questions on {len(asked)} contexts")
            context = np.repeat(np.arange(len(asked)), [len(questions) for questions in asked])
            drawn = draws(len(asked))
            for name in strategies:
                quality = np.array([q[name]["quality"] for qs in asked for q in qs])
                tokens = np.mean([q[name]["output_tokens"] for qs in asked for q in qs])
                found = estimate(means(drawn, context, quality))
                print(f"    {name:13} {found.show()} at {tokens:6.1f} tokens")
                if strategies is LOW:
                    figures[f"{dataset}_{name.replace(':', '_')}"] = round(found.value, 4)
    print(json.dumps({"bench": "outcomes", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
