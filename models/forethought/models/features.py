"""Features of a context, a query, a learned context and a strategy.

One code path for serving and for training: what was logged at decision time is what a model
is fitted on. A feature is a plain float with a fixed name, unit and range; values outside the
range are clipped into it. NaN means "does not apply": no context, no learned context, no
earlier query, no ``max_tokens``. The word lists are English; other languages get zeros.

``FeatureExtractor.context`` and ``.artefact`` are the slow parts (they embed whole texts) and
their results can be cached; ``.decision`` is what a request pays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forethought.models.embedding import Embedder, Embeddings
from forethought.models.feature_table import (
    ANCHORS,
    ARTEFACT_FEATURES,
    CONTEXT_FEATURES,
    DECISION_FEATURES,
    FEATURE_NAMES,
    FEATURE_VERSION,
    FEATURES,
    HISTORY_FEATURES,
    LEARNABLE_VERSIONS,
    QUERY_FEATURES,
    STRATEGY_FEATURES,
    Feature,
)
from forethought.models.history import NO_PRECEDENTS, Precedents

__all__ = [
    "ARTEFACT_FEATURES",
    "CONTEXT_FEATURES",
    "DECISION_FEATURES",
    "EMBEDDED_CHARS",
    "FEATURES",
    "FEATURE_NAMES",
    "FEATURE_VERSION",
    "HISTORY_FEATURES",
    "KNOWN_STRATEGIES",
    "LEARNABLE_VERSIONS",
    "MISSING",
    "QUERY_FEATURES",
    "STRATEGY_FEATURES",
    "ArtefactFacts",
    "ArtefactVector",
    "ContextVector",
    "Feature",
    "FeatureExtractor",
    "HistoryFacts",
    "RequestFacts",
    "decision_row",
    "matrix",
    "strategy_features",
]

EMBEDDED_CHARS: Final = 16_384
"""A longer context is embedded by its first and last halves of this, to bound the time (7 ms)."""

_LATEST: Final = 256
"""Queries whose embeddings are remembered: about as many as are being answered at once."""
_SHORT: Final = 4_096
"""Characters of a query up to which it is; some 1 MB in all."""

MISSING: Final = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactFacts:
    """What the router knows of a learned context; ``questions`` are the anticipated ones."""

    n_notes: int
    n_questions: int
    mean_confidence: float
    verified_share: float
    tokens: int
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFacts:
    """What came *before* this query: on this context (``seconds_since_last`` NaN if nothing), and
    what is remembered of that and of the tenant's other contexts.
    """

    n_queries: int = 0
    age_s: float = 0.0
    seconds_since_last: float = MISSING
    precedents: Precedents = NO_PRECEDENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What is known of the request beside the text.

    ``surprisal`` is that of the query, in nats a token, where it was asked for in advance.
    """

    max_tokens: int | None = None
    n_messages: int = 1
    stream: bool = False
    surprisal: float = MISSING


@dataclass(frozen=True, slots=True)
class ContextVector:
    """A context's features, its embedding (dim,) and its content words. Cacheable."""

    features: Mapping[str, float]
    embedding: NDArray[np.float32]
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class ArtefactVector:
    """A learned context's own features and its questions' embeddings (n, dim). Cacheable."""

    features: Mapping[str, float]
    questions: Embeddings


_STRATEGIES: Final[Mapping[str, tuple[float, float, float]]] = {
    "direct": (1.0, 0.0, 0.0),
    "effort:low": (0.0, 1.0, 0.0),
    "effort:high": (0.0, 2.0, 0.0),
    "learned:low": (0.0, 1.0, 1.0),
    "learned:high": (0.0, 2.0, 1.0),
}
KNOWN_STRATEGIES: Final = tuple(_STRATEGIES)
"""Those that have features of their own, and so a prediction."""
_STRATEGY_NAMES: Final = tuple(feature.name for feature in STRATEGY_FEATURES)
_ARTEFACT_NAMES: Final = tuple(feature.name for feature in ARTEFACT_FEATURES)
_DECISION_NAMES: Final = tuple(feature.name for feature in DECISION_FEATURES)
_ARTEFACT_COLUMNS: Final = slice(
    len(CONTEXT_FEATURES) + len(QUERY_FEATURES),
    len(CONTEXT_FEATURES) + len(QUERY_FEATURES) + len(ARTEFACT_FEATURES),
)
_NO_CONTEXT: Final = {feature.name: MISSING for feature in CONTEXT_FEATURES}
_NO_ARTEFACT: Final = dict.fromkeys(_ARTEFACT_NAMES, MISSING)
_RANGES: Final = {feature.name: (feature.low, feature.high) for feature in FEATURES}

_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?")
_SENTENCE_END: Final = re.compile(r"[.!?]+[\"”’')]*(?=\s|$)|\n\s*\n")
_MONEY: Final = re.compile(r"[$€£¥]|\bdollars?\b", re.IGNORECASE)
_PERCENT: Final = re.compile(r"%|\bpercent\b", re.IGNORECASE)
_CODE: Final = re.compile(r"[{}<>=]|;\s*$|```|\w\(|::", re.MULTILINE)
_QUESTION_WORD: Final = re.compile(
    r"\b(how\s+(?:many|much)|what|which|who|whom|whose|why|how|when|where)\b", re.IGNORECASE
)
_WH_FEATURES: Final = (
    "q_how_many",
    "q_what",
    "q_who",
    "q_why",
    "q_how",
    "q_when_where",
    "q_other",
)
_WH: Final[Mapping[str, str]] = {
    "what": "q_what",
    "which": "q_what",
    "who": "q_who",
    "whom": "q_who",
    "whose": "q_who",
    "why": "q_why",
    "how": "q_how",
    "when": "q_when_where",
    "where": "q_when_where",
}
_NUMBER_WORDS: Final = frozenset(
    "two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred thousand million once twice thrice double triple half third "
    "quarter dozen dozens times".split()
)
_AGGREGATES: Final = frozenset(
    "total altogether average mean sum difference combined remaining left more fewer less "
    "percentage percent ratio change increase decrease each per".split()
)
_STOP_WORDS: Final = frozenset(
    "a an and are as at be been by can could did do does for from had has have he her his how i if "
    "in is it its many me much my of on or our she so than that the their them then there these "
    "they this those to was we were what when where which who whom whose why will with would you "
    "your".split()
)


class FeatureExtractor:
    """Computes features with ``embedder``. Safe to share between threads."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._latest_queries = lru_cache(maxsize=_LATEST)(self._embedded)
        self._anchors: Embeddings | None = None

    def context(self, text: str) -> ContextVector:
        """Features and embedding of a context: about 1 ms for 2,000 characters. Cache it."""
        words = _WORD.findall(text)
        lower = [word.lower() for word in words]
        content = frozenset(lower) - _STOP_WORDS
        numbers = _NUMBER.findall(text)
        n_words, n_lines = len(words), sum(1 for line in text.splitlines() if line.strip())
        n_sentences = len([part for part in _SENTENCE_END.split(text) if part.strip()])
        n_number_words = sum(1 for word in lower if word in _NUMBER_WORDS)
        embedding = self.context_embedding(text)
        values = {
            "ctx_chars": len(text),
            "ctx_words": n_words,
            "ctx_sentences": n_sentences,
            "ctx_lines": n_lines,
            "ctx_numbers": len(numbers),
            "ctx_distinct_numbers": len(set(numbers)),
            "ctx_number_words": n_number_words,
            "ctx_number_density": _ratio(len(numbers) + n_number_words, n_words + len(numbers)),
            "ctx_money": len(_MONEY.findall(text)),
            "ctx_percent": len(_PERCENT.findall(text)),
            "ctx_quotes": sum(map(text.count, '"“”')),
            "ctx_questions": text.count("?"),
            "ctx_capitalised": _ratio(sum(1 for word in words if word[0].isupper()), n_words),
            "ctx_pipes": _ratio(text.count("|"), n_lines),
            "ctx_code": _ratio(len(_CODE.findall(text)), n_lines),
            "ctx_word_length": _ratio(sum(map(len, words)), n_words),
            "ctx_sentence_length": _ratio(n_words, n_sentences),
            "ctx_distinct_words": _ratio(len(content), n_words),
        }
        similarities = self._anchor_embeddings() @ embedding
        values.update(
            (f"ctx_like_{anchor}", float(similarity))
            for anchor, similarity in zip(ANCHORS, similarities, strict=True)
        )
        return ContextVector(features=_clipped(values), embedding=embedding, words=content)

    def context_embedding(self, text: str) -> NDArray[np.float32]:
        """The embedding of a context alone, (dim,)."""
        return self._embedded(_shortened(text))

    def query_embedding(self, text: str) -> NDArray[np.float32]:
        """The embedding of a query, (dim,). Short ones are remembered for a while.

        A query is embedded to decide on it, and told to the history when it has been answered.
        """
        return self._embedded(text) if len(text) > _SHORT else self._latest_queries(text)

    def artefact(self, facts: ArtefactFacts) -> ArtefactVector:
        """Embed the anticipated questions of a learned context. Cache it."""
        values = {
            "art_notes": facts.n_notes,
            "art_questions": facts.n_questions,
            "art_confidence": facts.mean_confidence,
            "art_verified": facts.verified_share,
            "art_tokens": facts.tokens,
        }
        return ArtefactVector(
            features=_clipped(values), questions=self._embedder.embed(facts.questions)
        )

    def decision(
        self,
        context: ContextVector | None,
        query: str,
        artefact: ArtefactVector | ArtefactFacts | None,
        history: HistoryFacts,
        request: RequestFacts,
    ) -> dict[str, float]:
        """Everything but the strategy's own features, by name, in ``DECISION_FEATURES`` order.

        Give an ``ArtefactVector`` where there is one: facts alone are embedded each time.
        """
        if isinstance(artefact, ArtefactFacts):
            artefact = self.artefact(artefact)
        words = [word.lower() for word in _WORD.findall(query)]
        content = frozenset(words) - _STOP_WORDS
        embedding = self.query_embedding(query)
        values = {
            "q_chars": len(query),
            "q_words": len(words),
            "q_numbers": len(_NUMBER.findall(query)),
            "q_questions": query.count("?"),
            "q_aggregates": sum(1 for word in words if word in _AGGREGATES),
            **dict.fromkeys(_WH_FEATURES, 0.0),
            _question_kind(query): 1.0,
            "q_context_cosine": MISSING,
            "q_context_overlap": MISSING,
            "q_past_similarity": history.precedents.similarity(embedding),
            "q_surprisal": request.surprisal,
            "req_max_tokens": MISSING if request.max_tokens is None else request.max_tokens,
            "req_messages": request.n_messages,
            "req_stream": request.stream,
        }
        if context is not None:
            values["q_context_cosine"] = float(context.embedding @ embedding)
            values["q_context_overlap"] = _ratio(len(content & context.words), len(content))
        history_values = {
            "hist_queries": history.n_queries,
            "hist_age_s": history.age_s,
            "hist_since_last_s": history.seconds_since_last,
            **history.precedents.values,
        }
        return {
            **(_NO_CONTEXT if context is None else context.features),
            **_clipped(values),
            **(_NO_ARTEFACT if artefact is None else _artefact_features(artefact, embedding)),
            **_clipped(history_values),
        }

    def _embedded(self, text: str) -> NDArray[np.float32]:
        embedding: NDArray[np.float32] = self._embedder.embed([text])[0]
        return embedding

    def _anchor_embeddings(self) -> Embeddings:
        # Two threads may both compute it: the result is the same.
        if self._anchors is None:
            self._anchors = self._embedder.embed(list(ANCHORS.values()))
        return self._anchors


def strategy_features(name: str) -> dict[str, float]:
    """The strategy's own features. Raises ValueError for a strategy without any."""
    return dict(zip(_STRATEGY_NAMES, _strategy_values(name), strict=True))


def decision_row(row: Mapping[str, float]) -> NDArray[np.float64]:
    """One decision's features in the order of ``DECISION_FEATURES``, (n,); NaN where it lacks one.

    What a row of ``matrix`` has beside the strategy's own features.
    """
    found = map(row.get, _DECISION_NAMES, repeat(MISSING))
    return np.fromiter(found, np.float64, len(_DECISION_NAMES))


def matrix(rows: Sequence[Mapping[str, float]], strategies: Sequence[str]) -> NDArray[np.float64]:
    """Model input of shape (n, len(FEATURES)): row i is ``rows[i]`` answered by ``strategies[i]``.

    Features that a row lacks are NaN. So are those of the learned context where the strategy
    does not read it: what it does not read cannot change its outcome.
    """
    if len(rows) != len(strategies):
        message = f"{len(rows)} rows but {len(strategies)} strategies"
        raise ValueError(message)
    out = np.empty((len(rows), len(FEATURES)), dtype=np.float64)
    n_decision = len(_DECISION_NAMES)
    own = np.array([_strategy_values(name) for name in strategies]).reshape(
        -1, len(_STRATEGY_NAMES)
    )
    previous: Mapping[str, float] | None = None
    decision = np.empty(n_decision)
    for index, row in enumerate(rows):
        # The candidates of one decision share one mapping: read it once.
        if row is not previous:
            decision = decision_row(row)
            previous = row
        out[index, :n_decision] = decision
    out[:, n_decision:] = own
    out[own[:, 2] == 0, _ARTEFACT_COLUMNS] = MISSING
    return out


def _artefact_features(
    artefact: ArtefactVector, query_embedding: NDArray[np.float32]
) -> dict[str, float]:
    values = {"art_similarity_max": MISSING, "art_similarity_top3": MISSING}
    if len(artefact.questions):
        similarities = artefact.questions @ query_embedding
        similarities.sort()
        nearest = similarities[-3:]
        values["art_similarity_max"] = float(nearest[-1])
        # As nearest.mean() would, in a quarter of its time.
        values["art_similarity_top3"] = float(np.add.reduce(nearest) / np.float32(len(nearest)))
    return {**artefact.features, **_clipped(values)}


def _question_kind(query: str) -> str:
    found = _QUESTION_WORD.search(query)
    if found is None:
        return "q_other"
    return _WH.get(found[1].lower(), "q_how_many")


def _strategy_values(name: str) -> tuple[float, float, float]:
    try:
        return _STRATEGIES[name]
    except KeyError:
        message = f"unknown strategy {name!r}; known: {', '.join(_STRATEGIES)}"
        raise ValueError(message) from None


def _clipped(values: Mapping[str, float]) -> dict[str, float]:
    return {
        name: float(value) if low <= value <= high else _bounded(value, low, high)
        for name, value in values.items()
        for low, high in (_RANGES[name],)
    }


def _bounded(value: float, low: float, high: float) -> float:
    # Not min/max alone: those would turn NaN into a bound.
    return value if math.isnan(value) else float(min(max(value, low), high))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _shortened(text: str) -> str:
    if len(text) <= EMBEDDED_CHARS:
        return text
    half = EMBEDDED_CHARS // 2
    return f"{text[:half]} {text[-half:]}"
