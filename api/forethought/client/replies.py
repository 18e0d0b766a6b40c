"""What Forethought's own endpoints answer.

As everywhere in the openai SDK, replies are read leniently: a field that this version does not
know is kept, and one that the server leaves out does not raise. Times are Unix seconds (UTC), money
is USD, lengths of time are milliseconds, as the names say. ``None`` means unknown, never zero.
"""

from __future__ import annotations

from typing import Any, Literal

from openai import BaseModel


class Usage(BaseModel):
    """Tokens of one or more upstream calls.

    ``input_tokens`` includes those read from a prompt cache and those written to one, of which
    ``cache_write_1h_tokens`` for an hour.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class Learned(BaseModel):
    """The newest learned context, in short; `contexts.learned` has the notes."""

    id: str
    version: int
    level: str
    tokens: int
    cost_usd: float | None = None
    n_notes: int = 0
    status: str | None = None


class SleepStatus(BaseModel):
    """How far the newest sleep on a context has come."""

    status: Literal["none", "queued", "running", "done", "failed"] = "none"


class Context(BaseModel):
    """A stable prefix that many queries share. ``learned`` is None until it was slept on."""

    id: str
    object: Literal["context"] = "context"
    hash: str
    created_at: float
    n_queries: int = 0
    registered: bool = False
    learned: Learned | None = None
    sleep: SleepStatus | None = None


class ContextDeleted(BaseModel):
    """The context and what was learned about it are gone."""

    id: str
    object: Literal["context.deleted"] = "context.deleted"
    deleted: bool


class SleepJob(BaseModel):
    """A sleep that was asked for: ``id`` is the context's."""

    id: str
    status: str


class Note(BaseModel):
    """One thing written asleep: a fact, a computed value, an inference or a foreseen question.

    ``confidence`` in [0, 1] is the share of independent drafts that agree; ``verified`` says that
    it passed a check.
    """

    kind: Literal["given", "computed", "inference", "question"]
    text: str
    answer: str | None = None
    derivation: str | None = None
    confidence: float = 0.0
    verified: bool = False


class LearnedContext(BaseModel):
    """One version of what sleep wrote about a context; ``text`` is what strategies add.

    ``usage`` and ``cost_usd`` are what the sleep consumed, ``dropped`` the notes that did not
    survive verification.
    """

    id: str
    version: int
    level: str
    model: str
    text: str
    notes: list[Note]
    tokens: int
    usage: Usage | None = None
    cost_usd: float | None = None
    created_at: float
    dropped: int = 0


class LearnedContexts(BaseModel):
    """All versions of a context's learned context."""

    object: Literal["list"] = "list"
    data: list[LearnedContext]


class Feedback(BaseModel):
    """A judgement that was recorded."""

    id: str
    object: Literal["feedback"] = "feedback"
    decision_id: str | None = None
    created_at: float | None = None
    quality: float | None = None
    source: str | None = None
    comment: str | None = None


class Candidate(BaseModel):
    """One strategy as predicted before the choice; ``excluded`` says why it could not be chosen.

    ``quality_low`` and ``quality_high`` are the 90% interval of ``quality``. Nine answers in ten
    stay below ``output_tokens_p90`` and ``latency_ms_p90``. ``offset`` is what your own graded
    answers added to the policy's quality, in log-odds, give or take ``offset_sd``: ``graded`` of
    them were this strategy's, right with a share of ``graded_right`` where the policy had predicted
    ``graded_predicted``.
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


class Bounds(BaseModel):
    """A prediction and its 90% interval."""

    mean: float
    low: float
    high: float


class Change(BaseModel):
    """``strategy`` would be the policy's choice if ``lever`` were ``becomes`` instead of ``was``.

    ``quality``, ``cost_usd`` and ``latency_ms`` are those predicted of ``strategy``; the other
    levers are the operator's preferences. ``words`` says it as the end of a sentence with "if".
    """

    strategy: str
    lever: str
    was: float
    becomes: float
    words: str


class ExplainedCandidate(Candidate):
    """One candidate with the reason why it was chosen or not, and with what would change that.

    ``within_bound``: whether it held the quality bound; None where that is not known. Half of the
    answers stay below ``output_tokens_p50`` and ``latency_ms_p50``; ``policy_quality`` is what was
    predicted before your own answers moved it.
    """

    output_tokens_p50: float | None = None
    latency_ms_p50: float | None = None
    policy_quality: float | None = None
    within_bound: bool | None = None
    verdict: str
    changes: list[Change]


class Contribution(BaseModel):
    """What one feature adds to a prediction; ``other_value`` is the other strategy's.

    ``value`` is None where the feature does not apply.
    """

    feature: str
    meaning: str
    unit: str
    value: float | None = None
    effect: float
    other_value: float | None = None


class Attribution(BaseModel):
    """A prediction taken apart: ``base`` + all effects + ``rest`` = ``total``, on ``scale``."""

    scale: str
    base: float
    total: float
    contributions: list[Contribution]
    rest: float = 0.0


class Difference(BaseModel):
    """What sets the predicted outcomes of two strategies apart: ``strategy`` less ``against``."""

    strategy: str
    against: str
    quality: Attribution
    output_tokens: Attribution
    latency_ms: Attribution


class Explanation(BaseModel):
    """Why a decision was made: ``text`` in sentences by subject, the rest in numbers.

    ``policys_choice`` is what the policy itself preferred, which differs from ``strategy`` where
    it explored or was not asked. ``missing`` lists what cannot be said, and why.
    """

    strategy: str
    policys_choice: str | None = None
    runner_up: str | None = None
    policy_version: str
    preferences: dict[str, Any] | None = None
    predictability: Bounds | None = None
    expected_queries: Bounds | None = None
    candidates: list[ExplainedCandidate]
    predictability_rests_on: Attribution | None = None
    difference: Difference | None = None
    missing: list[str]
    text: dict[str, list[str]]

    def __str__(self) -> str:
        """Return all of it in words, a line a thought."""
        return "\n".join(line for lines in self.text.values() for line in lines)


class Outcome(BaseModel):
    """What came of a decision. ``calls``: how many calls of the model the answer took; ``model``:
    the fallback that answered, None where it was the decision's own.
    """

    status: str
    http_status: int
    usage: Usage | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    finish_reason: str | None = None
    service_tier: str | None = None
    error: str | None = None
    calls: int | None = None
    model: str | None = None


class _Choice(BaseModel):
    context_id: str | None = None
    learned_context_id: str | None = None
    model: str
    strategy: str
    propensity: float
    mode: str
    policy_version: str
    reason: str
    predictability: float | None = None
    expected_queries: float | None = None
    candidates: list[Candidate]
    changes: list[str]
    explanation: Explanation | None = None

    def __str__(self) -> str:
        """Return the choice and its reason, in one line."""
        return f"{self.strategy} (p={self.propensity:.2f}, {self.mode}): {self.reason}"


class Decision(_Choice):
    """Why a request was answered the way it was.

    ``propensity`` is the probability with which ``strategy`` was chosen, ``reason`` the why in
    plain words, ``changes`` what was changed in the request. ``outcome`` is None until the answer
    ended, ``quality`` until there was feedback.
    """

    id: str
    object: Literal["decision"] = "decision"
    created_at: float
    features: dict[str, float]
    outcome: Outcome | None = None
    quality: float | None = None


class Route(_Choice):
    """What would be decided on a request, which was neither answered nor logged."""

    object: Literal["route"] = "route"


Plan = dict[str, Any]
"""What the server would do about a context's sleep, and why."""
