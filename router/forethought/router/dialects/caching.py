"""Marks for Anthropic's prompt cache on the part of a request that stays the same.

A mark says: all up to here may be cached. Where the client set one, it knows better.
"""

from __future__ import annotations

from typing import Any, Final

from forethought.router.dialects.base import Json

_MARK: Final = {"type": "ephemeral"}
_MAX_MARKS: Final = 4
"""Anthropic takes no more in a request."""

_CANNOT_BE_MARKED: Final = ("thinking", "redacted_thinking")


def mark_stable_prefix(body: Json, asked: int = 0) -> Json:
    """A Messages request with marks after its tools and system, and before its query.

    ``asked`` is how many blocks of the last turn are the query, where that turn holds more.
    ``body`` is not changed. It comes back as it is where it has marks, or nothing is stable.
    """
    if is_marked(body):
        return body
    marked = dict(body)
    in_turn = 2 if asked else 0
    left = _MAX_MARKS - in_turn - 1  # one is for the turn before the last
    if body.get("system"):
        marked["system"] = _last_marked(body["system"], left)
    elif body.get("tools"):
        *first, last = body["tools"]
        marked["tools"] = [*first, {**last, "cache_control": dict(_MARK)}]
    messages = list(body["messages"])
    if asked:
        turn = messages[-1]
        before, query = turn["content"][:-asked], turn["content"][-asked:]
        messages[-1] = {**turn, "content": [*_last_marked(before, in_turn), *query]}
        marked["messages"] = messages
    if len(messages) > 1:
        before = messages[-2]
        content = _marked(before["content"])
        messages[-2] = {**before, "content": content}
        marked["messages"] = messages
    return marked


def is_marked(value: Any) -> bool:
    """Whether a request has a cache mark anywhere but in a tool's own schema or input."""
    if isinstance(value, dict):
        if value.get("cache_control") is not None:
            return True
        inner = (value.get(name) for name in ("system", "tools", "messages", "content"))
        return any(map(is_marked, inner))
    return isinstance(value, list) and any(map(is_marked, value))


def _last_marked(blocks: list[Json], marks: int) -> list[Json]:
    """Marks on the last blocks: the last may be a learned context, and what the client sent
    before it has to be found again without it.
    """
    first, last = blocks[:-marks], blocks[-marks:]
    return [*first, *({**block, "cache_control": dict(_MARK)} for block in last)]


def _marked(content: str | list[Json]) -> str | list[Json]:
    if not content:
        return content
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    *first, last = blocks
    if last.get("type") in _CANNOT_BE_MARKED:
        return content
    return [*first, {**last, "cache_control": dict(_MARK)}]


def unmarked(body: Json) -> Json:
    """A chat-completion request without cache marks, for a server that does not know them."""
    if not is_marked(body):
        return body
    kept: Json = _without_marks(body)
    kept["messages"] = [
        {**message, "content": [*map(_without_marks, message["content"])]}
        if isinstance(message.get("content"), list)
        else message
        for message in map(_without_marks, body["messages"])
    ]
    if isinstance(body.get("tools"), list):
        kept["tools"] = [*map(_without_marks, body["tools"])]
    return kept


def _without_marks(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: kept for name, kept in value.items() if name != "cache_control"}
