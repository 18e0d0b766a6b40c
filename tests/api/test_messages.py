"""Anthropic's own SDK against the server, whose upstream speaks OpenAI's language."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from forethought.api.routes import messages
from tests.api.conftest import Serve
from tests.api.server import KEY, ApiServer
from tests.api.test_streams import until_logged
from tests.fake_upstream import FakeUpstreamServer

ASKED: dict[str, Any] = {
    "model": "fake",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Grüße, 世界"}],
}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Today's weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def claude(server: ApiServer) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def sent(server: ApiServer, body: dict[str, Any], **headers: str) -> Any:
    return server.post("/v1/messages", {**ASKED, **body}, **headers)


def events(text: str) -> list[dict[str, Any]]:
    found = []
    for event in text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_the_sdk_gets_a_message(claude: Anthropic, server: ApiServer) -> None:
    raw = claude.messages.with_raw_response.create(**ASKED, system="Be kind.")
    message = raw.parse()
    assert [(block.type, getattr(block, "text", "")) for block in message.content] == [
        ("text", "You said: Grüße, 世界")
    ]
    assert (message.stop_reason, message.role, message.model) == ("end_turn", "assistant", "fake")
    assert message.id.startswith("msg_")
    assert raw.headers["request-id"] == "fake-request"
    logged = server.logged_as(raw.headers["x-forethought-decision"])
    assert logged.outcome is not None
    assert logged.outcome.usage.output_tokens == message.usage.output_tokens == 4
    assert logged.decision.context_id is not None


def test_what_goes_upstream_is_a_chat_completion(
    claude: Anthropic, fake: FakeUpstreamServer
) -> None:
    more: dict[str, Any] = {
        "max_tokens": 7,
        "system": "Be kind.",
        "stop_sequences": ["END"],
        "tools": [WEATHER],
        "tool_choice": {"type": "any"},
        "metadata": {"user_id": "u-1"},
    }
    claude.messages.create(**{**ASKED, **more})
    body = fake.requests[-1].body
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (body["max_tokens"], body["stop"], body["tool_choice"]) == (7, ["END"], "required")
    assert body["tools"][0]["function"]["name"] == "weather"
    assert body["safety_identifier"] == "u-1"
    assert "authorization" not in fake.requests[-1].headers


@pytest.mark.parametrize("behaviour", ["", "split"], ids=["whole events", "cut anywhere"])
def test_a_stream_has_anthropics_events_in_anthropics_order(
    server: ApiServer, behaviour: str
) -> None:
    reply = sent(server, {"stream": True}, x_fake=behaviour)
    assert reply.headers["content-type"].startswith("text/event-stream")
    said = events(reply.text)
    kinds = [event["type"] for event in said]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert set(kinds[3:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    deltas = [event["delta"]["text"] for event in said[3:-3]]
    assert "".join(deltas) == "You said: Grüße, 世界"
    assert said[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert said[-2]["usage"]["output_tokens"] == 4


def test_the_sdk_reads_the_stream(claude: Anthropic) -> None:
    with claude.messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == "You said: Grüße, 世界"
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert (final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0)) == 2
    assert final.usage.output_tokens == 4


def test_the_outcome_of_a_stream_is_logged(server: ApiServer) -> None:
    outcome = server.logged(sent(server, {"stream": True})).outcome
    assert outcome is not None
    assert (outcome.status, outcome.finish_reason, outcome.usage.output_tokens) == ("ok", "stop", 4)


@pytest.mark.parametrize("behaviour", ["calls=2", "calls=2+interleaved", "calls=2+split"])
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_tool_calls(claude: Anthropic, behaviour: str, streamed: bool) -> None:
    more: dict[str, Any] = {"tools": [WEATHER], "extra_headers": {"x-fake": behaviour}}
    if streamed:
        with claude.messages.stream(**ASKED, **more) as stream:
            message = stream.get_final_message()
    else:
        message = claude.messages.create(**ASKED, **more)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [(call.id, call.name, call.input) for call in calls] == [
        ("call_0", "weather", {"city": "Zürich 0"}),
        ("call_1", "weather", {"city": "Zürich 1"}),
    ]
    assert message.stop_reason == "tool_use"


def test_a_tools_result_goes_upstream(claude: Anthropic, fake: FakeUpstreamServer) -> None:
    asked_after: dict[str, Any] = {
        "tools": [WEATHER],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"},
                {"type": "text", "text": "So?"},
            ]},
        ],
    }  # fmt: skip
    claude.messages.create(**{**ASKED, **asked_after})
    _, said, result, asked = fake.requests[-1].body["messages"]
    assert said["content"] == "I look."
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"city": "Ulm"}
    assert result == {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"}
    assert asked == {"role": "user", "content": "So?"}


def test_a_stream_that_breaks_off_ends_in_an_error_and_no_stop(
    server: ApiServer, claude: Anthropic
) -> None:
    reply = sent(server, {"stream": True}, x_fake="drop")
    said = events(reply.text)
    assert said[-1]["type"] == "error"
    assert said[-1]["error"]["type"] == "api_error"
    assert not {"message_stop", "message_delta"} & {event["type"] for event in said}
    outcome = server.logged(reply).outcome
    assert outcome is not None
    assert outcome.status == "upstream_error"
    with (
        pytest.raises(anthropic.APIStatusError),
        claude.messages.stream(**ASKED, extra_headers={"x-fake": "drop"}) as stream,
    ):
        stream.get_final_message()


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        pytest.param(400, "invalid_request_error", anthropic.BadRequestError, id="400"),
        pytest.param(401, "authentication_error", anthropic.AuthenticationError, id="401"),
        pytest.param(404, "not_found_error", anthropic.NotFoundError, id="404"),
        pytest.param(429, "rate_limit_error", anthropic.RateLimitError, id="429"),
        pytest.param(500, "api_error", anthropic.InternalServerError, id="500"),
        pytest.param(529, "overloaded_error", anthropic.InternalServerError, id="529"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_errors_of_the_upstream_have_anthropics_shape(
    claude: Anthropic, status: int, kind: str, error: type[anthropic.APIStatusError], streamed: bool
) -> None:
    with pytest.raises(error) as raised:
        claude.messages.create(
            **ASKED, stream=streamed, extra_headers={"x-fake": f"status={status}+retry-after=3"}
        )
    assert raised.value.status_code == status
    assert raised.value.request_id == "fake-request"
    assert raised.value.response.headers["retry-after"] == "3"
    said: Any = raised.value.body
    assert said["type"] == "error"
    assert said["error"] == {"type": kind, "message": "As asked."}


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        pytest.param({"max_tokens": None}, 400, "max_tokens", id="no limit"),
        pytest.param({"messages": []}, 400, "messages", id="no messages"),
        pytest.param({"model": 3}, 400, "model", id="no model"),
        pytest.param({"container": "c"}, 400, "container", id="Anthropic alone"),
        pytest.param(
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            400,
            "tools[0].type",
            id="server tool",
        ),
        pytest.param({"forethought": {"strategy": "magic"}}, 400, "magic", id="strategy"),
        pytest.param({"forethought": {"context": "ctx_no"}}, 404, "ctx_no", id="context"),
    ],
)
def test_bad_requests_name_their_field(
    server: ApiServer, body: dict[str, Any], status: int, names: str
) -> None:
    reply = sent(server, body)
    assert reply.status_code == status
    said = reply.json()
    assert said["type"] == "error"
    assert said["error"]["type"] == (
        "invalid_request_error" if status == 400 else "not_found_error"
    )
    assert names in said["error"]["message"]
    assert reply.headers["request-id"] == reply.headers["x-request-id"]


def test_what_is_left_out_is_named_in_a_header(server: ApiServer) -> None:
    marked = [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]
    reply = sent(server, {"system": marked, "speed": "fast"})
    assert "cache_control" in reply.headers["x-forethought-warning"]
    assert "speed" in reply.headers["x-forethought-warning"]
    assert "x-forethought-warning" not in sent(server, {}).headers


def test_who_wants_to_think_is_never_asked_for_few_words(server: ApiServer) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    reply = sent(server, {"max_tokens": 2000, "thinking": thinking})
    assert reply.headers["x-forethought-strategy"] == "direct"
    assert "thinking" in reply.headers["x-forethought-warning"]
    assert server.logged(reply).decision.propensity == 1


def test_both_ways_to_send_a_key(serve: Serve) -> None:
    server = serve(api_keys={"k-1": "one"})
    for headers in ({"x-api-key": "k-1"}, {"authorization": "Bearer k-1"}):
        assert server.http.post("/v1/messages", json=ASKED, headers=headers).status_code == 200
    for headers in ({}, {"x-api-key": "no"}):
        refused = server.http.post("/v1/messages", json=ASKED, headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"


def test_tokens_are_counted_roughly_and_said_to_be(claude: Anthropic) -> None:
    raw = claude.messages.with_raw_response.count_tokens(
        model="fake", messages=[{"role": "user", "content": "x" * 400}]
    )
    assert raw.parse().input_tokens == 100
    assert "estimated" in raw.headers["x-forethought-warning"]


def test_a_context_is_found_again_whichever_language_asks(server: ApiServer) -> None:
    system = "A farm has 12 hens. " * 20
    first = sent(server, {"system": system})
    marked = [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]
    again = sent(server, {"system": marked})
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "How many?"}]
    chat = server.chat({"messages": messages})
    ids = {reply.headers["x-forethought-context"] for reply in (first, again, chat)}
    assert len(ids) == 1


def test_pings_fill_the_silence(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "PING_EVERY_S", 0.02)
    said = events(sent(server, {"stream": True}, x_fake="gap=100").text)
    kinds = [event["type"] for event in said]
    assert kinds.count("ping") > 4
    assert kinds[-1] == "message_stop"


def test_a_client_that_hangs_up_ends_the_call_upstream(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    before = fake.disconnects
    headers = {"x-fake": "chunks=200+gap=20", "authorization": f"Bearer {KEY}"}
    body = {**ASKED, "max_tokens": 500, "stream": True}
    with server.http.stream("POST", "/v1/messages", json=body, headers=headers) as reply:
        decision_id = reply.headers["x-forethought-decision"]
        lines = reply.iter_lines()
        for _ in range(15):
            next(lines)
    logged = until_logged(server, decision_id)
    assert logged.outcome is not None
    assert logged.outcome.status == "cancelled"
    while fake.disconnects == before:
        time.sleep(0.01)


def test_models_are_listed_in_pages(claude: Anthropic, server: ApiServer) -> None:
    names = [one.id for one in server.openai.models.list().data]
    assert len(names) > 1
    assert names[-1] == "forethought/auto"
    assert [one.id for one in claude.models.list().data] == names
    first = claude.models.list(limit=1)
    assert (first.first_id, first.last_id, first.has_more) == (names[0], names[0], True)
    assert [one.id for one in claude.models.list(limit=1)] == names  # from page to page
    last = claude.models.list(before_id=names[-1], limit=1)
    assert [one.id for one in last.data] == [names[-2]]
    one = claude.models.retrieve("forethought/auto")
    assert (one.id, one.display_name) == ("forethought/auto", "forethought/auto")


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        pytest.param("/v1/models/none", 404, "not_found_error", id="unknown model"),
        pytest.param("/v1/models?after_id=none", 400, "invalid_request_error", id="unknown id"),
        pytest.param("/v1/models?limit=0", 400, "invalid_request_error", id="no page"),
    ],
)
def test_models_fail_in_anthropics_shape(
    server: ApiServer, path: str, status: int, kind: str
) -> None:
    reply = server.http.get(path, headers={"x-api-key": KEY, "anthropic-version": "2023-06-01"})
    assert (reply.status_code, reply.json()["error"]["type"]) == (status, kind)
    assert reply.headers["request-id"]
    assert "code" in server.http.get("/v1/models/none").json()["error"]
