"""The protocol of all strategies: one way each to answer a query.

A strategy turns the client's request into the request that goes upstream. It adds, and never
changes: the client's own messages, tools and fields stay as sent, and what was added is named.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from forethought.router.context import Split
from forethought.router.records import LearnedContext, Message
from forethought.router.upstream.base import UpstreamReply

Call = Callable[[Mapping[str, Any]], Awaitable[UpstreamReply]]
"""One upstream call with this body; what it uses is counted."""

Plan = Callable[[Call], Awaitable[UpstreamReply]]
"""Several calls, or none, and the reply they come to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A parsed request: the body that would go upstream unchanged, cut into its parts."""

    body: Mapping[str, Any]
    split: Split
    learned: LearnedContext | None = None
    native_effort: bool = False
    """Whether the model takes ``reasoning_effort`` itself (else effort is asked for in words)."""
    may_recall: bool = False
    """Whether the server lets notes answer without the model (its setting ``recall``)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The body to send, and what was added to the client's, in plain words.

    ``plan``: how to come to a reply where that is not sending ``body`` once.
    """

    body: dict[str, Any]
    changes: tuple[str, ...]
    plan: Plan | None = None


class Strategy(Protocol):
    """One way to answer a query; stateless."""

    @property
    def name(self) -> str: ...

    def excluded(self, request: Request) -> str | None:
        """Why this strategy cannot serve ``request``, in plain words; None where it can."""
        ...

    def prepare(self, request: Request) -> Prepared:
        """The request to send upstream."""
        ...


def insert_learned(request: Request) -> list[Message]:
    """The messages with the learned context put right after the stable prefix.

    Everything before it is byte-identical with and without it, so that the provider's prompt
    cache keeps hitting.
    """
    if request.learned is None or request.split.boundary is None:
        message = "insert_learned needs a learned context and a boundary to put it at"
        raise ValueError(message)
    at = request.split.boundary
    messages: list[Message] = list(request.body["messages"])
    if at.offset is None:
        messages.insert(at.index, {"role": "system", "content": request.learned.text})
        return messages
    whole = messages[at.index]
    text: str = whole["content"]
    messages[at.index] = {
        **whole,
        "content": f"{text[: at.offset]}{request.learned.text}\n\n{text[at.offset :]}",
    }
    return messages
