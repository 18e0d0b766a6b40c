"""An upstream that does what a request's schemas ask for, as a capable model would."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.fake_upstream import Body, FakeUpstreamServer, message_texts

_QUOTED = re.compile(r"['\"“‘]([^'\"”’]+)['\"”’]")
_NUMBER = re.compile(r"-?\d+")


class Obedient(FakeUpstreamServer):
    """Calls the tool that it may, once, and writes the JSON that it should."""

    def calls(self, body: Body, asked: Mapping[str, str]) -> list[Body]:
        tools = [one["function"] for one in body.get("tools") or ()]
        choice = body.get("tool_choice")
        if isinstance(choice, dict):
            tools = [one for one in tools if one["name"] == choice["function"]["name"]]
        said = body["messages"][-1]
        if not tools or choice == "none" or said["role"] != "user":
            return super().calls(body, asked)
        prompt = message_texts(body)[-1]
        named = next((one for one in tools if one["name"] in prompt), tools[0])
        written = made(named.get("parameters") or {}, prompt)
        function = {"name": named["name"], "arguments": json.dumps(written, ensure_ascii=False)}
        return [{"index": 0, "id": "call_0", "type": "function", "function": function}]

    def answered(self, body: Body, asked: Mapping[str, str]) -> tuple[str, str]:
        form = body.get("response_format") or {}
        prompt = message_texts(body)[-1]
        if form.get("type") == "json_schema":
            schema = form["json_schema"]["schema"]
            return json.dumps(made(schema, prompt), ensure_ascii=False), "stop"
        if form.get("type") == "json_object":
            # The keys are what the prompt puts in quotation marks.
            return json.dumps(dict.fromkeys(_QUOTED.findall(prompt), "x")), "stop"
        return super().answered(body, asked)


def made(schema: Body, prompt: str) -> Any:
    """A value that fits ``schema``, of what ``prompt`` names."""
    return _made(schema, schema, iter(_NUMBER.findall(prompt)), prompt)


def _made(schema: Body, root: Body, numbers: Any, prompt: str) -> Any:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            fields = schema.get("properties") or {}
            return {n: _made(field, root, numbers, prompt) for n, field in fields.items()}
        case "array":
            return [_made(schema.get("items") or {}, root, numbers, prompt)]
        case "integer":
            return int(next(numbers, 1))
        case "number":
            return float(next(numbers, 1))
        case "boolean":
            return True
        case _:
            quoted = _QUOTED.search(prompt)
            return quoted[1] if quoted else "x"
