"""What the recorder runs: the calls of one model on one data set, through the code that serves.

A *task* is the sleep of one context at one level, or one answer to one query by one strategy.
The sleep writer, the strategies and the request splitter are those of the router; a call whose
request is already in the journal is read from there, so that a larger sleep level pays only for
what it adds to the smaller one, and the rows still count all that the level consumed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from openai import OpenAI

from bench.journal import Journal, Row
from forethought.router.context import split
from forethought.router.grading import grade
from forethought.router.records import LearnedContext, Note, SleepLevel, Usage
from forethought.router.sleep.prompts import PROMPT_VERSION
from forethought.router.sleep.writer import Call, Reply, estimated_tokens, write
from forethought.router.strategies import STRATEGIES, Request

NO_SLEEP = "none"
SHORT = {
    "fairytaleqa": "Answer in a few words.",
    "tatqa": "Answer briefly. Give numbers with their scale (percent, thousand, million) as in "
    "the table.",
    "squad": "Answer in a few words.",
}
MAX_TOKENS = {
    "gsm8k": 512, "gsm_symbolic": 512, "fairytaleqa": 256, "tatqa": 512, "squad": 256,
}  # fmt: skip
SAMPLE_TEMPERATURE = 0.7


def context_messages(row: Row) -> list[dict[str, str]]:
    """What a client sends before the query: the context, and its wish for the answer's form."""
    wish = SHORT.get(row["dataset"])
    text = row["context"] if wish is None else f"{row['context']}\n\n{wish}"
    return [{"role": "system", "content": text}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to record. ``query`` and ``strategy`` are None for the sleep of a context."""

    context: Row
    level: SleepLevel | None
    query: Row | None = None
    strategy: str | None = None
    seed: int = 0

    @property
    def level_name(self) -> str:
        return NO_SLEEP if self.level is None else self.level.name


def sleep_tasks(contexts: Sequence[Row], levels: Sequence[SleepLevel]) -> list[list[Task]]:
    """Every context at every level. A context's levels stay in one lane, the smaller first:
    they are parts of the larger, whose calls would else be made twice.
    """
    rising = sorted(levels, key=lambda level: (level.rounds, level.drafts))
    return [[Task(context=c, level=level) for level in rising] for c in contexts]


def answer_tasks(
    contexts: Sequence[Row],
    *,
    strategies: Sequence[str],
    levels: Sequence[SleepLevel],
    samples: int,
    max_queries: int,
) -> Iterator[Task]:
    """Every query by every strategy: ``learned:*`` at every level, the others without sleep.

    Seed 0 is the greedy answer. ``samples`` further ones of ``direct`` are drawn at
    temperature 0.7, seeds 1 to ``samples``: ``vote:k`` is made of them.
    """
    for context in contexts:
        for query in context["queries"][:max_queries]:
            for name in strategies:
                wanted = list(levels) if name.startswith("learned:") else [None]
                for level in wanted:
                    yield Task(context=context, level=level, query=query, strategy=name)
            for seed in range(1, samples + 1):
                yield Task(context=context, level=None, query=query, strategy="direct", seed=seed)


class Recorder:
    """Carries tasks out against one OpenAI-compatible server, and writes them to the journal."""

    def __init__(
        self, client: OpenAI, model: str, journal: Journal, *, variant: str = PROMPT_VERSION
    ) -> None:
        self._client = client
        self._model = model
        self._journal = journal
        self._variant = variant

    def key(self, task: Task) -> tuple[str, ...]:
        if task.query is None:
            return ("sleep", task.context["id"], task.level_name, self._variant)
        variant = NO_SLEEP if task.level is None else self._variant
        return (
            "answer", task.query["id"], task.strategy or "", task.level_name, variant,
            str(task.seed),
        )  # fmt: skip

    def run(self, task: Task) -> Row | None:
        """The row of ``task``; None where the strategy cannot serve it (nothing was learned)."""
        done = self._journal.get(self.key(task))
        if done is not None:
            return done
        row = self._sleep(task) if task.query is None else self._answer(task)
        if row is not None:
            self._journal.append(row)
        return row

    def _sleep(self, task: Task) -> Row:
        if task.level is None:
            raise ValueError("sleep needs a level")
        written = write(
            context_messages(task.context)[0]["content"],
            task.level,
            lambda wanted: self._sleep_call(task, wanted),
        )
        return {
            **self._common(task), "kind": "sleep", "variant": self._variant,
            "notes": [asdict(n) for n in written.notes], "text": written.text,
            "dropped": written.dropped, "calls": written.calls, **asdict(written.usage),
        }  # fmt: skip

    def _sleep_call(self, task: Task, wanted: Call) -> Reply:
        body = {
            "messages": list(wanted.messages), "max_tokens": wanted.max_tokens,
            "temperature": wanted.temperature, "seed": wanted.seed,
        }  # fmt: skip
        request = _digest(body)
        row = self._journal.get(("sleep_call", task.context["id"], request))
        if row is None:
            row = {
                **self._common(task), "kind": "sleep_call", "request": request,
                "variant": self._variant, "label": wanted.label,
                "temperature": wanted.temperature, "seed": wanted.seed, **self._call(body),
            }  # fmt: skip
            del row["level"]
            self._journal.append(row)
        return Reply(
            row["answer"],
            Usage(**{k: row[k] for k in ("input_tokens", "cached_tokens", "output_tokens")}),
        )

    def _answer(self, task: Task) -> Row | None:
        if task.query is None or task.strategy is None:
            raise ValueError("an answer needs a query and a strategy")
        learned = None if task.level is None else self._learned(task)
        body: dict[str, Any] = {
            "messages": [
                *context_messages(task.context),
                {"role": "user", "content": task.query["query"]},
            ],
            "max_tokens": MAX_TOKENS[task.context["dataset"]],
            "temperature": SAMPLE_TEMPERATURE if task.seed else 0.0,
            "seed": task.seed,
        }
        cut = split(body, known=lambda _: False, shared=lambda _: False)
        strategy = STRATEGIES[task.strategy]
        request = Request(body=body, split=cut, learned=learned)
        if strategy.excluded(request) is not None:
            return None
        answer = self._call(strategy.prepare(request).body)
        return {
            **self._common(task), "kind": "answer", "query_id": task.query["id"],
            "variant": NO_SLEEP if task.level is None else self._variant,
            "query_kind": task.query.get("kind"), "strategy": task.strategy, "seed": task.seed,
            "temperature": body["temperature"], **answer,
            "quality": grade(task.context["dataset"], answer["answer"], task.query),
        }  # fmt: skip

    def _learned(self, task: Task) -> LearnedContext:
        sleep = self._journal.get(("sleep", task.context["id"], task.level_name, self._variant))
        if sleep is None:
            raise ValueError(f"{task.context['id']} has not slept at level {task.level_name}")
        return learned_of(sleep)

    def _call(self, body: dict[str, Any]) -> Row:
        began = time.perf_counter()
        first: float | None = None
        text, finish, usage = "", None, None
        chunks = self._client.chat.completions.create(
            **body, model=self._model, stream=True, stream_options={"include_usage": True}
        )
        for chunk in chunks:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                if choice.delta.content:
                    first = first or time.perf_counter()
                    text += choice.delta.content
        ended = time.perf_counter()
        if usage is None or finish is None:
            raise RuntimeError("the server ended a stream without a finish reason or usage")
        details = usage.prompt_tokens_details
        return {
            "answer": text,
            "finish_reason": finish,
            "input_tokens": usage.prompt_tokens,
            "cached_tokens": (details.cached_tokens or 0) if details else 0,
            "output_tokens": usage.completion_tokens,
            "latency_ms": round(1000 * (ended - began), 1),
            "ttft_ms": round(1000 * ((first or ended) - began), 1),
        }

    def _common(self, task: Task) -> Row:
        return {
            "dataset": task.context["dataset"], "split": task.context["split"],
            "context_id": task.context["id"], "model": self._model, "level": task.level_name,
        }  # fmt: skip


def learned_of(sleep: Row) -> LearnedContext:
    """The learned context that a recorded sleep wrote."""
    return LearnedContext(
        id=f"lc_{sleep['context_id']}", context_id=sleep["context_id"], version=1,
        level=sleep["level"], model=sleep["model"], text=sleep["text"],
        notes=tuple(Note(**note) for note in sleep["notes"]),
        tokens=estimated_tokens(sleep["text"]), cost_usd=None, created_at=0.0,
        usage=Usage(**{k: sleep[k] for k in ("input_tokens", "cached_tokens", "output_tokens")}),
        dropped=sleep["dropped"],
    )  # fmt: skip


def _digest(body: dict[str, Any]) -> str:
    whole = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]
