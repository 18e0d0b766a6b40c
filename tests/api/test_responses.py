"""The openai SDK's Responses client against the server, whose upstream knows chat only."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from openai import InternalServerError, NotFoundError, OpenAI
from openai.types.responses import Response
from pydantic import BaseModel, TypeAdapter

from forethought.router.errors import InvalidRequest
from tests.api.conftest import Serve
from tests.api.server import ApiServer
from tests.api.test_streams import until_logged
from tests.fake_upstream import FakeUpstreamServer

HELLO = "Grüße, 世界"
WEATHER: dict[str, Any] = {
    "type": "function", "name": "weather", "description": "Today's", "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip


def sent(server: ApiServer, body: dict[str, Any], **headers: str) -> Any:
    return server.post("/v1/responses", {"model": "fake", "input": HELLO, **body}, **headers)


def events(text: str) -> list[dict[str, Any]]:
    found = []
    for event in text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [e["sequence_number"] for e in found] == list(range(len(found)))
    return found


def valid(event: dict[str, Any]) -> None:
    """Every event is one of the SDK's own types, strictly."""
    from openai.types.responses import ResponseStreamEvent

    TypeAdapter(ResponseStreamEvent).validate_python(event)


def test_the_sdk_gets_a_response(server: ApiServer) -> None:
    raw = server.openai.responses.with_raw_response.create(
        model="fake", input=HELLO, instructions="Be kind."
    )
    response = raw.parse()
    Response.model_validate(json.loads(raw.text))
    assert response.output_text == f"You said: {HELLO}"
    assert (response.status, response.object, response.model) == ("completed", "response", "fake")
    assert response.usage is not None
    assert response.usage.output_tokens == 4
    logged = server.logged_as(raw.headers["x-forethought-decision"])
    assert logged.outcome is not None
    assert logged.outcome.usage.output_tokens == 4
    assert logged.decision.context_id is not None
    assert logged.decision.propensity > 0


def test_what_goes_upstream_is_a_chat_completion(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    items: list[Any] = [
        {"role": "developer", "content": "Answer in German."},
        {"role": "user", "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": "rain"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Both."}]},
        {"role": "user", "content": "And now?"},
    ]  # fmt: skip
    reply = sent(
        server,
        {
            "input": items, "instructions": "Be kind.", "max_output_tokens": 9, "tools": [WEATHER],
            "tool_choice": {"type": "function", "name": "weather"},
            "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}},
                     "verbosity": "low"},
            "reasoning": {"effort": "low", "summary": "auto"}, "temperature": 0.5,
            "prompt_cache_key": "k", "safety_identifier": "u", "unknown_field": 1, "store": True,
            "include": ["reasoning.encrypted_content"], "metadata": {"a": "b"},
        },
    )  # fmt: skip
    assert reply.status_code == 200, reply.text
    body = fake.requests[-1].body
    call = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Answer in German."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url",
             "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        ]},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "c1", **call}, {"id": "c2", **call}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "rain"},
        {"role": "assistant", "content": "Both."},
        {"role": "user", "content": "And now?"},
    ]  # fmt: skip
    function = {k: v for k, v in WEATHER.items() if k != "type"}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}},
    }  # fmt: skip
    rest = ("max_tokens", "verbosity", "reasoning_effort", "temperature", "prompt_cache_key",
            "safety_identifier", "unknown_field")  # fmt: skip
    assert [body[name] for name in rest] == [9, "low", "low", 0.5, "k", "u", 1]
    assert not body.keys() & {"input", "instructions", "text", "reasoning", "store", "include"}
    warnings = reply.headers["x-forethought-warning"]
    for name in ("store", "reasoning.summary", "include", "reasoning items"):
        assert name in warnings
    said = reply.json()
    assert (said["metadata"], said["max_output_tokens"], said["store"]) == ({"a": "b"}, 9, False)
    Response.model_validate(said)


@pytest.mark.parametrize("behaviour", ["", "split"], ids=["whole events", "cut anywhere"])
def test_a_stream_has_the_events_in_openais_order(server: ApiServer, behaviour: str) -> None:
    reply = sent(server, {"stream": True}, x_fake=behaviour)
    assert reply.headers["content-type"].startswith("text/event-stream")
    said = events(reply.text)
    kinds = [event["type"] for event in said]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added",
        "response.content_part.added",
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    assert "".join(event["delta"] for event in said[4:-4]) == f"You said: {HELLO}"
    whole = said[-1]["response"]
    assert whole["output"][0]["content"][0]["text"] == f"You said: {HELLO}"
    assert whole["usage"]["output_tokens"] == 4
    for event in said:
        valid(event)


def test_the_sdk_accumulates_the_stream(server: ApiServer) -> None:
    with server.openai.responses.stream(model="fake", input=HELLO) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text == f"You said: {HELLO}"
    assert final.usage is not None
    assert final.usage.input_tokens == 2


@pytest.mark.parametrize("behaviour", ["calls=2", "calls=2+interleaved", "calls=1+split"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_function_calls_come_back_whole_and_streamed(
    server: ApiServer, behaviour: str, streamed: bool
) -> None:
    reply = sent(server, {"tools": [WEATHER], "stream": streamed}, x_fake=behaviour)
    if streamed:
        said = events(reply.text)
        for event in said:
            valid(event)
        response = said[-1]["response"]
        done = [e for e in said if e["type"] == "response.function_call_arguments.done"]
        assert [e["arguments"] for e in done] == [c["arguments"] for c in response["output"]]
    else:
        response = reply.json()
    Response.model_validate(response)
    n = int(re.findall(r"calls=(\d)", behaviour)[0])
    calls = response["output"]
    assert [call["type"] for call in calls] == ["function_call"] * n
    assert [json.loads(call["arguments"]) for call in calls] == [
        {"city": f"Zürich {i}"} for i in range(n)
    ]
    assert [call["call_id"] for call in calls] == [f"call_{i}" for i in range(n)]


class City(BaseModel):
    city: str


def test_the_sdk_parses_structured_output(serve: Serve, fake: FakeUpstreamServer) -> None:
    with FakeUpstreamServer(answer=lambda _: '{"city": "Zürich"}') as other:
        server = serve(upstream_base_url=other.base_url)
        parsed = server.openai.responses.parse(model="fake", input="Where?", text_format=City)
        assert parsed.output_parsed == City(city="Zürich")
        form = other.requests[-1].body["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["name"] == "City"
    assert form["json_schema"]["strict"] is True


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_cut_off_by_the_limit_is_incomplete(server: ApiServer, streamed: bool) -> None:
    reply = sent(server, {"max_output_tokens": 2, "stream": streamed})
    said = events(reply.text)[-1] if streamed else {"response": reply.json()}
    assert said.get("type", "response.incomplete") == "response.incomplete"
    response = said["response"]
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][-1]["status"] == "incomplete"


def test_a_stream_that_breaks_off_fails_and_invents_no_end(server: ApiServer) -> None:
    reply = sent(server, {"stream": True}, x_fake="drop+chunks=9")
    said = events(reply.text)
    assert said[-1]["type"] == "response.failed"
    assert said[-1]["response"]["error"]["code"] == "server_error"
    assert "response.completed" not in {event["type"] for event in said}
    valid(said[-1])
    logged = until_logged(server, reply.headers["x-forethought-decision"])
    assert logged.outcome is not None
    assert logged.outcome.status == "upstream_error"


def test_errors_of_the_upstream_keep_their_status(server: ApiServer) -> None:
    client = server.openai.with_options(max_retries=0)
    with pytest.raises(InternalServerError, match="As asked"):
        client.responses.create(model="fake", input=HELLO, extra_headers={"x-fake": "status=500"})
    assert sent(server, {}, x_fake="garbage").status_code == 502


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"role": "cook", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]},
         "input[0].content[0].type"),
        ({"instructions": 7}, "instructions"),
        ({"text": "x"}, "text"),
        ({"include": "x"}, "include"),
        ({"model": ""}, "model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_has_no_translation_is_refused_by_name(
    server: ApiServer, body: dict[str, Any], param: str
) -> None:
    reply = sent(server, body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["param"], error["type"]) == (param, InvalidRequest.type)


def test_responses_are_not_kept_here(server: ApiServer) -> None:
    with pytest.raises(NotFoundError, match="not kept here"):
        server.openai.responses.retrieve("resp_1")


@pytest.fixture
def native(serve: Serve) -> OpenAI:
    """A client of a server whose upstream keeps responses."""
    return serve(upstream_responses=True).openai


def test_an_upstream_that_keeps_responses_is_asked_itself(
    native: OpenAI, fake: FakeUpstreamServer
) -> None:
    raw = native.responses.with_raw_response.create(
        model="forethought/auto", input=HELLO, previous_response_id="resp_0",
        tools=[{"type": "web_search"}], extra_body={"unknown_field": 1},
    )  # fmt: skip
    said = json.loads(raw.text)
    assert (said["id"], said["path"]) == ("resp_native", "/responses")
    assert said["echo"] == {
        "model": "fake", "input": HELLO, "previous_response_id": "resp_0",
        "tools": [{"type": "web_search"}], "unknown_field": 1,
    }  # fmt: skip
    assert "authorization" not in fake.requests[-1].headers
    assert native.responses.retrieve("resp_1").id == "resp_native"
    assert (fake.requests[-1].method, fake.requests[-1].path) == ("GET", "/v1/responses/resp_1")
    native.responses.cancel("resp_1")
    assert fake.requests[-1].path == "/v1/responses/resp_1/cancel"
    events_ = list(native.responses.create(model="fake", input=HELLO, stream=True))
    assert [event.type for event in events_] == ["response.completed"]


def test_what_need_not_be_kept_is_decided_on_there_too(
    native: OpenAI, fake: FakeUpstreamServer
) -> None:
    raw = native.responses.with_raw_response.create(model="fake", input=HELLO, store=False)
    assert raw.headers["x-forethought-strategy"]
    assert fake.requests[-1].path == "/v1/chat/completions"
    assert raw.parse().output_text == f"You said: {HELLO}"


def test_a_strategy_can_be_asked_for(server: ApiServer) -> None:
    reply = sent(server, {"forethought": {"strategy": "effort:low"}})
    assert reply.headers["x-forethought-strategy"] == "effort:low"


def test_the_tenant_has_to_have_a_key(serve: Serve) -> None:
    server = serve(api_keys={"sk-right": "t"})
    wrong = {"authorization": "Bearer wrong"}
    body = {"model": "fake", "input": "x"}
    assert server.http.post("/v1/responses", json=body, headers=wrong).status_code == 401
