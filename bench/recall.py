"""How sure recall is: every question beside every other, traps, and what recorded notes answer.

1. Each question of the data sets beside each other one on its context whose gold answer differs:
   if they pass for the same, one would be answered with the other's note.
2. Traps: each question with one word changed in a way that asks something else.
3. Each question said in another way that asks the same (of the kinds that recall knows).
4. The recorded questions with the notes that sleep wrote: how many are recalled, how many of
   these are right, and what agreement of the drafts is worth.

Beside them stands what a threshold on the cosine of the embeddings would do.

Needs: bench/datasets, bench/recorded/sleeps.parquet (both ship with the repository).
Takes: seconds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.journal import Row
from bench.layout import table
from bench.publish import golds
from bench.recorder import context_messages, learned_of
from bench.rewording import NAME, rewrites, traps
from forethought.models.embedding import Embedder, WordLlamaEmbedder
from forethought.router.context import split
from forethought.router.grading import grade
from forethought.router.questions import same_question
from forethought.router.records import LearnedContext
from forethought.router.sleep.prompts import PROMPT_VERSION
from forethought.router.strategies import RECALL, Request
from forethought.router.strategies.base import Plan
from forethought.router.upstream.base import UpstreamReply

HERE = Path(__file__).parent
THRESHOLDS: Final = (0.9, 0.95, 0.98)
Contexts = Mapping[str, tuple[Row, dict[str, Row]]]
"""Each context by id, with its queries by id."""

TARGETS = {"crossed_same": 0, "traps_same": 0}


def request_on(context: str, query: str, learned: LearnedContext) -> Request:
    """What the proxy would ask the strategy."""
    messages = [{"role": "system", "content": context}, {"role": "user", "content": query}]
    body = {"model": learned.model, "messages": messages}
    cut = split(body, known=lambda _: False, shared=lambda _: False)
    return Request(body=body, split=cut, learned=learned, may_recall=True)


def recalled(context: str, query: str, learned: LearnedContext) -> str | None:
    """The answer recalled, None where the model would be asked."""
    request = request_on(context, query, learned)
    if RECALL.excluded(request) is not None:
        return None
    plan = RECALL.prepare(request).plan
    if plan is None:
        raise RuntimeError("recall answered without a plan")
    said: dict[str, Any] = json.loads(asyncio.run(_reply(plan)).body)
    answer: str = said["choices"][0]["message"]["content"]
    return answer


async def _reply(plan: Plan) -> UpstreamReply:
    async def call(_: Mapping[str, Any]) -> UpstreamReply:
        raise RuntimeError("recall called the model")

    return await plan(call)


@dataclass(slots=True)
class Counted:
    """``of`` pairs, how many pass for one question, and how many each threshold would take."""

    of: int = 0
    same: int = 0
    near: Counter[float] = field(default_factory=Counter)

    def count(self, taken: bool, cosine: float) -> None:
        self.of += 1
        self.same += taken
        self.near.update(t for t in THRESHOLDS if cosine >= t)

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.of + other.of, self.same + other.same, self.near + other.near)


def beside_each_other(contexts: Contexts, embedder: Embedder) -> dict[str, Counted]:
    """Every question beside every other on its context, where golds differ."""
    found: dict[str, Counted] = {}
    for row, own in contexts.values():
        counted = found.setdefault(row["dataset"], Counted())
        queries = list(own.values())
        cosines = _cosines(embedder, [q["query"] for q in queries])
        for i, j in permutations(range(len(queries)), 2):
            if _gold(queries[i]) != _gold(queries[j]):
                taken = same_question(queries[i]["query"], queries[j]["query"])
                counted.count(taken, cosines[i, j])
    return found


def changed(
    contexts: Contexts, embedder: Embedder, change: Callable[[str, list[str]], Iterator[str]]
) -> dict[str, Counted]:
    """Every question beside what ``change`` makes of it."""
    found: dict[str, Counted] = {}
    for row, own in contexts.values():
        counted = found.setdefault(row["dataset"], Counted())
        names = sorted(set(NAME.findall(row["context"])))[:3]
        for query in own.values():
            asked = [q for q in change(query["query"], names) if q != query["query"]]
            cosines = _cosines(embedder, [query["query"], *asked])
            for text, cosine in zip(asked, cosines[0, 1:], strict=True):
                counted.count(same_question(text, query["query"]), cosine)
    return found


@dataclass(slots=True)
class Answered:
    """Of how many recorded questions, and the quality of each answer by who chose the note."""

    of: int = 0
    quality: dict[str, list[float]] = field(default_factory=dict)

    def add(self, rule: str, quality: float) -> None:
        self.quality.setdefault(rule, []).append(quality)


def from_recorded(
    contexts: Contexts, sleeps: Sequence[Row], embedder: Embedder
) -> dict[tuple[str, str], Answered]:
    """What the recorded notes answer, by data set and sleep level."""
    found: dict[tuple[str, str], Answered] = {}
    for sleep in sleeps:
        row, own = contexts[sleep["context_id"]]
        learned = learned_of({**sleep, "notes": json.loads(sleep["notes"])})
        text = context_messages(row)[0]["content"]
        notes = [n for n in learned.notes if n.verified and n.answer]
        counted = found.setdefault((row["dataset"], learned.level), Answered())
        for query in own.values():
            counted.of += 1

            def right(answer: str, query: Row = query, dataset: str = row["dataset"]) -> float:
                return float(grade(dataset, answer, query))

            if (answer := recalled(text, query["query"], learned)) is not None:
                counted.add("recall", right(answer))
            for note in notes:
                if same_question(note.text, query["query"]):
                    agreed = "all drafts" if note.confidence >= 1 else "some drafts"
                    counted.add(f"same words, {agreed}", right(note.answer or ""))
            if notes:
                cosines = _cosines(embedder, [query["query"], *(n.text for n in notes)])[0, 1:]
                best = notes[int(cosines.argmax())]
                for threshold in THRESHOLDS:
                    if cosines.max() >= threshold:
                        counted.add(f"cosine >= {threshold}", right(best.answer or ""))
    return found


def microseconds(contexts: Contexts, sleeps: Sequence[Row]) -> list[float]:
    """How long a search of the notes takes, the notes' own forms at hand."""
    took = []
    for sleep in sleeps:
        row, own = contexts[sleep["context_id"]]
        learned = learned_of({**sleep, "notes": json.loads(sleep["notes"])})
        for query in own.values():
            asked = [request_on(row["context"], f"{query['query']} {n}", learned) for n in range(9)]
            for request in asked:
                began = time.perf_counter()
                RECALL.excluded(request)
                took.append(1e6 * (time.perf_counter() - began))
    return took


def _cosines(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    vectors = embedder.embed(texts)
    return vectors @ vectors.T


def _gold(query: Row) -> tuple[str, str]:
    return json.dumps(query["answer"]), query.get("scale", "")


def _show(title: str, found: Mapping[str, Counted]) -> None:
    head = ["data set", "pairs", "the same", *(f"cosine >= {t}" for t in THRESHOLDS)]
    lines = [
        [name, f"{c.of:,}", f"{c.same:,}", *(f"{c.near[t]:,}" for t in THRESHOLDS)]
        for name, c in {**found, "all": sum(found.values(), Counted())}.items()
    ]
    print(f"\n{title}\n{table(head, lines)}")


def main() -> None:
    contexts = golds(HERE / "datasets")
    embedder = WordLlamaEmbedder().load()
    rows = pq.read_table(HERE / "recorded" / "sleeps.parquet").to_pylist()
    sleeps = [row for row in rows if row["variant"] == PROMPT_VERSION]

    crossed = beside_each_other(contexts, embedder)
    _show(
        "Another question on the same context, with another gold answer (each taken is wrong)",
        crossed,
    )
    trapped = changed(contexts, embedder, traps)
    _show("A question with one thing changed (each taken is wrong)", trapped)
    said = changed(contexts, embedder, lambda question, _: rewrites(question))
    _show("A question in other words that ask the same (each taken is right)", said)

    recorded = from_recorded(contexts, sleeps, embedder)
    lines = []
    for (dataset, level), counted in sorted(recorded.items()):
        for rule, quality in counted.quality.items():
            share = f"{len(quality) / counted.of:.1%}"
            right = f"{np.mean(quality):.2f}"
            lines.append(
                [f"{dataset} {level}", str(counted.of), rule, str(len(quality)), share, right]
            )
    head = ["notes", "questions", "the note is chosen by", "answered", "share", "quality"]
    print(f"\nRecorded questions answered by recorded notes\n{table(head, lines)}")
    took = microseconds(contexts, sleeps)
    print(
        f"\nSearching the notes takes {np.median(took):.0f} µs (p99 {np.percentile(took, 99):.0f})."
    )

    answers = [q for c in recorded.values() for q in c.quality.get("recall", [])]
    total = sum(counted.of for counted in recorded.values())
    rewritten = sum(c.of for c in said.values())
    figures = {
        "crossed_pairs": sum(c.of for c in crossed.values()),
        "crossed_same": sum(c.same for c in crossed.values()),
        "traps": sum(c.of for c in trapped.values()),
        "traps_same": sum(c.same for c in trapped.values()),
        "rewrites_same": round(sum(c.same for c in said.values()) / rewritten, 4),
        "recorded_asked": total,
        "recorded_recalled": len(answers),
        "recorded_quality": round(float(np.mean(answers)), 4) if answers else None,
        "search_p99_us": round(float(np.percentile(took, 99)), 1),
    }
    print(json.dumps({"bench": "recall", "figures": figures, "targets": TARGETS}))


if __name__ == "__main__":
    main()
