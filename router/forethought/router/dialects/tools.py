"""Tools and the choice among them, both ways."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from forethought.router.dialects.base import Json, a_string, an_object, cache_mark, objects, refused

_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9_-]")
_NO_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "none": "none", "required": "any"}


def anthropic_id(call_id: str) -> str:
    """A call's id with the characters that Anthropic takes."""
    return _NOT_IN_IDS.sub("_", call_id) or "_"


def anthropic_tools(tools: Any) -> list[Json]:
    """Functions as Anthropic's tools; Anthropic's own server tools stay as they are."""
    found = []
    for i, tool in enumerate(objects(tools, "tools")):
        kind = tool.get("type")
        if kind == "custom" and "custom" in tool:
            raise refused(f"tools[{i}].type", "is a kind of tool that Anthropic does not have")
        if kind != "function":
            found.append(tool)
            continue
        function = an_object(tool.get("function"), f"tools[{i}].function")
        sent: Json = {"name": a_string(function.get("name"), f"tools[{i}].function.name")}
        if function.get("description") is not None:
            sent["description"] = function["description"]
        sent["input_schema"] = function.get("parameters") or dict(_NO_PARAMETERS)
        known = {"name", "description", "parameters", "strict"}
        sent |= {name: value for name, value in function.items() if name not in known}
        if function.get("strict") is not None:
            sent["strict"] = function["strict"]
        found.append(sent | cache_mark(tool))
    return found


def openai_tools(tools: Any, *, native: bool, warnings: list[str]) -> list[Json]:
    """Anthropic's tools as functions."""
    found = []
    for i, tool in enumerate(objects(tools, "tools")):
        if tool.get("type") not in (None, "custom"):
            if not native:
                raise refused(f"tools[{i}].type", f"{tool['type']!r} needs an Anthropic upstream")
            found.append(tool)
            continue
        function: Json = {"name": a_string(tool.get("name"), f"tools[{i}].name")}
        if tool.get("description") is not None:
            function["description"] = tool["description"]
        schema = an_object(tool.get("input_schema"), f"tools[{i}].input_schema")
        function["parameters"] = schema
        if tool.get("strict") is not None:
            function["strict"] = tool["strict"]
        known = {"type", "name", "description", "input_schema", "strict", "cache_control"}
        more = {name: value for name, value in tool.items() if name not in known}
        if native:
            function |= more
        else:
            warnings += [f"tools[{i}].{name}: left out" for name in more]
        sent: Json = {"type": "function", "function": function}
        found.append(sent | (cache_mark(tool) if native else {}))
    return found


def anthropic_choice(body: Mapping[str, Any]) -> Json | None:
    """``tool_choice`` and ``parallel_tool_calls`` as Anthropic's one field."""
    choice, parallel = body.get("tool_choice"), body.get("parallel_tool_calls")
    sent: Json
    if choice is None:
        if parallel is not False or not body.get("tools"):
            return None
        sent = {"type": "auto"}
    elif isinstance(choice, str) and choice in _CHOICES:
        sent = {"type": _CHOICES[choice]}
    elif isinstance(choice, dict) and choice.get("type") == "function":
        function = an_object(choice.get("function"), "tool_choice.function")
        sent = {"type": "tool", "name": a_string(function.get("name"), "tool_choice.function.name")}
    else:
        raise refused(
            "tool_choice", "has no equal at Anthropic", "Use auto, none, required or a function."
        )
    if parallel is False and sent["type"] != "none":
        sent["disable_parallel_tool_use"] = True
    return sent


def openai_choice(choice: Any) -> Json:
    """Anthropic's ``tool_choice`` as ``tool_choice`` and ``parallel_tool_calls``."""
    if choice is None:
        return {}
    given = an_object(choice, "tool_choice")
    kind = given.get("type")
    sent: Json
    if kind == "tool":
        name = a_string(given.get("name"), "tool_choice.name")
        sent = {"tool_choice": {"type": "function", "function": {"name": name}}}
    else:
        word = next((ours for ours, theirs in _CHOICES.items() if theirs == kind), None)
        if word is None:
            raise refused("tool_choice.type", "is none of auto, any, tool, none")
        sent = {"tool_choice": word}
    if given.get("disable_parallel_tool_use") is not None:
        sent["parallel_tool_calls"] = not given["disable_parallel_tool_use"]
    return sent


def parsed_arguments(text: Any, param: str) -> Json:
    """A call's arguments, which OpenAI sends as text and Anthropic as an object."""
    try:
        said = json.loads(text) if text else {}
    except (TypeError, ValueError, RecursionError) as error:
        raise refused(param, "is not JSON") from error
    return an_object(said, param)
