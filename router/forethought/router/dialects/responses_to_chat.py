"""A request of OpenAI's Responses API as a chat completion.

What needs a server that remembers (``previous_response_id``, conversations, background runs) or
tools that OpenAI itself runs has no translation and is refused, by name and with the remedy.
Fields that are unknown here pass as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from forethought.router.dialects.base import (
    Json,
    Translated,
    a_string,
    an_object,
    objects,
    refused,
)

_STATEFUL: Final[Mapping[str, str]] = {
    "previous_response_id": "Send the earlier items in 'input'.",
    "conversation": "Send the earlier items in 'input'.",
    "prompt": "Send the prompt's text in 'instructions'.",
    "background": "Leave it out and wait for the reply, or stream it.",
    "context_management": "Leave it out.",
}
_NO_CHAT: Final = "needs an upstream with a Responses API of its own"
_SAME: Final = frozenset(
    "model temperature top_p user service_tier prompt_cache_key prompt_cache_retention "
    "safety_identifier parallel_tool_calls stream forethought".split()
)
_TRANSLATED: Final = frozenset(
    "instructions input max_output_tokens text reasoning tools tool_choice include top_logprobs "
    "stream_options store metadata truncation max_tool_calls".split()
)
_LOGPROBS: Final = "message.output_text.logprobs"


def untranslatable(body: Mapping[str, Any]) -> str | None:
    """The first field that only an upstream with a Responses API can serve; None without one."""
    for name in _STATEFUL:
        if body.get(name):
            return name
    for kind, items, known in (
        ("tools", body.get("tools"), ("function",)),
        ("input", body.get("input"), _ITEMS),
    ):
        for one in items if isinstance(items, list) else ():
            if isinstance(one, dict) and one.get("type", "message") not in known:
                return kind
    return None


def to_chat(body: Mapping[str, Any], *, takes_effort: bool) -> Translated:
    """The chat-completion body.

    Args:
        body: The client's; it is not changed.
        takes_effort: The model reasons by itself: its limit is ``max_completion_tokens``.

    Raises:
        InvalidRequest: A field is wrong, or has no translation.
    """
    for name, remedy in _STATEFUL.items():
        if body.get(name):
            raise refused(name, _NO_CHAT, remedy)
    done = Translated({k: v for k, v in body.items() if k not in _TRANSLATED | _STATEFUL.keys()})
    chat, warn = done.body, done.warnings.append
    chat["messages"] = _messages(body, done)
    if body.get("max_output_tokens") is not None:
        limit = "max_completion_tokens" if takes_effort else "max_tokens"
        chat[limit] = body["max_output_tokens"]
    _text(body.get("text"), chat)
    _reasoning(body.get("reasoning"), done)
    _tools(body, chat)
    _include(body, done)
    if body.get("store"):
        warn("store: the response is not kept")
    if body.get("truncation") == "auto":
        warn("truncation: nothing is cut off")
    if body.get("max_tool_calls") is not None:
        warn("max_tool_calls: it limits tools that OpenAI runs")
    if body.get("stream"):
        # The response's end says the usage, whether or not the client asked.
        chat["stream_options"] = {"include_usage": True}
    return done


def _messages(body: Mapping[str, Any], done: Translated) -> list[Json]:
    messages: list[Json] = []
    if body.get("instructions"):
        said = a_string(body["instructions"], "instructions")
        messages.append({"role": "system", "content": said})
    given = body.get("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise refused("input", "has to be a string or a list of items, not empty")
    for i, item in enumerate(objects(given, "input")):
        _item(item, f"input[{i}]", messages, done)
    return messages


def _item(item: Json, param: str, messages: list[Json], done: Translated) -> None:
    match item.get("type", "message"):
        case "message":
            messages.append(_message(item, param))
        case "function_call":
            call = {
                "id": a_string(item.get("call_id"), f"{param}.call_id"),
                "type": "function",
                "function": {
                    "name": a_string(item.get("name"), f"{param}.name"),
                    "arguments": a_string(item.get("arguments"), f"{param}.arguments"),
                },
            }
            # Calls of one turn are items of their own here, and one message there.
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            messages[-1].setdefault("tool_calls", []).append(call)
        case "function_call_output":
            messages.append(
                {
                    "role": "tool",
                    "tool_call_id": a_string(item.get("call_id"), f"{param}.call_id"),
                    "content": _content(item.get("output"), f"{param}.output"),
                }
            )
        case "reasoning":
            done.warnings.append("input: reasoning items are left out")
        case kind:
            raise refused(f"{param}.type", f"{kind!r} {_NO_CHAT}")


_ITEMS: Final = ("message", "function_call", "function_call_output", "reasoning")
_ROLES: Final = ("assistant", "developer", "system", "user")


def _message(item: Json, param: str) -> Json:
    role = item.get("role")
    if role not in _ROLES:
        raise refused(f"{param}.role", f"has to be one of {', '.join(_ROLES)}")
    return {"role": role, "content": _content(item.get("content"), f"{param}.content")}


def _content(content: Any, param: str) -> Any:
    if isinstance(content, str):
        return content
    parts = [_part(part, f"{param}[{i}]") for i, part in enumerate(objects(content, param))]
    if all(part["type"] == "text" and part.keys() <= {"type", "text"} for part in parts):
        # One string is what every server takes.
        return "".join(part["text"] for part in parts) if len(parts) == 1 else parts
    return parts


def _part(part: Json, param: str) -> Json:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": a_string(part.get("text"), f"{param}.text")}
        case "refusal":
            return {"type": "text", "text": a_string(part.get("refusal"), f"{param}.refusal")}
        case "input_image" if part.get("image_url"):
            url = {"url": a_string(part["image_url"], f"{param}.image_url")}
            detail = part.get("detail")
            return {"type": "image_url", "image_url": url | ({"detail": detail} if detail else {})}
        case "input_file" if not part.get("file_url"):
            named = {k: part[k] for k in ("file_id", "filename", "file_data") if part.get(k)}
            return {"type": "file", "file": named}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
        case kind:
            raise refused(f"{param}.type", f"{kind!r} as given {_NO_CHAT}")


def _text(text: Any, chat: Json) -> None:
    if text is None:
        return
    if an_object(text, "text").get("verbosity") is not None:
        chat["verbosity"] = text["verbosity"]
    form = text.get("format")
    if form is None:
        return
    kind = an_object(form, "text.format").get("type")
    if kind == "json_schema":
        named = {k: v for k, v in form.items() if k != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": named}
    elif kind != "text":
        chat["response_format"] = form


def _reasoning(reasoning: Any, done: Translated) -> None:
    if reasoning is None:
        return
    effort = an_object(reasoning, "reasoning").get("effort")
    if effort is not None:
        done.body["reasoning_effort"] = effort
    if reasoning.get("summary") or reasoning.get("generate_summary"):
        done.warnings.append("reasoning.summary: reasoning is not summarised")


def _tools(body: Mapping[str, Any], chat: Json) -> None:
    tools = []
    for i, tool in enumerate(objects(body.get("tools"), "tools")):
        if tool.get("type") != "function":
            raise refused(f"tools[{i}].type", f"{tool.get('type')!r} {_NO_CHAT}")
        tools.append(
            {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
        )
    if tools:
        chat["tools"] = tools
    choice = body.get("tool_choice")
    if choice is None:
        return
    if isinstance(choice, dict):
        kind = choice.get("type")
        if kind == "function":
            choice = {"type": "function", "function": {"name": choice.get("name")}}
        elif kind == "allowed_tools":
            named = [{"type": "function", "function": {"name": t.get("name")}}
                     for t in objects(choice.get("tools"), "tool_choice.tools")]  # fmt: skip
            allowed = {"mode": choice.get("mode", "auto"), "tools": named}
            choice = {"type": "allowed_tools", "allowed_tools": allowed}
        else:
            raise refused("tool_choice.type", f"{kind!r} {_NO_CHAT}")
    chat["tool_choice"] = choice


def _include(body: Mapping[str, Any], done: Translated) -> None:
    include = body.get("include") or []
    if not isinstance(include, list):
        raise refused("include", "has to be a list of strings")
    done.warnings += [f"include: {name} is not known here" for name in include if name != _LOGPROBS]
    if _LOGPROBS in include:
        done.body["logprobs"] = True
        if body.get("top_logprobs") is not None:
            done.body["top_logprobs"] = body["top_logprobs"]
