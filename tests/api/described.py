"""One reply of each kind that the server makes, for those who describe what a reply has to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.api.server import ApiServer
from tests.fake_anthropic import (
    RESET,
    FakeAnthropic,
    block,
    ended,
    event,
    message,
    started,
    text,
)
from tests.fake_upstream import FakeUpstreamServer

Json = dict[str, Any]

HELLO: Final = [{"role": "user", "content": "Grüße, 世界"}]
TOOLS: Final = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
NEWER_TOOLS: Final = [
    {"type": "function", "name": "weather", "strict": True, "parameters": {"type": "object"}}
]
USED: Final = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
THOUGHT: Final = {"type": "thinking", "thinking": "", "signature": ""}
CHATS: Final[dict[str, tuple[Json, str]]] = {
    "text": ({}, ""),
    "cut short": ({"max_tokens": 1}, ""),
    "tool calls": ({"tools": TOOLS}, "calls=2+interleaved"),
    "vote": ({"forethought": {"strategy": "vote:3"}}, ""),
    "cascade": ({"forethought": {"strategy": "cascade"}}, ""),
}
RESPONSES: Final[dict[str, tuple[Json, str]]] = {
    "text": ({"instructions": "Be kind.", "metadata": {"a": "b"}, "user": "u"}, ""),
    "cut short": ({"max_output_tokens": 1}, ""),
    "tool calls": ({"tools": NEWER_TOOLS, "tool_choice": "required"}, "calls=2+interleaved"),
    "turns": (
        {
            "input": [
                {"role": "developer", "content": "Be kind."},
                {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
                {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "Rain"},
            ],
            "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "temperature": 0,
            "top_p": 1,
            "parallel_tool_calls": False,
            "service_tier": "flex",
            "truncation": "disabled",
            "reasoning": {"effort": "low"},
            "prompt_cache_key": "k",
            "safety_identifier": "s",
        },
        "",
    ),
    "vote": ({"forethought": {"strategy": "vote:3"}}, ""),
    "broken": ({}, "drop"),
}
CLAUDE_STREAM: Final = (
    started() + event("ping")
    + block(0, THOUGHT, {"type": "thinking_delta", "thinking": "Hm."},
            {"type": "signature_delta", "signature": "s"})
    + text("Grü", "ße", index=1)
    + block(2, USED, {"type": "input_json_delta", "partial_json": '{"a": 1}'})
    + ended("tool_use")
)  # fmt: skip
CLAUDE_WHOLE: Final = message(
    {**THOUGHT, "thinking": "Hm.", "signature": "s"},
    {"type": "text", "text": "Grüße"},
    {**USED, "input": {"a": 1}},
    stop_reason="tool_use",
)


@dataclass(frozen=True, slots=True)
class Described:
    """A reply or an event, what it comes from, and the name of its schema at OpenAI."""

    case: str
    schema: str
    said: Any


def replies(folder: Path) -> Iterator[Described]:
    """Ask for each."""
    with ExitStack() as stack:
        fake = stack.enter_context(FakeUpstreamServer())
        claude = stack.enter_context(FakeAnthropic())
        server = stack.enter_context(
            ApiServer(folder / "a", upstream_base_url=fake.base_url, model="fake")
        )
        yield from _chats(server)
        yield from _responses(server)
        yield from _others(server)
        yield from _errors(server)
        server = stack.enter_context(
            ApiServer(
                folder / "b", upstream_base_url=claude.url, upstream_api="anthropic", model="c"
            )
        )
        yield from _by_claude(server, claude)


def _chats(server: ApiServer) -> Iterator[Described]:
    for name, (more, behaviour) in CHATS.items():
        body = {"messages": HELLO, **more}
        reply = server.chat(body, x_fake=behaviour)
        yield Described(f"chat, {name}", "CreateChatCompletionResponse", _good(reply).json())
        for options in (None, {"include_usage": True}):
            asked = {**body, "stream": True, "stream_options": options}
            reply = server.chat(asked, x_fake=behaviour)
            yield from _events(f"chat, {name}", "CreateChatCompletionStreamResponse", reply)


def _responses(server: ApiServer) -> Iterator[Described]:
    for name, (more, behaviour) in RESPONSES.items():
        body = {"model": "fake", "input": "Grüße, 世界", **more}
        if behaviour != "drop":
            reply = server.post("/v1/responses", body, x_fake=behaviour)
            yield Described(f"response, {name}", "Response", _good(reply).json())
        reply = server.post("/v1/responses", {**body, "stream": True}, x_fake=behaviour)
        yield from _events(f"response, {name}", "ResponseStreamEvent", reply)


def _others(server: ApiServer) -> Iterator[Described]:
    asked = {"model": "fake", "prompt": "x"}
    reply = server.post("/v1/completions", asked)
    yield Described("text completion", "CreateCompletionResponse", _good(reply).json())
    # Not its stream: OpenAI describes a last chunk only, whose finish_reason is never null.
    reply = server.post("/v1/embeddings", {"model": "fake", "input": ["a", "b"]})
    yield Described("embeddings", "CreateEmbeddingResponse", _good(reply).json())
    reply = server.http.get("/v1/models")
    yield Described("models", "ListModelsResponse", _good(reply).json())
    for name in ("fake", "forethought/auto"):
        reply = server.http.get(f"/v1/models/{name}")
        yield Described(f"model {name}", "Model", _good(reply).json())


def _errors(server: ApiServer) -> Iterator[Described]:
    wrong: list[tuple[str, str, Json, str]] = [
        ("no messages", "/v1/chat/completions", {"model": "fake"}, ""),
        ("no model", "/v1/embeddings", {"input": "x"}, ""),
        ("no path", "/v1/nothing", {}, ""),
        ("broken off", "/v1/chat/completions", {"model": "fake", "messages": HELLO}, "drop"),
        ("what the upstream refuses", "/v1/responses", {"model": "fake", "input": "x"},
         "status=429"),
    ]  # fmt: skip
    for name, path, body, behaviour in wrong:
        reply = server.post(path, body, x_fake=behaviour)
        assert reply.status_code >= 400
        yield Described(f"error, {name}", "ErrorResponse", reply.json())


def _by_claude(server: ApiServer, claude: FakeAnthropic) -> Iterator[Described]:
    chat: Json = {"model": "claude-haiku-4-5", "messages": HELLO, "max_tokens": 50}
    newer: Json = {"model": "claude-haiku-4-5", "input": "Hello", "max_output_tokens": 50}
    claude.says(CLAUDE_WHOLE)
    reply = server.chat(chat)
    yield Described("chat by Claude", "CreateChatCompletionResponse", _good(reply).json())
    claude.says(CLAUDE_WHOLE)
    reply = server.post("/v1/responses", newer)
    yield Described("response by Claude", "Response", _good(reply).json())
    usage = {"stream_options": {"include_usage": True}}
    for pieces, more in (((CLAUDE_STREAM,), usage), ((started(), text("x"), 0.1, RESET), {})):
        claude.streams(*pieces)
        reply = server.chat({**chat, "stream": True, **more})
        yield from _events("chat by Claude", "CreateChatCompletionStreamResponse", reply)
        claude.streams(*pieces)
        reply = server.post("/v1/responses", {**newer, "stream": True})
        yield from _events("response by Claude", "ResponseStreamEvent", reply)
    claude.says({"data": [{"type": "model", "id": "claude-haiku-4-5", "display_name": "Haiku",
                           "created_at": "2025-10-01T00:00:00Z"}], "has_more": False})  # fmt: skip
    yield Described("models by Claude", "ListModelsResponse", server.http.get("/v1/models").json())


def _good(reply: httpx2.Response) -> httpx2.Response:
    assert reply.status_code == 200, reply.text
    return reply


def _events(case: str, schema: str, reply: httpx2.Response) -> Iterator[Described]:
    assert _good(reply).headers["content-type"].startswith("text/event-stream")
    for line in reply.text.split("\n"):
        data = line.removeprefix("data: ")
        if line.startswith("data: ") and data != "[DONE]":
            said = json.loads(data)
            broken = "error" in said and schema != "ResponseStreamEvent"
            yield Described(f"{case}, streamed", "ErrorResponse" if broken else schema, said)
