"""What the demo asks: contexts and questions of two kinds, and how many of each."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

GSM8K: Final = "gsm8k"
FAIRYTALEQA: Final = "fairytaleqa"
DATASETS: Final = (GSM8K, FAIRYTALEQA)

TITLES: Final[Mapping[str, str]] = MappingProxyType({GSM8K: "GSM8K", FAIRYTALEQA: "FairytaleQA"})
MAX_TOKENS: Final[Mapping[str, int]] = MappingProxyType({GSM8K: 400, FAIRYTALEQA: 200})
SHORT_ANSWERS: Final[Mapping[str, str]] = MappingProxyType(
    {FAIRYTALEQA: "\n\nAnswer in a few words."}
)

PARALLEL: Final = 4
"""Requests under way at once: what the embedded upstream computes together."""

PARALLEL_GAIN: Final = 1.7
PREFILL_GAIN: Final = 1.2
"""Tokens per second of four requests at once, over one alone (1.5B on 2 cores)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query on a context; ``row`` is its line of the data set, which grades it."""

    id: str
    dataset: str
    text: str
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoContext:
    """One context and the questions on it."""

    id: str
    dataset: str
    text: str
    questions: tuple[Question, ...]

    @property
    def messages(self) -> list[dict[str, str]]:
        """What a client sends before the query."""
        return [
            {"role": "system", "content": self.text + SHORT_ANSWERS.get(self.dataset, "")},
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How much of one data set is asked, in contexts and in questions a context.

    ``asked`` questions go to every strategy but ``direct``, whose long answers take most of the
    time: it gets the first ``direct`` of them. ``routed`` further ones are left to the router.
    ``thought`` is the number of contexts whose first question also goes to ``learned:high``,
    ``fresh`` that of contexts without sleep whose first questions are left to the router too.
    """

    contexts: int
    asked: int
    direct: int
    thought: int
    routed: int
    fresh: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """Tokens that one context or query of a data set takes (means of recorded rows, 1.5B).

    ``sleep_read`` and ``notes_read``: input that the prompt cache does not have.
    """

    context: int
    direct: int
    thought: int
    sleep_read: int
    sleep_written: int
    notes_read: int


TYPICAL: Final[Mapping[str, Typical]] = MappingProxyType(
    {
        GSM8K: Typical(
            context=70, direct=268, thought=220, sleep_read=170, sleep_written=370, notes_read=290
        ),
        FAIRYTALEQA: Typical(
            context=220, direct=8, thought=57, sleep_read=680, sleep_written=160, notes_read=320
        ),
    }
)
QUERY_READ: Final = 25
FRESH_QUESTIONS: Final = 2
SHORT_WRITTEN: Final = 8

FULL: Final[Mapping[str, Share]] = MappingProxyType(
    {
        GSM8K: Share(contexts=3, asked=4, direct=2, thought=1, routed=1),
        FAIRYTALEQA: Share(contexts=2, asked=2, direct=2, thought=0, routed=1, fresh=3),
    }
)
"""Under five minutes with the 1.5B on 2 cores: see ``estimated_seconds``."""

QUICK: Final[Mapping[str, Share]] = MappingProxyType(
    {
        GSM8K: Share(contexts=3, asked=3, direct=2, thought=0, routed=2),
        FAIRYTALEQA: Share(contexts=2, asked=2, direct=2, thought=0, routed=2, fresh=3),
    }
)
"""A minute with the 135M, whose notes are seldom of use: enough answers to train on without."""

FIXED_SECONDS: Final = 30.0
"""Starting the server, training, and asking again afterwards."""


def load(dataset: str) -> tuple[DemoContext, ...]:
    """The contexts of one data set that ship with the package."""
    lines = (files("forethought.api") / "demo_data" / f"{dataset}.jsonl").read_text("utf-8")
    return tuple(_context(json.loads(line)) for line in lines.splitlines() if line.strip())


def choose(sizes: Mapping[str, Share], *, seed: int) -> tuple[DemoContext, ...]:
    """Draw as many contexts as ``sizes`` says, those with enough questions, by ``seed``."""
    drawn: list[DemoContext] = []
    for dataset, share in sizes.items():
        wide = [c for c in load(dataset) if len(c.questions) >= share.asked + share.routed]
        drawn += random.Random(f"{seed} {dataset}").sample(wide, min(share.contexts, len(wide)))
    return tuple(drawn)


def asked(context: DemoContext, share: Share, strategy: str) -> tuple[Question, ...]:
    """The questions that ``strategy`` gets."""
    return context.questions[: share.direct if strategy == "direct" else share.asked]


def routed(context: DemoContext, share: Share) -> tuple[Question, ...]:
    """The further questions that are left to the router."""
    return context.questions[share.asked : share.asked + share.routed]


def others(chosen: Sequence[DemoContext]) -> tuple[DemoContext, ...]:
    """The contexts that were not drawn: planned, never asked."""
    taken = {context.id for context in chosen}
    return tuple(c for dataset in DATASETS for c in load(dataset) if c.id not in taken)


def fresh(
    chosen: Sequence[DemoContext], sizes: Mapping[str, Share]
) -> list[tuple[DemoContext, Question]]:
    """Questions for the router on contexts that nobody slept on."""
    found: list[tuple[DemoContext, Question]] = []
    for dataset, share in sizes.items():
        some = [c for c in others(chosen) if c.dataset == dataset][: share.fresh]
        found += [(c, q) for c in some for q in c.questions[:FRESH_QUESTIONS]]
    return found


def estimated_seconds(
    sizes: Mapping[str, Share], *, prefill_tokens_per_s: float, decode_tokens_per_s: float
) -> float:
    """How long the demo takes at the speed of one request alone."""
    read = written = 0
    for dataset, share in sizes.items():
        usual, n = TYPICAL[dataset], share.contexts
        queries = 2 * share.asked + share.direct + share.routed
        read += n * (usual.context + usual.sleep_read + usual.notes_read + queries * QUERY_READ)
        written += n * (
            usual.sleep_written
            + share.direct * usual.direct
            + share.asked * 2 * SHORT_WRITTEN
            # The router asks for some short answers and for some long ones.
            + share.routed * usual.direct // 2
        )
        written += share.thought * usual.thought
        read += share.fresh * (usual.context + FRESH_QUESTIONS * QUERY_READ)
        written += share.fresh * FRESH_QUESTIONS * SHORT_WRITTEN
    return FIXED_SECONDS + (
        read / (prefill_tokens_per_s * PREFILL_GAIN)
        + written / (decode_tokens_per_s * PARALLEL_GAIN)
    )


def _context(row: Mapping[str, Any]) -> DemoContext:
    questions = tuple(
        Question(id=q["id"], dataset=row["dataset"], text=q["query"], row=q) for q in row["queries"]
    )
    return DemoContext(
        id=row["id"], dataset=row["dataset"], text=row["context"], questions=questions
    )
