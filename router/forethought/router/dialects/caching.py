"""Marks for Anthropic's prompt cache on the part of a request that stays the same.

A mark says: all up to here may be cached. Where the client set one, it knows better.
"""

from __future__ import annotations

from typing import Any, Final

from forethought.router.dialects.base import Json

_MARK: Final = {"type": "ephemeral"}
_SYSTEM_MARKS: Final = 3
"""Anthropic takes four in a request, and one is for the messages."""

_CANNOT_BE_MARKED: Final = frozenset({"thinking", "redacted_thinking"})


def mark_stable_prefix(body: Json) -> Json:
    """A Messages request with marks after its tools and system, and before its last user turn.

    ``body`` is not changed. It comes back as it is where it has marks, or nothing is stable.
    """
    if is_marked(body):
        return body
    marked = dict(body)
    if body.get("system"):
        marked["system"] = _last_marked(body["system"])
    elif body.get("tools"):
        *first, last = body["tools"]
        marked["tools"] = [*first, {**last, "cache_control": dict(_MARK)}]
    messages = list(body["messages"])
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


def _last_marked(system: str | list[Json]) -> str | list[Json]:
    """Marks on the last blocks: the last may be a learned context, and what the client sent
    before it has to be found again without it.
    """
    if isinstance(system, str):
        return _marked(system)
    first, last = system[:-_SYSTEM_MARKS], system[-_SYSTEM_MARKS:]
    return [*first, *({**block, "cache_control": dict(_MARK)} for block in last)]


def _marked(content: str | list[Json]) -> str | list[Json]:
    if not content:
        return content
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    *first, last = blocks
    if last.get("type") in _CANNOT_BE_MARKED:
        return content
    return [*first, {**last, "cache_control": dict(_MARK)}]
