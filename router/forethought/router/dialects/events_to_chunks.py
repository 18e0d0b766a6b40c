"""Anthropic's events as a chat-completion stream.

The final ``[DONE]`` comes only after ``message_stop``: a stream that breaks off stays broken.
"""

from __future__ import annotations

import time
from typing import Any, Final

from forethought.router.dialects.base import Json
from forethought.router.dialects.events import EventCutter, openai_event
from forethought.router.dialects.faults import openai_fault, parsed
from forethought.router.dialects.usage import (
    chat_id,
    finish_reason,
    native_end,
    openai_tier,
    openai_usage,
)

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": ping\n\n"
"""A comment: readers of events skip it, but the connection is not idle."""

_THOUGHTS: Final = ("thinking", "redacted_thinking")
_OF_CHAT: Final = ("text", "tool_use", *_THOUGHTS)
_DELTAS: Final = ("text_delta", "input_json_delta", "thinking_delta", "signature_delta")


class EventsToChunks:
    """Translates the bytes of a stream as they come.

    Args:
        with_usage: The client asked for a last chunk with the usage.
    """

    def __init__(self, *, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._cutter = EventCutter()
        self._base: Json = {"object": "chat.completion.chunk", "created": int(time.time())}
        self._usage: Json = {}
        self._block: Json = {}
        self._last_kind: Any = None
        self._calls = -1
        self._empty_call = False

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the upstream; return those for the client."""
        return b"".join([self._event(data) for data in self._cutter.feed(chunk)])

    def rest(self) -> bytes:
        """What an event without an end still says, when no more bytes come."""
        data = self._cutter.rest()
        return self._event(data) if data else b""

    def _event(self, data: bytes) -> bytes:
        event = parsed(data)
        if not isinstance(event, dict):
            return b""
        kind = event.get("type")
        if kind == "error":
            return openai_event(openai_fault(event))
        if kind == "ping":
            return KEEP_ALIVE
        if kind == "message_start":
            return self._start(event.get("message") or {})
        if kind == "content_block_start":
            return self._begin(event.get("content_block") or {})
        if kind == "content_block_delta":
            return self._delta(event.get("delta") or {})
        if kind == "content_block_stop":
            return self._close()
        if kind == "message_delta":
            return self._end(event)
        return self._stop() if kind == "message_stop" else b""

    def _start(self, message: Json) -> bytes:
        self._base |= {"id": chat_id(message.get("id")), "model": message.get("model")}
        self._count(message.get("usage"))
        return self._chunk({"role": "assistant", "content": ""})

    def _begin(self, block: Json) -> bytes:
        before, self._block = self._last_kind, dict(block)
        self._last_kind = kind = block.get("type")
        if kind == "tool_use":
            self._calls += 1
            self._empty_call = True
            function = {"name": block.get("name"), "arguments": ""}
            call = {"id": block.get("id"), "type": "function", "function": function}
            return self._chunk({"tool_calls": [{"index": self._calls, **call}]})
        if kind == "text":
            # Two texts in a row stay two, for who translates back.
            apart = self._native("content_block_stop") if before == "text" else b""
            return apart + (self._chunk({"content": block["text"]}) if block.get("text") else b"")
        if kind in _THOUGHTS:
            return b""
        return self._native("content_block_start", content_block=block)

    def _delta(self, delta: Json) -> bytes:
        kind = delta.get("type")
        known = self._block.get("type") in _OF_CHAT
        if not known or kind not in _DELTAS:
            return self._native("content_block_delta", delta=delta)
        if kind == "text_delta":
            return self._chunk({"content": delta.get("text", "")})
        if kind == "input_json_delta":
            return self._arguments(delta.get("partial_json"))
        if kind == "thinking_delta":
            text = str(delta.get("thinking", ""))
            self._block["thinking"] = str(self._block.get("thinking", "")) + text
            return self._chunk({"reasoning_content": text})
        if kind == "signature_delta":
            self._block["signature"] = delta.get("signature")
        return b""

    def _native(self, kind: str, **fields: Any) -> bytes:
        """What a chat completion has no word for, for clients that know Anthropic's."""
        return self._chunk({"anthropic_event": {"type": kind, **fields}})

    def _arguments(self, text: Any) -> bytes:
        if not text or self._block.get("type") != "tool_use":
            return b""
        self._empty_call = False
        return self._chunk(
            {"tool_calls": [{"index": self._calls, "function": {"arguments": text}}]}
        )

    def _close(self) -> bytes:
        block, self._block = self._block, {}
        if block.get("type") == "tool_use" and self._empty_call:
            # A call without arguments: clients parse them, and "" is not JSON.
            call = {"index": self._calls, "function": {"arguments": "{}"}}
            return self._chunk({"tool_calls": [call]})
        if block.get("type") in _THOUGHTS:
            return self._chunk({"thinking_blocks": [block]})
        return b"" if block.get("type") in _OF_CHAT else self._native("content_block_stop")

    def _end(self, event: Json) -> bytes:
        self._count(event.get("usage"))
        delta = event.get("delta") or {}
        if delta.get("stop_reason") is None:
            return b""
        return self._chunk({}, finish_reason(delta["stop_reason"]), **native_end(delta))

    def _stop(self) -> bytes:
        if not self._with_usage:
            return DONE
        usage = {"choices": [], "usage": openai_usage(self._usage)}
        return openai_event({**self._base, **usage, **openai_tier(self._usage)}) + DONE

    def _count(self, usage: Any) -> None:
        # Cumulative: what a later event names replaces what an earlier one said.
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _chunk(self, delta: Json, reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, **more}
        return openai_event({**self._base, "choices": [choice]})
