"""Whole replies, both ways. Their bytes are the upstream's: what is no reply is a ValueError."""

# ruff: noqa: TRY004 - a wrong type in a reply is a wrong value to us

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from forethought.router.context import text_of
from forethought.router.dialects.base import Json
from forethought.router.dialects.usage import (
    anthropic_usage,
    chat_id,
    finish_reason,
    message_id,
    native_end,
    openai_tier,
    openai_usage,
    stop_of,
)

_THOUGHTS: Final = ("thinking", "redacted_thinking")
_OF_SERVER_TOOLS: Final = ("caller", "toolset_name")


def chat_completion(message: Mapping[str, Any]) -> Json:
    """Anthropic's message as a chat completion.

    Thinking comes as ``reasoning_content``, and with its signatures as ``thinking_blocks``,
    which belong into the next request's assistant message; blocks that only Anthropic knows,
    or in an order that a chat message cannot tell, also as ``anthropic_content``.
    """
    blocks = [b for b in message.get("content") or () if isinstance(b, dict)]
    texts = [str(b.get("text", "")) for b in blocks if b.get("type") == "text"]
    content = "".join(texts) if texts else None
    said: Json = {"role": "assistant", "content": content, "refusal": None}
    thoughts = [b for b in blocks if b.get("type") in _THOUGHTS]
    if thoughts:
        said["reasoning_content"] = "".join(str(b.get("thinking", "")) for b in thoughts)
        said["thinking_blocks"] = thoughts
    calls = [
        {
            "index": i,
            "id": block.get("id"),
            "type": "function",
            "function": {
                "name": block.get("name"),
                "arguments": json.dumps(block.get("input") or {}, ensure_ascii=False),
            },
        }
        for i, block in enumerate(b for b in blocks if b.get("type") == "tool_use")
    ]
    if calls:
        said["tool_calls"] = calls
    if not _fits_chat(blocks):
        said["anthropic_content"] = blocks
    choice = {
        "index": 0,
        "message": said,
        "logprobs": None,
        "finish_reason": finish_reason(message.get("stop_reason")),
        **native_end(message),
    }
    usage = message.get("usage")
    return {
        "id": chat_id(message.get("id")),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": message.get("model"),
        "choices": [choice],
        "usage": openai_usage(usage),
        **openai_tier(usage),
    }


def message(completion: Mapping[str, Any], *, show_thinking: bool) -> Json:
    """A chat completion as Anthropic's message.

    Args:
        completion: The reply.
        show_thinking: The client asked to see it.

    Raises:
        ValueError: The reply has no choice, or a call's arguments are no JSON object.
    """
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    said = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(said, dict):
        raise ValueError("the reply has no message")
    calls = said.get("tool_calls") or []
    blocks = said.get("anthropic_content")
    if not isinstance(blocks, list):
        blocks = _blocks(said, calls, show_thinking=show_thinking)
    end = stop_of(choice)
    # Some servers say "stop" although they call a tool; a client of Anthropic goes by this word.
    if calls and end["stop_reason"] == "end_turn":
        end["stop_reason"] = "tool_use"
    return {
        "id": message_id(completion.get("id")),
        "type": "message",
        "role": "assistant",
        "model": completion.get("model"),
        "content": blocks,
        **end,
        "usage": anthropic_usage(completion.get("usage"), completion.get("service_tier")),
    }


def _fits_chat(blocks: list[Json]) -> bool:
    """Whether a message's blocks can be told again from a chat message: thoughts, text, calls."""
    ranks = []
    for block in blocks:
        kind = block.get("type")
        if kind in _THOUGHTS:
            ranks.append(0)
        elif kind == "text" and not block.get("citations") and 1 not in ranks:
            ranks.append(1)
        elif kind == "tool_use" and not any(block.get(name) for name in _OF_SERVER_TOOLS):
            ranks.append(2)
        else:
            return False
    return ranks == sorted(ranks)


def _blocks(said: Mapping[str, Any], calls: list[Any], *, show_thinking: bool) -> list[Json]:
    blocks: list[Json] = _thoughts(said) if show_thinking else []
    text = text_of(said.get("content")) or said.get("refusal")
    if text:
        blocks.append({"type": "text", "text": text})
    return blocks + [_used(call) for call in calls]


def _thoughts(said: Mapping[str, Any]) -> list[Json]:
    blocks = said.get("thinking_blocks")
    if isinstance(blocks, list) and blocks:
        return list(blocks)
    text = said.get("reasoning_content") or said.get("reasoning")
    if not isinstance(text, str) or not text:
        return []
    return [{"type": "thinking", "thinking": text, "signature": ""}]


def _used(call: Any) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise ValueError("a tool call is no call of a function")
    given = json.loads(function.get("arguments") or "{}")
    if not isinstance(given, dict):
        raise ValueError("a tool call's arguments are no JSON object")
    return {
        "type": "tool_use",
        "id": call.get("id"),
        "name": function.get("name"),
        "input": given,
    }
