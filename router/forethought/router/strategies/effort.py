"""``effort:low`` and ``effort:high``: how much to think once the question is there.

A model with its own ``reasoning_effort`` gets that; any other is asked in words, by one more
message after the client's. The wish of a client that set an effort itself always wins.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from forethought.router.records import Message
from forethought.router.strategies.base import Prepared, Request

Level = Literal["low", "high"]

IN_WORDS: Final[dict[Level, str]] = {
    "low": "Reply with the final answer only, in as few words as possible.",
    "high": "Think step by step, then give the final answer on the last line, "
    "in the form `Answer: ...`.",
}

# A request that fixes the form of its answer leaves no room for words about effort.
_FIXED_FORM: Final = ("response_format", "grammar", "json_schema", "logprobs")


class Effort:
    """Ask for little or much test-time thinking."""

    def __init__(self, level: Level) -> None:
        self._level: Level = level

    @property
    def name(self) -> str:
        return f"effort:{self._level}"

    def excluded(self, request: Request) -> str | None:
        return effort_excluded(request, self._level)

    def prepare(self, request: Request) -> Prepared:
        body = dict(request.body)
        changes = add_effort(
            body, list(body["messages"]), self._level, native=request.native_effort
        )
        return Prepared(body, changes)


def effort_excluded(request: Request, level: Level) -> str | None:
    """Why no effort can be asked for, or None."""
    body = request.body
    if body.get("reasoning_effort") is not None or body.get("reasoning") is not None:
        return "the client set the effort itself"
    if body.get("tools") or body.get("functions"):
        return "the request has tools"
    if request.native_effort:
        return None
    for field in _FIXED_FORM:
        if body.get(field):
            return f"the request fixes the form of its answer ({field})"
    if (body.get("n") or 1) != 1:
        return "the request asks for several choices (n)"
    if body["messages"][-1].get("role") != "user":
        return "the last message is not the user's: words about effort would answer it"
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if level == "high" and isinstance(limit, int) and limit < MIN_TOKENS_HIGH:
        return f"the answer is limited to {limit} tokens, too few to think aloud"
    return None


MIN_TOKENS_HIGH: Final = 160
"""A judgement: half of the median length (300 tokens) of the 21 chains of thought recorded on
GSM8K (bench/recorded); below it most are cut off before their answer."""


def add_effort(
    body: dict[str, Any], messages: list[Message], level: Level, *, native: bool
) -> tuple[str, ...]:
    """Put ``messages`` and the wish for effort into ``body``; returns what was added."""
    body["messages"] = messages
    if native:
        body["reasoning_effort"] = level
        return (f"reasoning_effort={level}",)
    body["messages"] = [*messages, {"role": "user", "content": IN_WORDS[level]}]
    return (f"one message after the query: {IN_WORDS[level]!r}",)


def unasked_reason(request: Request) -> str | None:
    """Why words about effort should not be added unless the client asks for them, or None.

    They change the form of an answer, so they are kept to what a short answer can serve: a
    question on a context.
    """
    if request.native_effort:
        return None
    if request.split.boundary is None:
        return "without a context nothing tells which form of answer is wanted"
    if "?" not in request.split.query:
        return "the query is no question, so a short answer may not be what is wanted"
    return None
