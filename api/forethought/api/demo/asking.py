"""Ask, grade and judge: the demo as a client of the server.

Questions go out through the stock openai SDK; what Forethought adds (the decision behind an
answer, feedback, contexts, sleep) through ``forethought.client``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from openai import APIStatusError, OpenAI, OpenAIError

from forethought.api.demo.errors import DemoError
from forethought.api.demo.figures import Answer, Phase, Sleep
from forethought.api.demo.sample import MAX_TOKENS, PARALLEL, DemoContext, Question
from forethought.client import Context, Decision, Forethought, LearnedContext, decision_id
from forethought.router.grading import grade

TIMEOUT_S: Final = 600.0
POLL_S: Final = 0.25
API_KEY: Final = "forethought-demo"

Tick = Callable[[], None]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question to ask; ``strategy`` None leaves the choice to the router."""

    context: DemoContext
    question: Question
    strategy: str | None
    phase: Phase


class Asking(AbstractContextManager["Asking"]):
    """Asks a server. Contexts go side by side, the questions on one context in order."""

    def __init__(self, base_url: str, *, model: str | None = None) -> None:
        self._openai = OpenAI(base_url=base_url, api_key=API_KEY, timeout=TIMEOUT_S, max_retries=0)
        self.client = Forethought(
            base_url=base_url, api_key=API_KEY, timeout=TIMEOUT_S, max_retries=0
        )
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="demo")
        self.model = model or self._first_model()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not waiting: after Ctrl-C the threads end when the server, stopped next, hangs up.
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def all(self, asks: Sequence[Ask], *, tick: Tick) -> list[Answer]:
        """Ask, grade and send feedback; ``tick`` is called after each answer."""
        lanes: dict[str, list[Ask]] = {}
        for ask in asks:
            lanes.setdefault(ask.context.id, []).append(ask)

        def lane(todo: list[Ask]) -> list[Answer]:
            answers = []
            for ask in todo:
                answers.append(self._one(ask))
                tick()
            return answers

        return [
            answer for answers in self._side_by_side(lane, lanes.values()) for answer in answers
        ]

    def register(self, contexts: Sequence[DemoContext]) -> dict[str, Context]:
        """Register contexts, by the demo's ids, so that sleep waits until it is asked for."""

        def one(context: DemoContext) -> tuple[str, Context]:
            return context.id, self.client.contexts.create(messages=context.messages, sleep=False)

        return dict(self._side_by_side(one, contexts))

    def plans(self, contexts: dict[str, Context]) -> dict[str, dict[str, Any]]:
        """What the policy would do about sleep on each context."""

        def one(item: tuple[str, Context]) -> tuple[str, dict[str, Any]]:
            return item[0], self.client.contexts.plan(item[1].id)

        return dict(self._side_by_side(one, contexts.items()))

    def sleep(
        self, chosen: Sequence[DemoContext], contexts: dict[str, Context], *, tick: Tick
    ) -> list[tuple[Sleep, LearnedContext]]:
        """Sleep on each context and wait until all are done."""
        waiting = {context.id: context for context in chosen}
        for context in chosen:
            _calling("sleep", self.client.contexts.sleep, contexts[context.id].id)
        done = []
        while waiting:
            for name, context in list(waiting.items()):
                now = _calling("sleep", self.client.contexts.retrieve, contexts[name].id)
                status = now.sleep.status if now.sleep else "none"
                if status == "failed":
                    raise DemoError(f"Sleep on {name} failed; see the server's log.", param=name)
                if status == "done" and now.learned is not None:
                    del waiting[name]
                    done.append(self._slept(context, now))
                    tick()
            time.sleep(POLL_S)
        return done

    def decision(self, identifier: str) -> Decision:
        """One decision with its candidates and its outcome."""
        return _calling("decision", self.client.decisions.retrieve, identifier)

    def _slept(self, context: DemoContext, now: Context) -> tuple[Sleep, LearnedContext]:
        learned = _calling("sleep", self.client.contexts.learned, now.id).data
        newest = max(learned, key=lambda version: version.version)
        used = newest.usage
        return Sleep(
            dataset=context.dataset,
            context=context.id,
            context_id=now.id,
            n_notes=len(newest.notes),
            dropped=newest.dropped,
            tokens=newest.tokens,
            input_tokens=used.input_tokens if used else 0,
            cached_tokens=used.cached_tokens if used else 0,
            output_tokens=used.output_tokens if used else 0,
            cost_usd=newest.cost_usd,
        ), newest

    def _one(self, ask: Ask) -> Answer:
        began = time.perf_counter()
        wish = {} if ask.strategy is None else {"forethought": {"strategy": ask.strategy}}
        raw = self._openai.chat.completions.with_raw_response.create(
            model=self.model,
            messages=[*ask.context.messages, {"role": "user", "content": ask.question.text}],  # type: ignore[list-item]
            temperature=0,
            max_tokens=MAX_TOKENS[ask.question.dataset],
            extra_body=wish,
        )
        reply = raw.parse()
        latency_ms = 1000 * (time.perf_counter() - began)
        text = reply.choices[0].message.content or ""
        quality = grade(ask.question.dataset, text, ask.question.row)
        identifier = decision_id(raw)
        self.client.feedback.create(identifier, quality, source="demo grader")
        decision = self.client.decisions.retrieve(identifier)
        used = reply.usage
        details = used.prompt_tokens_details if used else None
        return Answer(
            phase=ask.phase,
            dataset=ask.question.dataset,
            context=ask.context.id,
            question=ask.question.id,
            strategy=decision.strategy,
            mode=decision.mode,
            propensity=decision.propensity,
            policy_version=decision.policy_version,
            decision_id=identifier,
            quality=quality,
            input_tokens=used.prompt_tokens if used else 0,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
            output_tokens=used.completion_tokens if used else 0,
            cost_usd=decision.outcome.cost_usd if decision.outcome else None,
            latency_ms=latency_ms,
        )

    def _first_model(self) -> str:
        models = _calling("models", self._openai.models.list).data
        if not models:
            raise DemoError("The server lists no model.", param="model", remedy="Name one: --model")
        return models[0].id

    def _side_by_side(self, call: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        futures: list[Future[Any]] = [self._pool.submit(call, item) for item in items]
        for future in futures:
            yield _calling("request", future.result)


def _calling(what: str, call: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call the server; what it complains of becomes the demo's one line."""
    try:
        return call(*args, **options)
    except APIStatusError as error:
        raise DemoError(f"The {what} was refused: {error.message}", param=what) from error
    except (OpenAIError, LookupError) as error:
        raise DemoError(f"The {what} failed: {error}", param=what) from error
