"""A chat completion as a response of OpenAI's Responses API."""

# ruff: noqa: TRY004 - a wrong type in a reply is a wrong value to us

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from forethought.router.context import text_of
from forethought.router.dialects.base import Json, count

_ECHOED: Final = (
    "instructions", "max_output_tokens", "max_tool_calls", "prompt_cache_key", "safety_identifier",
    "top_logprobs",
)  # fmt: skip
_ECHOED_IF_GIVEN: Final = ("user",)
_INCOMPLETE: Final[Mapping[str, str]] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}


def response(completion: Mapping[str, Any], asked: Mapping[str, Any]) -> Json:
    """The whole response to the request ``asked``.

    Raises:
        ValueError: The completion has no choice with a message.
    """
    choices = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        raise ValueError("it has no choice with a message")
    name = bare_id(completion.get("id"))
    output: list[Json] = []
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        output.append(reasoning_item(item_id("rs", name, len(output)), thought))
    parts: list[Json] = []
    if text := text_of(message.get("content")):
        parts.append(text_part(text, logprobs_of(first)))
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    calls = message.get("tool_calls") or []
    if parts or not calls:
        parts = parts or [text_part("", [])]
        output.append(message_item(item_id("msg", name, len(output)), parts))
    for call in calls:
        function = call.get("function") or {}
        output.append(
            call_item(
                item_id("fc", name, len(output)), call.get("id"), function.get("name"),
                str(function.get("arguments") or ""),
            )
        )  # fmt: skip
    return ended(
        begun(asked, completion), output, first.get("finish_reason"), completion.get("usage")
    )


def begun(asked: Mapping[str, Any], said: Mapping[str, Any]) -> Json:
    """The response in progress: what was ``asked``, and the id and model that were ``said``."""
    text = asked.get("text") or {}
    return {
        "id": f"resp_{bare_id(said.get('id'))}",
        "object": "response",
        "created_at": said.get("created") or int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        **{name: asked.get(name) for name in _ECHOED},
        **{name: asked[name] for name in _ECHOED_IF_GIVEN if asked.get(name) is not None},
        "metadata": asked.get("metadata") or {},
        "model": said.get("model") or asked.get("model"),
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None, **(asked.get("reasoning") or {})},
        "service_tier": said.get("service_tier") or "default",
        "store": False,
        "temperature": _or(asked.get("temperature"), 1.0),
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "top_p": _or(asked.get("top_p"), 1.0),
        "truncation": asked.get("truncation") or "disabled",
    }


def ended(
    response: Mapping[str, Any], output: Sequence[Json], finish_reason: Any, usage: Any
) -> Json:
    """The response at its end; cut off by a limit or a filter, it is incomplete."""
    why = _INCOMPLETE.get(str(finish_reason))
    status = "completed" if why is None else "incomplete"
    items = [
        {**item, "status": status} if item is output[-1] and item["type"] != "reasoning" else item
        for item in output
    ]
    done: Json = {"completed_at": int(time.time())} if why is None else {}
    # Described as an object that may be missing, not as one that may be null.
    if (spent := response_usage(usage)) is not None:
        done["usage"] = spent
    return {
        **response,
        **done,
        "status": status,
        "incomplete_details": None if why is None else {"reason": why},
        "output": items,
    }


def response_usage(usage: Any) -> Json | None:
    """A completion's usage in the words of Responses; None where it has none."""
    if not isinstance(usage, Mapping):
        return None
    prompt, output = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    read = usage.get("prompt_tokens_details")
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": count(read, "cached_tokens"),
            "cache_write_tokens": count(read, "cache_write_tokens"),
        },
        "output_tokens": output,
        "output_tokens_details": {
            "reasoning_tokens": count(usage.get("completion_tokens_details"), "reasoning_tokens")
        },
        "total_tokens": prompt + output,
    }


def message_item(name: str, parts: Sequence[Json], status: str = "completed") -> Json:
    """An assistant's message, an item of the output."""
    return {
        "id": name, "type": "message", "status": status, "role": "assistant",
        "content": list(parts),
    }  # fmt: skip


def text_part(text: str, logprobs: Sequence[Json]) -> Json:
    """Text, a part of a message."""
    return {"type": "output_text", "annotations": [], "logprobs": list(logprobs), "text": text}


def reasoning_item(name: str, text: str) -> Json:
    """Reasoning in the open, an item of the output."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": name, "type": "reasoning", "summary": [], "content": content}


def call_item(
    name: str, call_id: Any, function: Any, arguments: str, status: str = "completed"
) -> Json:
    """A call of a function, an item of the output."""
    return {
        "id": name, "type": "function_call", "status": status, "call_id": str(call_id or name),
        "name": str(function or ""), "arguments": arguments,
    }  # fmt: skip


def logprobs_of(choice: Mapping[str, Any]) -> list[Json]:
    """The log probabilities of a choice's tokens, where they were asked for."""
    said = choice.get("logprobs")
    tokens = said.get("content") if isinstance(said, Mapping) else None
    return [one for one in tokens if isinstance(one, dict)] if isinstance(tokens, list) else []


def bare_id(chat_id: Any) -> str:
    """A chat completion's id without its prefix."""
    return str(chat_id or "0").removeprefix("chatcmpl-")


def item_id(kind: str, name: str, index: int) -> str:
    """The id of the item at ``index`` of a response's output."""
    return f"{kind}_{name}_{index}"


def _or(value: Any, default: float) -> Any:
    return default if value is None else value
