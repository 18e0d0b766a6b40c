"""A chat-completion stream as Anthropic's events, in Anthropic's order.

``message_start``, then one content block after the other (``content_block_start``, its deltas,
``content_block_stop``), ``message_delta`` with the reason to stop and the usage, and
``message_stop``. A stream that breaks off ends in ``error``: no stop is ever invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from forethought.router.dialects.base import Json
from forethought.router.dialects.chunks import ChunksTranslation
from forethought.router.dialects.events import anthropic_event
from forethought.router.dialects.faults import anthropic_error
from forethought.router.dialects.usage import anthropic_usage, message_id, stop_of

PING: Final = anthropic_event({"type": "ping"})


@dataclass(slots=True)
class _Call:
    """A tool call on its way. Calls after the first that is open wait for it to end."""

    id: Any
    name: Any
    arguments: list[str] = field(default_factory=list)


class ChunksToEvents(ChunksTranslation):
    """Translates into Anthropic's events.

    Args:
        show_thinking: The client asked to see it.
    """

    def __init__(self, *, show_thinking: bool) -> None:
        super().__init__()
        self._show_thinking = show_thinking
        self._started = False
        self._block = -1
        self._open: str | None = None
        self._calls: dict[int, _Call] = {}
        self._live: int | None = None
        self._late: list[str] = []
        self._stopped: Json | None = None
        self._tier: Any = None
        self._pieces = 0

    def _choice(self, choice: Json) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._thought(delta)
            for name in ("content", "refusal"):
                if isinstance(delta.get(name), str) and delta[name]:
                    self._text(delta[name])
            if isinstance(delta.get("anthropic_event"), dict):
                self._native(delta["anthropic_event"])
            calls = delta.get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict):
                    self._call(call)
        if isinstance(choice.get("finish_reason"), str):
            self._stopped = stop_of(choice)

    def _thought(self, delta: Json) -> None:
        if not self._show_thinking:
            return
        text = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(text, str) and text:
            if self._open != "thinking":
                self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            self._delta({"type": "thinking_delta", "thinking": text})
        blocks = delta.get("thinking_blocks")
        for block in blocks if isinstance(blocks, list) else ():
            if block.get("type") == "redacted_thinking":
                self._begin("redacted_thinking", block)
                self._close()
            elif block.get("signature"):
                if self._open != "thinking":
                    self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                self._delta({"type": "signature_delta", "signature": block["signature"]})
                self._close()

    def _text(self, text: str) -> None:
        self._pieces += 1
        if self._live is not None:
            self._late.append(text)
            return
        if self._open != "text":
            self._begin("text", {"type": "text", "text": ""})
        self._delta({"type": "text_delta", "text": text})

    def _call(self, call: Json) -> None:
        self._pieces += 1
        said = call.get("function")
        function: Mapping[str, Any] = said if isinstance(said, dict) else {}
        index = call.get("index", 0)
        known = self._calls.get(index)
        if known is None:
            known = self._calls[index] = _Call(call.get("id"), function.get("name"))
            if self._live is None:
                self._live = index
                self._begin_call(known)
        arguments = function.get("arguments")
        if isinstance(arguments, str) and arguments:
            if index == self._live:
                self._delta({"type": "input_json_delta", "partial_json": arguments})
            else:
                known.arguments.append(arguments)

    def _native(self, event: Json) -> None:
        """An event of Anthropic's that crossed the chat form as it was."""
        if event.get("type") == "content_block_start":
            self._live = None  # Anthropic's calls never take turns
            self._begin(str(event["content_block"].get("type")), event["content_block"])
        elif event.get("type") == "content_block_delta":
            if event["delta"].get("type") == "citations_delta" and self._open != "text":
                self._begin("text", {"type": "text", "text": ""})
            if self._open is not None:
                self._delta(event["delta"])
        elif event.get("type") == "content_block_stop":
            self._close()

    def _begin_call(self, call: _Call) -> None:
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        self._begin("tool_use", block)

    def _begin(self, kind: str, block: Json) -> None:
        self._close()
        self._block += 1
        self._open = kind
        self._say("content_block_start", index=self._block, content_block=block)

    def _delta(self, delta: Json) -> None:
        self._say("content_block_delta", index=self._block, delta=delta)

    def _close(self) -> None:
        if self._open is not None:
            self._say("content_block_stop", index=self._block)
            self._open = None

    @property
    def _finished(self) -> bool:
        return self._stopped is not None

    def _start(self, chunk: Json) -> None:
        self._tier = chunk.get("service_tier") or self._tier
        if self._started:
            return
        self._started = True
        started: Json = {
            "id": message_id(chunk.get("id")),
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model"),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            # Known at the end only; message_delta then says all of it.
            "usage": anthropic_usage(chunk.get("usage")),
        }
        self._say("message_start", message=started)
        self._out.append(PING)

    def _stop(self) -> None:
        for index, call in self._calls.items():
            if index != self._live:
                self._begin_call(call)
                if call.arguments:
                    arguments = "".join(call.arguments)
                    self._delta({"type": "input_json_delta", "partial_json": arguments})
        if self._late:
            self._begin("text", {"type": "text", "text": ""})
            self._delta({"type": "text_delta", "text": "".join(self._late)})
        self._close()
        end = self._stopped or {}
        if self._calls and end.get("stop_reason") == "end_turn":
            end["stop_reason"] = "tool_use"
        usage = anthropic_usage(self._usage or {"completion_tokens": self._pieces}, self._tier)
        self._say("message_delta", delta=end, usage=usage)
        self._say("message_stop")

    def _fail(self, error: Any, text: str) -> None:
        status = 502 if error is None else _status(error)
        self._out.append(anthropic_event(anthropic_error(status, text)))

    def _say(self, kind: str, **fields: Any) -> None:
        self._out.append(anthropic_event({"type": kind, **fields}))


def _status(error: Any) -> int:
    """The HTTP status that fits an error named in a stream."""
    said = error if isinstance(error, dict) else {}
    known = {
        "overloaded_error": 529,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "invalid_request_error": 400,
        "upstream_timeout": 504,
    }
    names = (said.get("code"), said.get("type"))
    return next((known[name] for name in names if isinstance(name, str) and name in known), 500)
