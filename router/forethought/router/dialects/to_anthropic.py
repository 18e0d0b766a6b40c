"""A chat-completion request as a Messages request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from forethought.router.context import check_messages
from forethought.router.dialects.base import (
    Json,
    Translated,
    a_string,
    an_object,
    objects,
    refused,
)
from forethought.router.dialects.parts import blocks_of
from forethought.router.dialects.sampling import sampled
from forethought.router.dialects.thinking import limited
from forethought.router.dialects.tools import (
    anthropic_choice,
    anthropic_id,
    anthropic_tools,
    parsed_arguments,
)

_USE_TOOLS: Final = "Use tools and tool_choice."
_REFUSED: Final[Mapping[str, str | None]] = {
    "functions": _USE_TOOLS,
    "function_call": _USE_TOOLS,
    "logprobs": None,
    "top_logprobs": None,
    "logit_bias": None,
    "audio": None,
    "web_search_options": "Name Anthropic's web search in tools.",
}
"""What changes the reply's form or meaning, so that leaving it out would be no answer to it."""

_LEFT_OUT: Final = frozenset(
    "frequency_penalty metadata moderation modalities prediction presence_penalty "
    "prompt_cache_key prompt_cache_options prompt_cache_retention seed store verbosity".split()
)
"""Wishes that Anthropic has no word for; a request is still answered without them."""

_TRANSLATED: Final = frozenset(
    "max_completion_tokens max_tokens messages model n parallel_tool_calls reasoning_effort "
    "response_format safety_identifier service_tier stop stream stream_options temperature "
    "thinking tool_choice tools top_k top_p user".split()
)
_TIERS: Final[Mapping[str, str]] = {
    "auto": "auto",
    "priority": "auto",
    "default": "standard_only",
    "standard_only": "standard_only",
}


def to_anthropic(body: Mapping[str, Any]) -> Translated:
    """Translate a chat-completion request.

    Raises:
        InvalidRequest: A field has no equal at Anthropic, or is wrong; it is named.
    """
    check_messages(body)
    _refuse(body)
    sent: Json = {"model": a_string(body.get("model"), "model")}
    done = Translated(sent)
    _messages(body["messages"], done)
    if body.get("tools"):
        sent["tools"] = anthropic_tools(body["tools"])
    choice = anthropic_choice(body)
    if choice is not None:
        sent["tool_choice"] = choice
    # What is in neither list is Anthropic's own, or unknown to us: that server shall say so.
    named = _TRANSLATED | _LEFT_OUT | _REFUSED.keys()
    sent |= {name: value for name, value in body.items() if name not in named}
    _form(body, sent)
    limited(body, sent, resumes_call=_resumes_call(body["messages"]), warnings=done.warnings)
    sampled(body, sent, done.warnings)
    _stops(body, done)
    _who_and_how(body, done)
    if body.get("stream"):
        sent["stream"] = True
    done.warnings += [f"{name}: left out" for name in sorted(_LEFT_OUT) if _says(body, name)]
    return done


def _refuse(body: Mapping[str, Any]) -> None:
    for name, remedy in _REFUSED.items():
        if body.get(name):
            raise refused(name, "has no equal at Anthropic", remedy)
    if body.get("n") not in (None, 1):
        raise refused("n", "has to be 1: Anthropic gives one answer a request")
    modalities = body.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        raise refused("modalities", "has no audio at Anthropic")


def _says(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    return value not in (None, False, 0, [], {}, ["text"])


def _messages(messages: Sequence[Json], done: Translated) -> None:
    system: list[Json] = []
    turns: list[Json] = []
    for i, message in enumerate(messages):
        param = f"messages[{i}]"
        leads = not turns and "native_role" not in message
        if leads and message["role"] in {"system", "developer"}:
            system += blocks_of(message.get("content"), f"{param}.content", done.warnings)
            continue
        role, blocks = _turn(message, param, done.warnings)
        if message.get("name"):
            done.warnings.append(f"{param}.name: left out")
        if blocks:
            _append(turns, role, blocks)
            merged = message["role"] == "user" and len(turns[-1]["content"]) > len(blocks)
            done.asked = len(blocks) if merged else 0
        else:
            done.warnings.append(f"{param}: an empty message is left out")
    if not turns:
        raise refused("messages", "needs a user message for Anthropic")
    if system:
        # Always a list: a learned context is one more block, and what is before it stays the same.
        done.body["system"] = system
    done.body["messages"] = [{**turn, "content": _plain(turn["content"])} for turn in turns]


def _turn(message: Json, param: str, warnings: list[str]) -> tuple[str, list[Json]]:
    role = message["role"]
    if role == "assistant":
        return role, _said(message, param, warnings)
    if role == "tool":
        return "user", [_result(message, param, warnings)]
    if role not in {"user", "system", "developer"}:
        raise refused(f"{param}.role", f"{role!r} is none that Anthropic knows", _USE_TOOLS)
    blocks = blocks_of(message.get("content"), f"{param}.content", warnings)
    if message.get("native_role") == "system":
        return "system", blocks
    if role != "user":
        warnings.append(f"{param}: a {role} message in mid-conversation is sent as user")
    elif not blocks:
        raise refused(f"{param}.content", "is empty, which Anthropic does not take")
    return "user", blocks


def _append(turns: list[Json], role: str, blocks: list[Json]) -> None:
    """Add blocks; turns of one role in a row are one, as Anthropic sees them too."""
    if not turns or turns[-1]["role"] != role:
        turns.append({"role": role, "content": blocks})
        return
    # A turn has to begin with the results of the calls before it.
    turns[-1]["content"] = sorted(
        [*turns[-1]["content"], *blocks], key=lambda block: block.get("type") != "tool_result"
    )


def _plain(blocks: list[Json]) -> str | list[Json]:
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


def _said(message: Json, param: str, warnings: list[str]) -> list[Json]:
    if message.get("audio") or message.get("function_call"):
        name = "audio" if message.get("audio") else "function_call"
        raise refused(f"{param}.{name}", "has no equal at Anthropic")
    if message.get("anthropic_content"):
        return list(objects(message["anthropic_content"], f"{param}.anthropic_content"))
    blocks = list(objects(message.get("thinking_blocks"), f"{param}.thinking_blocks"))
    blocks += blocks_of(message.get("content"), f"{param}.content", warnings)
    if message.get("refusal"):
        blocks.append({"type": "text", "text": a_string(message["refusal"], f"{param}.refusal")})
    for j, call in enumerate(objects(message.get("tool_calls"), f"{param}.tool_calls")):
        where = f"{param}.tool_calls[{j}]"
        if call.get("type", "function") != "function":
            raise refused(f"{where}.type", "has no equal at Anthropic")
        function = an_object(call.get("function"), f"{where}.function")
        given = parsed_arguments(function.get("arguments"), f"{where}.function.arguments")
        name = a_string(function.get("name"), f"{where}.function.name")
        used = {"type": "tool_use", "id": anthropic_id(a_string(call.get("id"), f"{where}.id"))}
        mark = {"cache_control": call["cache_control"]} if call.get("cache_control") else {}
        blocks.append({**used, "name": name, "input": given, **mark})
    return blocks


def _result(message: Json, param: str, warnings: list[str]) -> Json:
    call_id = a_string(message.get("tool_call_id"), f"{param}.tool_call_id")
    result: Json = {"type": "tool_result", "tool_use_id": anthropic_id(call_id)}
    blocks = blocks_of(message.get("content"), f"{param}.content", warnings)
    if blocks:
        result["content"] = _plain(blocks)
    for name in ("is_error", "cache_control"):  # Anthropic's own, kept on the way through
        if message.get(name) is not None:
            result[name] = message[name]
    return result


def _resumes_call(messages: Sequence[Json]) -> bool:
    """Whether the last turn is a tool's result, and the call came without its thinking."""
    if messages[-1]["role"] != "tool":
        return False
    last = next((m for m in reversed(messages) if m["role"] == "assistant"), None)
    return last is not None and not last.get("thinking_blocks")


def _form(body: Mapping[str, Any], sent: Json) -> None:
    if body.get("response_format") is None:
        return
    given = an_object(body["response_format"], "response_format")
    if given.get("type") == "json_schema":
        named = an_object(given.get("json_schema"), "response_format.json_schema")
        schema = an_object(named.get("schema"), "response_format.json_schema.schema")
        config = an_object(sent.get("output_config", {}), "output_config")
        sent["output_config"] = {**config, "format": {"type": "json_schema", "schema": schema}}
    elif given.get("type") != "text":
        raise refused(
            "response_format.type",
            f"{given.get('type')!r} has no equal at Anthropic",
            "Use json_schema, which Claude 4.5 and later take.",
        )


def _stops(body: Mapping[str, Any], done: Translated) -> None:
    sent, warnings = done.body, done.warnings
    stop = body.get("stop")
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
            raise refused("stop", "has to be a string or a list of strings")
        kept = [one for one in stops if one.strip()]
        if len(kept) < len(stops):
            warnings.append("stop: Anthropic takes no stop sequence of blanks alone")
        if kept:
            sent["stop_sequences"] = kept


def _who_and_how(body: Mapping[str, Any], done: Translated) -> None:
    who = body.get("safety_identifier") or body.get("user")
    if who is not None:
        done.body["metadata"] = {"user_id": a_string(who, "safety_identifier")}
    tier = body.get("service_tier")
    if tier is None:
        return
    if isinstance(tier, str) and tier in _TIERS:
        done.body["service_tier"] = _TIERS[tier]
    else:
        done.warnings.append(f"service_tier: {tier!r} has no equal at Anthropic")
