"""What each part of sleep adds: recorded drafts merged and checked anew, one change at a time.

No model is called: the drafts are those recorded. Two figures on the same questions: *covered*,
the share whose gold answer is among the notes, and *found*, the share whose most similar note
(by embedding) has the gold answer, which stands for what a reader at low effort takes from them.
Only contexts with recorded programs count, and data sets with ten of them or more.

Needs: bench/recorded/sleep_calls.parquet (ships with the repository).
Takes: under a minute.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from bench.anticipation import values_of
from bench.journal import Row
from bench.publish import DATASETS, RECORDED, golds
from bench.recorder import context_messages
from forethought.models.embedding import WordLlamaEmbedder
from forethought.router.grading import grade
from forethought.router.records import Note
from forethought.router.sleep import notes as texts
from forethought.router.sleep import programs, tables
from forethought.router.sleep.prompts import PROMPT_VERSION
from forethought.router.sleep.writer import code_of, estimated_tokens

MIN_CONTEXTS = 10

Merge = Callable[[Sequence[str], str], list[Note]]
"""From drafts (replies of the model) and the context to notes."""


def as_shipped(drafts: Sequence[str], text: str) -> list[Note]:
    runs = [programs.run_program(code_of(draft), text) for draft in drafts]
    return programs.agree(runs, min_confidence=0.0)[0]


def ungrounded(drafts: Sequence[str], text: str) -> list[Note]:
    """Numbers that the context does not hold are believed."""
    runs = [programs.run_program(code, f"{text} {code}") for code in map(code_of, drafts)]
    return programs.agree(runs, min_confidence=0.0)[0]


def unmerged(drafts: Sequence[str], text: str) -> list[Note]:
    """Every note of every draft stays, contradictions too."""
    runs = [programs.run_program(code_of(draft), text) for draft in drafts]
    return [note for run in runs for note in programs.agree([run], min_confidence=0.0)[0]]


def majority(drafts: Sequence[str], text: str) -> list[Note]:
    """Only what half of the drafts agree on."""
    runs = [programs.run_program(code_of(draft), text) for draft in drafts]
    return programs.agree(runs, min_confidence=0.5)[0]


Shorten = Callable[[Sequence[Note]], Sequence[Note]]
"""From notes to those that fit the limit of a learned context."""


def shortened(notes: Sequence[Note]) -> Sequence[Note]:
    return texts.within_limit(notes, estimated_tokens)[0]


def whole_notes_only(notes: Sequence[Note]) -> Sequence[Note]:
    """A note stays with its derivation or goes with it, the least trusted first."""
    kept = list(notes)
    while estimated_tokens(texts.render(kept)) > texts.MAX_TOKENS:
        kept.remove(min(reversed(kept), key=lambda note: note.confidence))
    return kept


def never_shortened(notes: Sequence[Note]) -> Sequence[Note]:
    return notes


SHORTENED: Mapping[str, Shorten] = {
    "derivations go first": shortened,
    "whole notes go": whole_notes_only,
    "no limit": never_shortened,
}


def from_tables(_: Sequence[str], text: str) -> list[Note]:
    """No draft at all: what a parser derives from the tables."""
    return tables.derive(text)


MERGES: Mapping[str, Merge] = {
    "as shipped": as_shipped,
    "numbers from nowhere believed": ungrounded,
    "contradictions kept": unmerged,
    "only what half the drafts agree on": majority,
}


def draft_replies(calls: Sequence[Row]) -> dict[tuple[str, str], list[str]]:
    """The recorded drafts of each (variant, context), in the order in which they were drawn."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for call in calls:
        label = re.fullmatch(r"draft (\d+)", call["label"])
        if label is not None:
            key = (call["variant"], call["context_id"])
            found.setdefault(key, {})[int(label[1])] = call["answer"]
    return {key: [drafts[n] for n in sorted(drafts)] for key, drafts in found.items()}


class Scorer:
    """How well notes serve the recorded questions of a context."""

    def __init__(self, contexts: Mapping[str, tuple[Row, dict[str, Row]]], n_queries: int) -> None:
        self._contexts = contexts
        self._n = n_queries
        self._embedder = WordLlamaEmbedder().load()

    def text(self, context_id: str) -> str:
        return context_messages(self._contexts[context_id][0])[0]["content"]

    def score(self, context_id: str, notes: Sequence[Note]) -> list[tuple[bool, bool]]:
        """(covered, found) of each question."""
        context, queries = self._contexts[context_id]
        asked = list(queries.values())[: self._n]
        right = [[_answers(context["dataset"], note, query) for note in notes] for query in asked]
        if not notes:
            return [(False, False)] * len(asked)
        similarity = (
            self._embedder.embed([q["query"] for q in asked])
            @ self._embedder.embed([note.text for note in notes]).T
        )
        nearest = similarity.argmax(axis=1)
        return [(any(r), r[int(at)]) for r, at in zip(right, nearest, strict=True)]


def _answers(dataset: str, note: Note, query: Row) -> bool:
    # A program's value has no scale word: what it lacks is not what is asked about here.
    asked = [query, {**query, "scale": ""}] if dataset == "tatqa" else [query]
    return any(
        grade(dataset, value, own) >= 1.0 for value in values_of(note.answer) for own in asked
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ablation", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--split", default="train", help="prompts were tuned on train contexts")
    parser.add_argument("--queries", type=int, default=4)
    args = parser.parse_args()

    calls = pq.read_table(
        args.recorded / "sleep_calls.parquet",
        filters=[("model", "=", args.model), ("split", "=", args.split)],
    ).to_pylist()
    drafts = draft_replies(calls)
    contexts = golds(DATASETS)
    scorer = Scorer(contexts, args.queries)
    figures: dict[str, float] = {}

    def line(
        name: str, variant: str, k: int, merge: Merge, ids: Sequence[str],
        shorten: Shorten = shortened,
    ) -> None:  # fmt: skip
        scores, n_notes, tokens = [], [], []
        for context_id in ids:
            text = scorer.text(context_id)
            notes = merge(drafts[variant, context_id][:k], text)
            notes = list(shorten(notes))
            n_notes.append(len(notes))
            tokens.append(estimated_tokens(texts.render(notes)))
            scores += scorer.score(context_id, notes)
        covered, found = np.mean(scores, axis=0)
        print(
            f"  {name:36} {k:3} {covered:9.3f} {found:8.3f} {np.mean(n_notes):7.1f} "
            f"{np.mean(tokens):7.0f} {len(scores):6} {len(ids):5}"
        )
        figures[f"found_{name.replace(' ', '_')}_k{k}"] = round(float(found), 4)

    def table(title: str) -> None:
        print(f"\n{title}\n  {'':36} {'k':>3} covered    found   notes  tokens   asked  ctxs")

    for dataset in sorted({contexts[context_id][0]["dataset"] for _, context_id in drafts}):

        def of(variant: str, k: int, name: str = dataset) -> list[str]:
            return sorted(
                c for (v, c), found in drafts.items()
                if v == variant and len(found) >= k and contexts[c][0]["dataset"] == name
            )  # fmt: skip

        for variant in sorted({v for v, _ in drafts} - {PROMPT_VERSION}):
            for k in (1, 3, 6, 10):
                both = sorted(set(of(variant, k)) & set(of(PROMPT_VERSION, k)))
                if both:
                    table(f"{dataset}: prompts of version {variant} and {PROMPT_VERSION}")
                    for v in (variant, PROMPT_VERSION):
                        line(f"{dataset} prompts {v}", v, k, as_shipped, both)
        most = max((k for k in (1, 3, 6, 10) if of(PROMPT_VERSION, k)), default=0)
        same = of(PROMPT_VERSION, most)
        if len(same) >= MIN_CONTEXTS:
            table(f"{dataset}: more drafts")
            for k in (k for k in (1, 2, 3, 4, 6, 8, 10) if k <= most):
                line(f"{dataset} drafts", PROMPT_VERSION, k, as_shipped, same)
            table(f"{dataset}: checks and merging")
            for name, merge in MERGES.items():
                for k in sorted({min(3, most), most}):
                    line(f"{dataset} {name}"[:36], PROMPT_VERSION, k, merge, same)
            if any(tables.derive(scorer.text(context_id)) for context_id in same):
                table(f"{dataset}: tables without the model")
                line(f"{dataset} derived", PROMPT_VERSION, 0, from_tables, same)
            table(f"{dataset}: text over {texts.MAX_TOKENS} tokens")
            for name, shorten in SHORTENED.items():
                for k in sorted({min(3, most), most}):
                    line(f"{dataset} {name}", PROMPT_VERSION, k, as_shipped, same, shorten)
    print(json.dumps({"bench": "ablation", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
