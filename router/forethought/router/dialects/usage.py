"""Tokens, reasons to stop and ids, both ways.

OpenAI's prompt tokens include the cached ones, Anthropic's ``input_tokens`` do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from forethought.router.dialects.base import Json, count

_TO_FINISH: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_TO_STOP: Final[Mapping[str, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_TIERS: Final[Mapping[str, str]] = {
    "standard": "default",
    "priority": "priority",
    "batch": "batch",
}
_TO_TIERS: Final[Mapping[str, str]] = {theirs: ours for ours, theirs in _TIERS.items()}


def openai_usage(usage: Any) -> Json:
    """Anthropic's usage as OpenAI's."""
    read, written = (count(usage, f"cache_{what}_input_tokens") for what in ("read", "creation"))
    prompt = count(usage, "input_tokens") + read + written
    output = count(usage, "output_tokens")
    details = usage.get("output_tokens_details") if isinstance(usage, Mapping) else None
    written_by_age = usage.get("cache_creation") if isinstance(usage, Mapping) else None
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {
            "cached_tokens": read,
            "cache_write_tokens": written,
            # No word of OpenAI's, but these cost more than the others.
            "cache_write_1h_tokens": count(written_by_age, "ephemeral_1h_input_tokens"),
        },
        "completion_tokens_details": {"reasoning_tokens": count(details, "thinking_tokens")},
    }


def anthropic_usage(usage: Any, tier: Any = None) -> Json:
    """OpenAI's usage, and the tier that served the reply, as Anthropic's."""
    prompt = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
    completion = usage.get("completion_tokens_details") if isinstance(usage, Mapping) else None
    read, written = count(prompt, "cached_tokens"), count(prompt, "cache_write_tokens")
    for_an_hour = min(written, count(prompt, "cache_write_1h_tokens"))
    return {
        "input_tokens": max(0, count(usage, "prompt_tokens") - read - written),
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - for_an_hour,
            "ephemeral_1h_input_tokens": for_an_hour,
        },
        "cache_read_input_tokens": read,
        "output_tokens": count(usage, "completion_tokens"),
        "output_tokens_details": {"thinking_tokens": count(completion, "reasoning_tokens")},
        **_anthropic_tier(tier),
    }


def finish_reason(stop_reason: Any) -> str:
    """OpenAI's word for why an answer ended."""
    return _TO_FINISH.get(str(stop_reason), "stop")


def native_end(delta: Mapping[str, Any]) -> Json:
    """What a choice says of Anthropic's own reason to stop, beside OpenAI's word for it."""
    said: Json = {"native_finish_reason": delta.get("stop_reason")}
    if delta.get("stop_sequence") is not None:
        said["stop_reason"] = delta["stop_sequence"]  # as vLLM names the matched sequence
    return said


def stop_of(choice: Mapping[str, Any]) -> Json:
    """Anthropic's ``stop_reason`` and ``stop_sequence`` of a finished choice."""
    reason = _TO_STOP.get(str(choice.get("finish_reason")), "end_turn")
    native, sequence = choice.get("native_finish_reason"), choice.get("stop_reason")
    if isinstance(native, str) and _TO_FINISH.get(native) == choice.get("finish_reason"):
        reason = native
    if reason in {"end_turn", "stop_sequence"} and isinstance(sequence, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": sequence}
    return {"stop_reason": reason, "stop_sequence": None}


def openai_tier(usage: Any) -> Json:
    """The tier that served a reply, where Anthropic's usage names it."""
    if not isinstance(usage, Mapping):
        return {}
    if usage.get("speed") == "fast":  # OpenAI's word for the same
        return {"service_tier": "fast"}
    tier = usage.get("service_tier")
    return {"service_tier": _TIERS[tier]} if isinstance(tier, str) and tier in _TIERS else {}


def _anthropic_tier(tier: Any) -> Json:
    if tier == "fast":
        return {"service_tier": "standard", "speed": "fast"}
    known = isinstance(tier, str) and tier in _TO_TIERS
    return {"service_tier": _TO_TIERS[tier]} if known else {}


def message_id(chat_id: Any) -> str:
    """A message's id for Anthropic's clients, from that of a chat completion."""
    return "msg_" + str(chat_id or "0").removeprefix("chatcmpl-").removeprefix("msg_")


def chat_id(message: Any) -> str:
    """A chat completion's id, from that of a message."""
    return f"chatcmpl-{message or '0'}"
