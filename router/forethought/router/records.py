"""The router's data types: what is decided, done, learned and logged.

Frozen and slotted, JSON-able by ``dataclasses.asdict``. Times are Unix seconds (UTC),
money is USD, lengths of time are milliseconds, as the names say.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, Any]
"""One chat message in OpenAI's shape, unknown fields included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or more upstream calls.

    As OpenAI counts: ``input_tokens`` includes those read from a prompt cache
    (``cached_tokens``) and those written to one (``cache_write_tokens``, of which
    ``cache_write_1h_tokens`` for an hour); ``output_tokens`` includes the reasoning.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A stable prefix that many queries share, identified by ``(tenant, hash)``.

    ``messages`` is the raw context; ``text`` its plain text, on which features and sleep
    work. ``n_queries`` counts the queries seen so far.
    """

    id: str
    tenant: str
    hash: str
    messages: tuple[Message, ...]
    text: str
    created_at: float
    registered: bool = False
    n_queries: int = 0
    last_query_at: float | None = None
    auto_sleep: bool = True
    """Whether it may be slept on unasked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One entry of a learned context.

    ``kind``: ``given`` (a fact read off the context), ``computed`` (a value, with the
    ``derivation`` it was recomputed from), ``inference`` (a sentence) or ``question``
    (an anticipated question with its answer). ``confidence`` in [0, 1] is the share of
    independent drafts that agree; ``verified`` says that a check was passed.
    """

    kind: Literal["given", "computed", "inference", "question"]
    text: str
    answer: str | None = None
    derivation: str | None = None
    confidence: float = 0.0
    verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepLevel:
    """How much sleep-time compute: ``drafts`` parallel drafts, ``rounds`` rethink rounds."""

    drafts: int = 3
    rounds: int = 1

    @property
    def name(self) -> str:
        return f"k{self.drafts}r{self.rounds}"

    @classmethod
    def named(cls, name: str) -> SleepLevel:
        """The level of that ``name``. Raises ValueError where it is none."""
        match = re.fullmatch(r"k([1-9]\d*)r([1-9]\d*)", name)
        if match is None:
            message = f"a sleep level is k and r with whole numbers, such as k3r1, not {name!r}"
            raise ValueError(message)
        return cls(drafts=int(match[1]), rounds=int(match[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedContext:
    """The paper's c': what sleep wrote about a context. ``text`` is what strategies add.

    ``tokens`` is the length of ``text`` in tokens (estimated where no tokenizer is at
    hand). ``usage`` and ``cost_usd`` are what sleep consumed (cost None: price unknown).
    """

    id: str
    context_id: str
    version: int
    level: str
    model: str
    notes: tuple[Note, ...]
    text: str
    tokens: int
    usage: Usage
    cost_usd: float | None
    created_at: float
    dropped: int = 0
    """Notes that verification removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One strategy as seen at decision time: what was predicted, and its propensity.

    ``excluded`` is None for an admissible strategy, else the reason in plain words; an
    excluded strategy has propensity 0. ``quality_low`` and ``quality_high`` are the 90% interval of
    ``quality``; ``output_tokens_p90`` and ``latency_ms_p90`` are what nine answers in ten stay
    below. ``utility`` is None also for a predicted strategy that only the client could ask for, and
    for one that the latency limit excludes.

    ``offset`` is what the tenant's own graded answers added to the policy's quality, in log-odds,
    and ``offset_sd`` how sure of it one is (``blending``): quality and its interval have both in
    them. ``graded`` such answers of this strategy were right with a share of ``graded_right``
    where the policy had predicted ``graded_predicted``.
    """

    strategy: str
    quality: float | None = None
    quality_low: float | None = None
    quality_high: float | None = None
    output_tokens: float | None = None
    output_tokens_p90: float | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    latency_ms_p90: float | None = None
    utility: float | None = None
    propensity: float = 0.0
    excluded: str | None = None
    offset: float | None = None
    offset_sd: float | None = None
    graded: int | None = None
    graded_right: float | None = None
    graded_predicted: float | None = None

    def with_propensity(self, propensity: float) -> Candidate:
        """The same candidate with this propensity.

        As dataclasses.replace, in half its time: a decision does this for every candidate.
        """
        copy = object.__new__(Candidate)
        for name in self.__slots__:
            object.__setattr__(copy, name, getattr(self, name))
        copy.settle(propensity)
        return copy

    def settle(self, propensity: float) -> None:
        """Set the propensity in place, while nobody else has the candidate: its making ends here.

        A copy of every candidate would take a twentieth of a decision.
        """
        object.__setattr__(self, "propensity", propensity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One routing decision, queued for the log before the upstream is called.

    ``features`` are the values of ``forethought.models.features`` by name, without the
    strategy's own; ``candidates`` has one entry a known strategy. ``reason`` is the
    plain-words "why". ``mode``: how the strategy was chosen; ``recalled``: by a certain note,
    before any policy. ``preferences`` are those that were used, by name: settings change, and
    the why of this decision must not. ``predictability_low`` and ``_high`` are its 90% interval.
    """

    id: str
    created_at: float
    tenant: str
    context_id: str | None
    learned_context_id: str | None
    query: str
    model: str
    strategy: str
    propensity: float
    mode: Literal["greedy", "explored", "forced", "recalled", "fallback"]
    policy_version: str
    feature_version: str
    features: dict[str, float]
    candidates: tuple[Candidate, ...]
    predictability: float | None
    expected_queries: float | None
    reason: str
    changes: tuple[str, ...] = ()
    preferences: dict[str, Any] | None = None
    predictability_low: float | None = None
    predictability_high: float | None = None


def new_decision_id(at: float) -> str:
    """A new id for a decision made ``at`` (Unix seconds).

    It begins with the time, as UUIDv7 does: the log's indexes then grow at their end. Random ids
    touch pages all over them, which made storing a decision 1.5 times as dear in a log of 20,000.
    """
    return f"dec_{int(1000 * at) & 0xFFFF_FFFF_FFFF:012x}{secrets.token_hex(6)}"


OutcomeStatus = Literal["ok", "upstream_error", "timeout", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a decision. ``cost_usd`` is None where the price is unknown, never 0."""

    decision_id: str
    status: OutcomeStatus
    http_status: int
    usage: Usage
    cost_usd: float | None
    latency_ms: float
    ttft_ms: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    finished_at: float = 0.0
    service_tier: str | None = None
    """The tier that the upstream says it served the request at; its price counts."""
    answer: str | None = None
    """The answer's text, kept only where settings.log_text is on."""
    calls: int = 1
    """Upstream calls made, retries not counted: several for a vote, 0 for a recalled answer, one
    more for each fallback."""
    model: str | None = None
    """The fallback that answered, or failed last; None: the decision's own model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A judgement of one answer: ``quality`` in [0, 1], 1 is right."""

    id: str
    decision_id: str
    created_at: float
    quality: float
    source: str = "client"
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySurprisal:
    """How unlikely ``model`` found a decision's query after its context."""

    decision_id: str
    scored_at: float
    nats_per_token: float
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedAnswer:
    """An answer that was judged, beside what its policy had predicted of it.

    ``candidate`` is the decision's candidate of the strategy that answered.
    """

    decision_id: str
    tenant: str
    model: str
    context_id: str | None
    candidate: Candidate
    quality: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDecision:
    """A decision joined with its outcome and its latest feedback, as read from the log."""

    decision: Decision
    outcome: Outcome | None = None
    quality: float | None = None
    feedback: tuple[Feedback, ...] = field(default=())
