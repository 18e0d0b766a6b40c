"""Clients of both kinds in front of an Anthropic upstream, over real sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from forethought.api.settings import load_settings
from tests.api.server import KEY, ApiServer
from tests.fake_anthropic import RESET, FakeAnthropic, block, ended, event, message, started, text

MODEL = "claude-haiku-4-5"
COST_USD = (5 * 1.0 + 20 * 1.25 + 100 * 0.1 + 9 * 5.0) / 1e6
"""The fake's tokens (fresh, written, read, output) at the model's list prices."""
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Grüße"}]
WEATHER = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
USED = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm"}}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, FakeAnthropic]]:
    folder = tmp_path_factory.mktemp("server")
    with (
        FakeAnthropic() as fake,
        ApiServer(
            folder,
            upstream_base_url=fake.url,
            upstream_api="anthropic",
            upstream_api_key="sk-ours",
            upstream_max_retries=1,
            model=MODEL,
        ) as server,
    ):
        yield server, fake


@pytest.fixture
def claude(shared: tuple[ApiServer, FakeAnthropic]) -> FakeAnthropic:
    shared[1].requests.clear()
    shared[1].replies.clear()
    return shared[1]


@pytest.fixture
def server(shared: tuple[ApiServer, FakeAnthropic], claude: FakeAnthropic) -> ApiServer:
    return shared[0]


@pytest.fixture
def sdk(server: ApiServer) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def chunks(body: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in body.split("\n\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def chat(server: ApiServer, **more: Any) -> Any:
    return server.chat({"model": MODEL, "messages": HELLO, **more})


def test_a_chat_completion_by_claude(server: ApiServer, claude: FakeAnthropic) -> None:
    claude.says(message(THOUGHT, {"type": "text", "text": "Hallo"}, USED, stop_reason="tool_use"))
    raw = server.openai.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}]
    )
    reply = raw.parse()
    said = reply.choices[0].message
    assert (said.content, reply.choices[0].finish_reason) == ("Hallo", "tool_calls")
    assert said.tool_calls is not None
    assert json.loads(said.tool_calls[0].function.arguments) == {"city": "Ulm"}  # type: ignore[union-attr]
    assert said.model_dump()["thinking_blocks"] == [THOUGHT]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 125
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 100
    assert raw.headers["x-request-id"] == "req_fake"
    assert "max_tokens" in raw.headers["x-forethought-warning"]
    (received,) = claude.requests
    assert received.path == "/v1/messages"
    assert "sk-ours" in received.headers["authorization"]
    outcome = server.logged_as(raw.headers["x-forethought-decision"]).outcome
    assert outcome is not None
    assert (outcome.usage.input_tokens, outcome.usage.cached_tokens) == (125, 100)
    assert (outcome.usage.cache_write_tokens, outcome.usage.reasoning_tokens) == (20, 4)
    assert outcome.service_tier == "default"
    assert outcome.cost_usd == pytest.approx(COST_USD)


def test_a_chat_stream_by_claude(server: ApiServer, claude: FakeAnthropic) -> None:
    arguments = [{"type": "input_json_delta", "partial_json": part} for part in ('{"ci', 'ty":1}')]
    whole = (
        started() + event("ping") + text("Grü", "ße")
        + block(1, {**USED, "input": {}}, *arguments)
        + block(2, {**USED, "id": "toolu_2", "input": {}})
        + ended("tool_use")
    )  # fmt: skip
    claude.streams(*(bytes([byte]) for byte in whole))  # each character in pieces
    reply = chat(server, stream=True, stream_options={"include_usage": True})
    said = chunks(reply.text)
    deltas = [chunk["choices"][0]["delta"] for chunk in said[:-1]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Grüße"
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 0, 0, 1, 1]
    written = [call["function"].get("arguments", "") for call in calls]
    assert ("".join(written[:3]), "".join(written[3:])) == ('{"city":1}', "{}")
    assert said[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert (said[-1]["choices"], said[-1]["usage"]["prompt_tokens"]) == ([], 125)
    assert reply.text.endswith("data: [DONE]\n\n")
    outcome = server.logged(reply).outcome
    assert outcome is not None
    assert outcome.service_tier == "default"
    assert outcome.cost_usd == pytest.approx(COST_USD)


@pytest.mark.parametrize(
    ("broken", "status"),
    [
        # A reset that comes at once makes the kernel drop what came before it.
        pytest.param((started() + text("Hal"), 0.1, RESET), "upstream_error", id="reset"),
        pytest.param((started() + text("Hal"),), "upstream_error", id="end without a stop"),
        pytest.param(
            (started() + text("Hal"), event("error", error=OVERLOADED["error"])),
            "upstream_error",
            id="error event",
        ),
    ],
)
def test_a_broken_stream_is_an_error_for_both(
    server: ApiServer,
    sdk: Anthropic,
    claude: FakeAnthropic,
    broken: tuple[bytes | float, ...],
    status: str,
) -> None:
    claude.streams(*broken)
    reply = chat(server, stream=True)
    assert "error" in chunks(reply.text)[-1]
    assert '"finish_reason":"stop"' not in reply.text
    outcome = server.logged(reply).outcome
    assert outcome is not None
    assert outcome.status == status
    claude.streams(*broken)
    body = {"model": MODEL, "max_tokens": 9, "messages": HELLO, "stream": True}
    ours = server.post("/v1/messages", body).text
    assert ours.rstrip().split("\n\n")[-1].startswith("event: error\n")
    assert "message_stop" not in ours
    claude.streams(*broken)
    with (
        pytest.raises(anthropic.APIStatusError),
        sdk.messages.stream(model=MODEL, max_tokens=9, messages=HELLO) as stream,  # type: ignore[arg-type]
    ):
        stream.get_final_message()


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_overload_is_retried_and_then_reported(
    server: ApiServer, sdk: Anthropic, claude: FakeAnthropic, streamed: bool
) -> None:
    claude.says(OVERLOADED, 529, retry_after_ms="10")
    claude.says(OVERLOADED, 529, retry_after_ms="10")
    reply = chat(server, stream=streamed)
    assert reply.status_code == 529
    assert reply.json()["error"] == {
        "message": "Overloaded", "type": "overloaded_error", "param": None,
        "code": "overloaded_error",
    }  # fmt: skip
    assert len(claude.requests) == 2
    claude.says(OVERLOADED, 529, retry_after_ms="10")
    claude.says(OVERLOADED, 529, retry_after_ms="10")
    with pytest.raises(anthropic.APIStatusError) as raised:
        sdk.messages.create(model=MODEL, max_tokens=9, messages=HELLO, stream=streamed)  # type: ignore[arg-type]
    assert (raised.value.status_code, raised.value.type) == (529, "overloaded_error")


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("header", "value"), [("retry_after_ms", "900"), ("retry_after", "1")])
def test_overload_is_waited_out_for_as_long_as_it_says(
    server: ApiServer, claude: FakeAnthropic, header: str, value: str, streamed: bool
) -> None:
    claude.says(OVERLOADED, 529, **{header: value})
    if streamed:
        claude.streams(started() + text("Hallo") + ended())
    else:
        claude.says(message({"type": "text", "text": "Hallo"}))
    began = time.monotonic()
    assert "Hallo" in chat(server, stream=streamed).text
    # Without the header the SDK would wait for half a second at most.
    assert 0.9 <= time.monotonic() - began < 6


def test_what_claude_cannot_do_is_refused_by_name(server: ApiServer, claude: FakeAnthropic) -> None:
    for stream in (False, True):
        reply = chat(server, n=2, stream=stream)
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "n"
    assert not claude.requests


def test_a_message_crosses_with_all_that_is_anthropics_own(
    server: ApiServer, sdk: Anthropic, claude: FakeAnthropic
) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 3000,
        "system": [{"type": "text", "text": "Be kind.", **mark}],
        "thinking": {"type": "enabled", "budget_tokens": 1500},
        "tools": [{**WEATHER, **mark}, {"type": "web_search_20250305", "name": "web_search"}],
        "top_k": 5,
        "metadata": {"user_id": "u"},
        "stop_sequences": ["END"],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [THOUGHT, USED]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True,
                     "content": "no", **mark},
                    {"type": "document", "source": {"type": "url", "url": "https://x.y/z.pdf"}},
                ],
            },
        ],
    }  # fmt: skip
    claude.says(message(THOUGHT, {"type": "text", "text": "Hallo"}))
    beta = {"anthropic-beta": "some-beta"}
    reply = server.post("/v1/messages", asked, **beta)
    assert claude.requests[-1].body == asked
    assert claude.requests[-1].headers["anthropic-beta"] == "some-beta"
    assert "x-forethought-warning" not in reply.headers
    said = reply.json()
    assert said["content"] == [THOUGHT, {"type": "text", "text": "Hallo"}]
    assert said["id"] == "msg_1"
    assert said["usage"]["cache_read_input_tokens"] == 100
    assert said["usage"]["cache_creation_input_tokens"] == 20
    assert said["usage"]["input_tokens"] == 5


def test_a_stream_with_thinking_crosses(sdk: Anthropic, claude: FakeAnthropic) -> None:
    thinking = [
        {"type": "thinking_delta", "thinking": "Hm."},
        {"type": "signature_delta", "signature": "sig"},
    ]
    opened = {"type": "thinking", "thinking": "", "signature": ""}
    claude.streams(started() + block(0, opened, *thinking) + text("Hallo", index=1) + ended())
    budget: Any = {"type": "enabled", "budget_tokens": 1024}
    more: dict[str, Any] = {"messages": HELLO, "thinking": budget}
    with sdk.messages.stream(model=MODEL, max_tokens=2000, **more) as stream:
        final = stream.get_final_message()
    assert [b.type for b in final.content] == ["thinking", "text"]
    assert getattr(final.content[0], "signature", None) == "sig"
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens) == (5, 100)
    assert final.usage.output_tokens == 9


CITED = {"type": "char_location", "cited_text": "x", "document_index": 0,
         "document_title": None, "start_char_index": 0, "end_char_index": 1}  # fmt: skip
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"q": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
SEARCHED: list[dict[str, Any]] = [
    {"type": "text", "text": "I look."}, SEARCH, FOUND, THOUGHT,
    {"type": "text", "text": "So", "citations": [CITED]}, {"type": "text", "text": "!"},
]  # fmt: skip


def test_what_only_anthropic_knows_crosses_in_its_order(
    server: ApiServer, claude: FakeAnthropic
) -> None:
    late = {"role": "system", "content": "Be brief."}
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 9,
        "messages": [*HELLO, {"role": "assistant", "content": SEARCHED}, late, *HELLO],
    }
    claude.says(message(*SEARCHED))
    assert server.post("/v1/messages", asked).json()["content"] == SEARCHED
    assert claude.requests[-1].body == asked


def test_what_only_anthropic_knows_crosses_as_a_stream(
    sdk: Anthropic, claude: FakeAnthropic
) -> None:
    query = {"type": "input_json_delta", "partial_json": '{"q":"x"}'}
    cited = {"type": "citations_delta", "citation": CITED}
    claude.streams(
        started(),
        text("I look."),
        block(1, {**SEARCH, "input": {}}, query),
        block(2, FOUND),
        block(3, {"type": "text", "text": ""}, cited, {"type": "text_delta", "text": "So"}),
        text("!", index=4),
        ended(),
    )
    more: dict[str, Any] = {"messages": HELLO}
    with sdk.messages.stream(model=MODEL, max_tokens=9, **more) as stream:
        content = stream.get_final_message().content
    kinds = ["text", "server_tool_use", "web_search_tool_result", "text", "text"]
    assert [one.type for one in content] == kinds
    assert getattr(content[1], "input", None) == {"q": "x"}
    assert [getattr(one, "text", "") for one in content[3:]] == ["So", "!"]
    assert [one.start_char_index for one in getattr(content[3], "citations", ())] == [0]


def test_tokens_are_counted_by_anthropic(sdk: Anthropic, claude: FakeAnthropic) -> None:
    claude.says({"input_tokens": 17})
    more: dict[str, Any] = {"messages": HELLO}
    assert sdk.messages.count_tokens(model="forethought/auto", **more).input_tokens == 17
    assert claude.requests[-1].path == "/v1/messages/count_tokens"
    assert claude.requests[-1].body == {"model": MODEL, "messages": HELLO}


def test_models_are_listed_as_openai_does(server: ApiServer, claude: FakeAnthropic) -> None:
    made = "2025-10-01T00:00:00Z"
    one = {"id": MODEL, "type": "model", "display_name": "Haiku", "created_at": made}
    claude.says({"data": [one], "has_more": False})
    listed = server.openai.models.list().data
    assert [one.id for one in listed] == [MODEL, "forethought/auto"]
    assert listed[0].owned_by == "anthropic"


def test_models_are_listed_as_anthropic_does(sdk: Anthropic, claude: FakeAnthropic) -> None:
    made = "2025-10-01T00:00:00Z"
    one = {"id": MODEL, "type": "model", "display_name": "Haiku", "created_at": made,
           "lifecycle": "deprecated", "max_tokens": 64_000}  # fmt: skip
    for _ in range(2):
        claude.says({"data": [one], "has_more": False})
    listed, auto = sdk.models.list().data
    assert listed.to_dict(mode="json") == one
    assert (auto.id, auto.type, auto.lifecycle) == ("forethought/auto", "model", "active")
    assert sdk.models.retrieve(MODEL).display_name == "Haiku"
    claude.says(OVERLOADED, 529, retry_after_ms="10")
    claude.says(OVERLOADED, 529, retry_after_ms="10")
    with pytest.raises(anthropic.APIStatusError) as raised:
        sdk.models.list()
    assert (raised.value.status_code, raised.value.type) == (529, "overloaded_error")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, False, id="embedded"),
        pytest.param({"upstream_base_url": "https://api.openai.com/v1"}, False, id="OpenAI"),
        pytest.param({"upstream_base_url": "https://api.anthropic.com"}, True, id="Anthropic"),
        pytest.param(
            {"upstream_base_url": "https://api.anthropic.com/v1", "upstream_api": "openai"},
            False,
            id="its OpenAI-compatible side",
        ),
        pytest.param(
            {"upstream_base_url": "http://10.0.0.1", "upstream_api": "anthropic"}, True, id="named"
        ),
    ],
)
def test_what_an_upstream_speaks(tmp_path: Path, settings: dict[str, Any], expected: bool) -> None:
    assert load_settings(data_dir=tmp_path, **settings).speaks_anthropic is expected
