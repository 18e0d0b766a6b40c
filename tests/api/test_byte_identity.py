"""A conversation through the proxy and one without it: the same bytes come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.server import KEY, ApiServer
from tests.fake_anthropic import FakeAnthropic, block, ended, event, message, started, text
from tests.fake_upstream import FakeUpstreamServer

SYSTEM = {"role": "system", "content": "Grüße kommen aus dem Süden, 世界."}
TURNS: list[list[dict[str, Any]]] = [
    [SYSTEM, {"role": "user", "content": "Hello 👋"}],
    [
        SYSTEM,
        {"role": "user", "content": "Hello 👋"},
        {"role": "assistant", "content": "You said: Hello 👋"},
        {"role": "user", "content": [{"type": "text", "text": "And\u2028now?"}]},
    ],
]
CHATS: list[dict[str, Any]] = [
    {},
    {"max_tokens": 2},
    {"temperature": 1e-7, "seed": 7, "logit_bias": {"50256": -100}, "user": "ü"},
    {"frobnicate": {"deep": [1, None, 1.50, "\x7f"]}},
]
STREAMS: list[dict[str, Any]] = [
    *({**chat, "stream": True} for chat in CHATS),
    {"stream": True, "stream_options": {"include_usage": True}},
    {"stream": True, "stream_options": {"include_usage": False}},
]
BEHAVIOURS = ["", "split", "calls=2", "calls=2+interleaved", "status=429+retry-after=1"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, httpx2.Client]]:
    """The proxy before one upstream, and a client of its twin."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        FakeUpstreamServer() as behind,
        FakeUpstreamServer() as twin,
        ApiServer(
            folder, upstream_base_url=behind.base_url, model="fake", upstream_responses=True
        ) as server,
        httpx2.Client(
            base_url=twin.base_url.removesuffix("/v1"), trust_env=False, timeout=20
        ) as direct,
    ):
        yield server, direct


def both(
    pair: tuple[ApiServer, httpx2.Client], path: str, body: dict[str, Any], behaviour: str = ""
) -> tuple[httpx2.Response, httpx2.Response]:
    server, direct = pair
    headers = {"x-fake": behaviour, "authorization": f"Bearer {KEY}"}
    wish = {"x-forethought-strategy": "direct"}
    proxied = server.http.post(path, json=body, headers={**headers, **wish})
    return proxied, direct.post(path, json=body, headers=headers)


def assert_same(proxied: httpx2.Response, direct: httpx2.Response) -> None:
    assert proxied.content == direct.content
    assert proxied.content
    assert proxied.status_code == direct.status_code
    assert proxied.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_chat_completions(pair: tuple[ApiServer, httpx2.Client], behaviour: str) -> None:
    for messages in TURNS:
        for more in [*CHATS, *STREAMS]:
            body = {"model": "fake", "messages": messages, **more}
            assert_same(*both(pair, "/v1/chat/completions", body, behaviour))


@pytest.mark.parametrize("behaviour", ["", "split", "status=503"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_text_completions(
    pair: tuple[ApiServer, httpx2.Client], behaviour: str, stream: bool
) -> None:
    body = {"model": "fake", "prompt": "Grüße, 世界", "stream": stream, "unknown_field": [1]}
    assert_same(*both(pair, "/v1/completions", body, behaviour))


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(pair: tuple[ApiServer, httpx2.Client], form: str) -> None:
    body = {"model": "fake", "input": ["ü", "世界"], "encoding_format": form}
    assert_same(*both(pair, "/v1/embeddings", body))


@pytest.mark.parametrize("behaviour", ["", "split", "status=503"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_responses_of_an_upstream_that_keeps_them(
    pair: tuple[ApiServer, httpx2.Client], behaviour: str, stream: bool
) -> None:
    body = {"model": "fake", "input": "Grüße, 世界", "stream": stream, "metadata": {"a": "b"}}
    assert_same(*both(pair, "/v1/responses", body, behaviour))


USED = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
THOUGHT = {"type": "thinking", "thinking": "", "signature": ""}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
ASKED: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": TURNS[0][1:]}


@pytest.fixture(scope="module")
def claude() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture(scope="module")
def before_claude(
    claude: FakeAnthropic, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("claude")
    with ApiServer(folder, upstream_base_url=claude.url, upstream_api="anthropic") as server:
        yield server


@pytest.mark.parametrize(
    ("said", "status"),
    [
        pytest.param(message({"type": "text", "text": "Grüße, 世界"}), 200, id="text"),
        pytest.param(
            message({**THOUGHT, "thinking": "Hm.", "signature": "s"}, {**USED, "input": {"a": 1.0}},
                    stop_reason="tool_use", unknown_field={"deep": [None]}),
            200, id="thoughts, a call, unknown fields",
        ),
        pytest.param({**OVERLOADED, "request_id": "req_fake"}, 529, id="an error"),
    ],
)  # fmt: skip
def test_messages(before_claude: ApiServer, claude: FakeAnthropic, said: Any, status: int) -> None:
    claude.says(said, status)
    reply = before_claude.post("/v1/messages", ASKED, x_forethought_strategy="direct")
    assert (reply.content, reply.status_code) == (json.dumps(said).encode(), status)
    outcome = before_claude.logged(reply).outcome
    assert outcome is not None
    assert outcome.usage.output_tokens == (9 if status == 200 else 0)


STREAM = (
    started() + event("ping")
    + block(0, THOUGHT, {"type": "thinking_delta", "thinking": "Hm."},
            {"type": "signature_delta", "signature": "s"})
    + text("Grü", "ße, 世界", index=1)
    + block(2, USED, {"type": "input_json_delta", "partial_json": '{"a": 1}'})
    + event("unknown_event", field=[1])
    + ended("tool_use")
)  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, len(STREAM)])
def test_messages_streamed(before_claude: ApiServer, claude: FakeAnthropic, size: int) -> None:
    claude.streams(*(STREAM[i : i + size] for i in range(0, len(STREAM), size)))
    asked = {**ASKED, "stream": True}
    reply = before_claude.post("/v1/messages", asked, x_forethought_strategy="direct")
    assert reply.content == STREAM
    outcome = before_claude.logged(reply).outcome
    assert outcome is not None
    assert (outcome.answer, outcome.finish_reason) == ("Grüße, 世界", "tool_calls")
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (125, 9)
