"""A Messages request as a chat-completion request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from forethought.router.context import check_messages
from forethought.router.dialects.base import Json, Translated, a_string, objects, refused
from forethought.router.dialects.caching import is_marked
from forethought.router.dialects.parts import content_of
from forethought.router.dialects.thinking import effort_of
from forethought.router.dialects.tools import openai_choice, openai_tools

_TRANSLATED: Final = frozenset(
    "max_tokens messages metadata model output_config service_tier stop_sequences stream system "
    "thinking tool_choice tools".split()
)
_SAME: Final = frozenset({"temperature", "top_p", "top_k", "forethought"})
"""Same name and meaning; top_k is known to most servers of open models."""

_NATIVE_ONLY: Final = frozenset(
    "container context_management inference_geo mcp_servers user_profile_id".split()
)
"""What only Anthropic can do, so that leaving it out would be no answer to it."""

_THOUGHTS: Final = ("thinking", "redacted_thinking")


def to_openai(
    body: Mapping[str, Any], *, native: bool = False, takes_effort: bool = True
) -> Translated:
    """Translate a Messages request.

    Args:
        body: The request.
        native: The upstream is an Anthropic one: what the chat form has no word for stays.
        takes_effort: The model takes ``reasoning_effort``; else a wish for it is reported.

    Raises:
        InvalidRequest: A field has no equal, or is wrong; it is named.
    """
    check_messages(body)
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < (0 if native else 1):
        raise refused("max_tokens", "has to be a positive number")
    sent: Json = {"model": a_string(body.get("model"), "model")}
    done = Translated(sent)
    _messages(body, done, native=native)
    sent["max_completion_tokens" if takes_effort and not native else "max_tokens"] = limit
    if body.get("tools"):
        sent["tools"] = openai_tools(body["tools"], native=native, warnings=done.warnings)
    sent |= openai_choice(body.get("tool_choice"))
    _effort_and_form(body, done, native=native, takes_effort=takes_effort)
    if body.get("stop_sequences"):
        sent["stop"] = body["stop_sequences"]
    _who_and_how(body, done)
    if body.get("stream") is not None:
        sent["stream"] = body["stream"]
    _rest(body, done, native=native)
    if not native and is_marked(body):
        done.warnings.append("cache_control: left out, the upstream is not Anthropic's")
    return done


def _rest(body: Mapping[str, Any], done: Translated, *, native: bool) -> None:
    for name, value in body.items():
        if name in _TRANSLATED or value is None:
            continue
        if native or name in _SAME:
            done.body[name] = value
        elif name in _NATIVE_ONLY:
            raise refused(name, "needs an Anthropic upstream")
        elif name != "cache_control":
            done.warnings.append(f"{name}: left out")


def _messages(body: Mapping[str, Any], done: Translated, *, native: bool) -> None:
    messages: list[Json] = []
    if body.get("system"):
        content = content_of(body["system"], "system", native=native, warnings=done.warnings)
        messages.append({"role": "system", "content": content})
    for i, message in enumerate(body["messages"]):
        param, role = f"messages[{i}]", message["role"]
        content = message.get("content")
        blocks = content if isinstance(content, str) else objects(content, f"{param}.content")
        if role == "assistant":
            messages.append(_said(blocks, param, done, native=native))
        elif role == "user":
            messages += _asked(blocks, param, done, native=native)
        elif role == "system":
            text = content_of(blocks, f"{param}.content", native=native, warnings=done.warnings)
            # In mid-conversation, which only the upstream can know to take.
            place = {"native_role": "system"} if native else {}
            messages.append({"role": "system", "content": text, **place})
        else:
            raise refused(f"{param}.role", f"{role!r} is neither user, assistant nor system")
    done.body["messages"] = messages


def _said(blocks: str | list[Json], param: str, done: Translated, *, native: bool) -> Json:
    if isinstance(blocks, str):
        return {"role": "assistant", "content": blocks}
    said: Json = {"role": "assistant", "content": None}
    thoughts = [block for block in blocks if block.get("type") in _THOUGHTS]
    if thoughts and native:
        said["thinking_blocks"] = thoughts
    elif thoughts:
        done.warnings.append(f"{param}.content: earlier thinking is left out")
    shown = [b for b in blocks if b.get("type") not in _THOUGHTS and b.get("type") != "tool_use"]
    if shown:
        where = f"{param}.content"
        said["content"] = content_of(shown, where, native=native, warnings=done.warnings)
    calls = [
        _call(block, f"{param}.content[{j}]", native=native)
        for j, block in enumerate(blocks)
        if block.get("type") == "tool_use"
    ]
    if calls:
        said["tool_calls"] = calls
    if not shown and not calls:
        said["content"] = ""
    if native and not _in_chat_order(blocks):
        said["anthropic_content"] = blocks
    return said


def _in_chat_order(blocks: list[Json]) -> bool:
    """Whether a turn is thoughts, then what is shown, then plain calls, as it is told again."""
    kinds = [block.get("type") for block in blocks]
    ranks = [0 if kind in _THOUGHTS else 2 if kind == "tool_use" else 1 for kind in kinds]
    return ranks == sorted(ranks) and not any(
        b.get("caller") or b.get("toolset_name") for b in blocks
    )


def _call(block: Json, param: str, *, native: bool) -> Json:
    call: Json = {
        "id": a_string(block.get("id"), f"{param}.id"),
        "type": "function",
        "function": {
            "name": a_string(block.get("name"), f"{param}.name"),
            "arguments": json.dumps(block.get("input") or {}, ensure_ascii=False),
        },
    }
    if native and block.get("cache_control"):
        call["cache_control"] = block["cache_control"]
    return call


def _asked(blocks: str | list[Json], param: str, done: Translated, *, native: bool) -> list[Json]:
    """A user's turn: the results of tools are messages of their own, before the rest."""
    if isinstance(blocks, str):
        return [{"role": "user", "content": blocks}]
    messages: list[Json] = []
    rest: list[Json] = []
    for j, block in enumerate(blocks):
        if block.get("type") != "tool_result":
            rest.append(block)
            continue
        result, pictures = _result(block, f"{param}.content[{j}]", done, native=native)
        messages.append(result)
        rest = [*rest, *pictures]
    if rest or not messages:
        where = f"{param}.content"
        content = content_of(rest, where, native=native, warnings=done.warnings)
        messages.append({"role": "user", "content": content})
    return messages


def _result(block: Json, param: str, done: Translated, *, native: bool) -> tuple[Json, list[Json]]:
    """A tool's message, and what of the result only a user's message can hold."""
    content = block.get("content")
    pictures: list[Json] = []
    if isinstance(content, list) and not native:
        blocks = objects(content, f"{param}.content")
        pictures = [one for one in blocks if one.get("type") != "text"]
        content = [one for one in blocks if one.get("type") == "text"]
        if pictures:
            done.warnings.append(f"{param}.content: what is no text follows as the user's")
    message: Json = {
        "role": "tool",
        "tool_call_id": a_string(block.get("tool_use_id"), f"{param}.tool_use_id"),
        "content": content_of(
            content or "", f"{param}.content", native=native, warnings=done.warnings
        ),
    }
    if block.get("is_error"):
        if native:
            message["is_error"] = True
        else:
            done.warnings.append(f"{param}.is_error: left out, its content has to say so")
    if native and block.get("cache_control"):
        message["cache_control"] = block["cache_control"]
    return message, pictures


def _effort_and_form(
    body: Mapping[str, Any], done: Translated, *, native: bool, takes_effort: bool
) -> None:
    config = body.get("output_config")
    form = config.get("format") if isinstance(config, dict) else None
    if isinstance(form, dict):
        named = {"name": "output", "schema": form.get("schema"), "strict": True}
        done.body["response_format"] = {"type": "json_schema", "json_schema": named}
    if native:  # back under its own name, to the token
        if body.get("thinking") is not None:
            done.body["thinking"] = body["thinking"]
        rest = {k: v for k, v in (config or {}).items() if k != "format"}
        if rest:
            done.body["output_config"] = rest
        return
    effort = effort_of(body, done.warnings)
    if effort is None:
        return
    if takes_effort:
        done.body["reasoning_effort"] = effort
    elif effort != "none":
        done.warnings.append("thinking: left out, the model takes no wish for it")


def _who_and_how(body: Mapping[str, Any], done: Translated) -> None:
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and metadata.get("user_id") is not None:
        done.body["safety_identifier"] = metadata["user_id"]
    tier = body.get("service_tier")
    if tier is not None:
        done.body["service_tier"] = "default" if tier == "standard_only" else tier
