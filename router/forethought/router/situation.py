"""What is known when a strategy is chosen, and the features that the predictors see of it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from forethought.models.features import (
    ArtefactFacts,
    ArtefactVector,
    ContextVector,
    FeatureExtractor,
    HistoryFacts,
    RequestFacts,
)
from forethought.models.history import NO_PRECEDENTS
from forethought.router.experience import Experience
from forethought.router.records import Context, LearnedContext, Usage
from forethought.router.strategies import STRATEGIES, Request

CHARS_PER_TOKEN: Final = 4.0
"""Length of a token before the upstream has counted it (English; GPT and Qwen vocabularies)."""

_CACHED: Final = 4096

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that is known when a strategy is chosen.

    ``surprisal`` of the query is NaN where it was not asked for in advance.
    """

    tenant: str
    model: str
    request: Request
    context: Context | None
    now: float
    forced: str | None = None
    provider_url: str | None = None
    surprisal: float = math.nan


class SituationFeatures:
    """Computes features; those of contexts and of learned contexts are kept for the next query.

    Without ``experience`` nothing is known of queries on other contexts.
    """

    def __init__(self, extractor: FeatureExtractor, experience: Experience | None = None) -> None:
        self._extractor = extractor
        self._experience = experience
        self._contexts: _Cache[ContextVector] = _Cache(_CACHED)
        self._artefacts: _Cache[ArtefactVector] = _Cache(_CACHED)

    def of(self, situation: Situation) -> dict[str, float]:
        """The features of a situation by name, without the strategy's own."""
        split, context = situation.request.split, situation.context
        vector = None
        if split.boundary is not None:
            vector = self._contexts.get(
                split.boundary.hash, lambda: self._extractor.context(split.context_text)
            )
        learned = situation.request.learned
        artefact = None
        if learned is not None:
            artefact = self._artefacts.get(
                learned.id, lambda: self._extractor.artefact(artefact_facts(learned))
            )
        body = situation.request.body
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        precedents = NO_PRECEDENTS
        if self._experience is not None:
            embedding = None if vector is None else vector.embedding
            precedents = self._experience.precedents(context, embedding, situation.tenant)
        history = HistoryFacts(precedents=precedents)
        if context is not None:
            last = context.last_query_at
            history = HistoryFacts(
                n_queries=context.n_queries,
                age_s=max(0.0, situation.now - context.created_at),
                seconds_since_last=math.nan if last is None else max(0.0, situation.now - last),
                precedents=precedents,
            )
        return self._extractor.decision(
            vector,
            split.query,
            artefact,
            history,
            RequestFacts(
                max_tokens=limit if isinstance(limit, int) else None,
                n_messages=len(body["messages"]),
                stream=bool(body.get("stream")),
                surprisal=situation.surprisal,
            ),
        )


def expected_inputs(situation: Situation) -> dict[str, Usage]:
    """Input tokens by strategy, estimated: the upstream has not counted them yet."""
    split, learned = situation.request.split, situation.request.learned
    prefix = 0 if split.boundary is None else round(split.boundary.size / CHARS_PER_TOKEN)
    query = round(len(split.query) / CHARS_PER_TOKEN) + 8
    again = situation.context is not None and situation.context.n_queries > 0
    notes = learned.tokens if learned is not None else 0
    plain = Usage(input_tokens=prefix + query, cached_tokens=prefix if again else 0)
    reading = Usage(
        input_tokens=prefix + notes + query, cached_tokens=prefix + notes if again else 0
    )
    return {n: reading if n.startswith("learned") else plain for n in STRATEGIES}


def artefact_facts(learned: LearnedContext) -> ArtefactFacts:
    """What the features need of a learned context."""
    notes = learned.notes
    return ArtefactFacts(
        n_notes=len(notes),
        n_questions=sum(1 for n in notes if n.answer is not None),
        mean_confidence=sum(n.confidence for n in notes) / len(notes) if notes else 0.0,
        verified_share=len(notes) / (len(notes) + learned.dropped) if notes else 0.0,
        tokens=learned.tokens,
        questions=tuple(n.text for n in notes if n.answer is not None),
    )


class _Cache(Generic[V]):
    """Least recently used values by key."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, V] = OrderedDict()

    def get(self, key: str, make: Callable[[], V]) -> V:
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = make()
            if len(self._values) > self._limit:
                self._values.popitem(last=False)
        else:
            self._values.move_to_end(key)
        return value
