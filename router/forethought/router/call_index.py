"""The ``index`` of streamed tool calls, for upstreams that leave it out.

OpenAI's clients put the pieces of a call together by it, and some servers send each call whole and
without one.
"""

from __future__ import annotations

from typing import Any


class CallIndex:
    """Numbers the calls of each choice in the order in which they begin."""

    def __init__(self) -> None:
        self._begun: dict[int, list[Any]] = {}
        """The ids of each choice's calls, by the choice's index."""

    def complete(self, chunk: dict[str, Any]) -> bool:
        """Put in what is missing; whether anything was."""
        changed = False
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            calls = delta.get("tool_calls") if isinstance(delta, dict) else None
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict) and not isinstance(call.get("index"), int):
                    begun = self._begun.setdefault(choice.get("index", 0), [])
                    call["index"] = self._index(begun, call)
                    changed = True
        return changed

    def _index(self, begun: list[Any], call: dict[str, Any]) -> int:
        name = call.get("id")
        if name in begun:
            return begun.index(name)
        function = call.get("function")
        # Without an id, a name begins a call too; a mere piece of arguments goes on with the last.
        begins = name or (isinstance(function, dict) and function.get("name"))
        if begins or not begun:
            begun.append(name or object())
        return len(begun) - 1
