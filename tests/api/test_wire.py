"""What passes between a client and the upstream, and what never does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.api.server import KEY, ApiServer
from tests.api.test_contexts import learn
from tests.api.test_streams import until_logged
from tests.fake_anthropic import FakeAnthropic, Scripted
from tests.fake_upstream import FakeUpstreamServer

HELLO: Final = [{"role": "user", "content": "Hello"}]
OURS: Final = "sk-ours-and-nobody-elses"
DOCUMENT: Final = "Janet's ducks lay 16 eggs a day. " * 12

FIELDS: Final[dict[str, Any]] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "frequency_penalty": -0.5,
    "logit_bias": {"50256": -100},
    "max_completion_tokens": 77,
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "moderation": {"model": "omni"},
    "of_tomorrow": {"deep": [1, None, 1.5]},
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": 0.5,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "reasoning_effort": "xhigh",
    "safety_identifier": "s",
    "service_tier": "flex",
    "stop": ["END"],
    "store": True,
    "temperature": 0.1,
    "top_p": 0.9,
    "user": "u",
    "verbosity": "low",
    "web_search_options": {},
}
"""What a client can say of a chat completion, beside what has tests of its own."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("strategy", ["direct", "learned:low"])
def test_every_field_goes_upstream_as_it_came(
    server: ApiServer, fake: FakeUpstreamServer, strategy: str, stream: bool
) -> None:
    context = server.client.contexts.create(text=f"{DOCUMENT} {strategy} {stream}")
    server.services.contexts.forget(context.id)
    learn(server, context.id, 1)
    asked = {**FIELDS, "stream": stream}
    if strategy != "direct":
        del asked["reasoning_effort"]  # whose wish wins: learned:low could not serve it
    wish = {"context": context.id, "strategy": strategy}
    reply = server.chat({"messages": HELLO, "forethought": wish, **asked})
    assert reply.headers.get("x-forethought-strategy") == strategy, reply.text
    sent = fake.requests[-1].body
    assert {name: sent.get(name) for name in asked} == asked
    assert "forethought" not in sent
    added = {"model", "messages", *(["stream_options"] if stream else [])}
    assert sent.keys() - asked.keys() == added


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
@pytest.mark.parametrize("path", ["chat", "responses"])
def test_every_effort_goes_upstream(
    server: ApiServer, fake: FakeUpstreamServer, path: str, effort: str
) -> None:
    if path == "chat":
        server.chat({"messages": HELLO, "reasoning_effort": effort})
    else:
        body = {"model": "fake", "input": "Hello", "reasoning": {"effort": effort}}
        server.post("/v1/responses", body)
    assert fake.requests[-1].body["reasoning_effort"] == effort


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_limit_keeps_its_name(server: ApiServer, fake: FakeUpstreamServer, limit: str) -> None:
    server.chat({"messages": HELLO, limit: 7})
    body = fake.requests[-1].body
    assert body[limit] == 7
    assert not {"max_tokens", "max_completion_tokens"} - {limit} & body.keys()


def test_a_developer_message_stays_one(server: ApiServer, fake: FakeUpstreamServer) -> None:
    messages = [{"role": "developer", "content": "Be kind."}, *HELLO]
    server.chat({"messages": messages}, x_forethought_strategy="direct")
    assert fake.requests[-1].body["messages"] == messages


HEADERS: Final = {
    "x-request-id": "req_theirs",
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
    "openai-processing-ms": "12",
    "openai-version": "2020-10-01",
    "retry-after-ms": "12",
}
KEPT_BACK: Final = {
    "connection": "keep-alive",
    "keep-alive": "timeout=5",
    "proxy-authenticate": "Basic",
    "set-cookie": "session=theirs",
    "server": "theirs",
    "access-control-allow-origin": "*",
    "x-forethought-strategy": "theirs",
}
REPLIES: Final[dict[str, tuple[dict[str, Any], bytes]]] = {
    "/v1/chat/completions": ({"messages": HELLO}, b'{"choices": [{"message": {}}]}'),
    "/v1/completions": ({"prompt": "x"}, b'{"choices": []}'),
    "/v1/embeddings": ({"input": "x"}, b'{"data": []}'),
    "/v1/responses": ({"input": "x"}, b'{"choices": [{"message": {"content": "x"}}]}'),
    "/v1/messages": (
        {"messages": HELLO, "max_tokens": 9},
        b'{"choices": [{"message": {"content": "x"}}]}',
    ),
    "/v1/audio/speech": ({"input": "x"}, b"RIFF"),
}
STREAM: Final = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'


@pytest.fixture(scope="module")
def theirs() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture(scope="module")
def proxy(theirs: FakeAnthropic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(
        tmp_path_factory.mktemp("wire"),
        upstream_base_url=f"{theirs.url}/v1",
        upstream_api="openai",
        upstream_api_key=OURS,
        upstream_max_retries=1,
        model="fake",
    ) as server:
        yield server


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", REPLIES)
def test_headers_pass_but_for_those_of_a_connection_and_keys(
    proxy: ApiServer, theirs: FakeAnthropic, path: str, stream: bool
) -> None:
    body, said = REPLIES[path]
    kind = "text/event-stream" if stream else "application/json"
    headers = {**HEADERS, **KEPT_BACK, "content-type": kind}
    whole = STREAM + b"data: [DONE]\n\n" if stream else said
    theirs.replies.append(Scripted((whole,), headers=headers))
    sent = {"cookie": "c=1", "x-api-key": KEY, "proxy-authorization": "Basic x", "te": "trailers"}
    reply = proxy.post(path, {"model": "fake", "stream": stream, **body}, **sent)
    assert reply.status_code == 200
    assert {name: reply.headers.get(name) for name in HEADERS} == HEADERS
    for name, value in KEPT_BACK.items():
        assert value not in reply.headers.get_list(name)
    assert OURS not in str(reply.headers) + reply.text
    upstream = theirs.requests[-1]
    assert upstream.headers["authorization"] == f"Bearer {OURS}"
    assert KEY not in str(upstream.headers)
    assert not sent.keys() & upstream.headers.keys()


@pytest.mark.parametrize("path", REPLIES)
def test_an_error_keeps_its_limits_and_hides_our_key(
    proxy: ApiServer, theirs: FakeAnthropic, path: str
) -> None:
    error = b'{"error": {"message": "Slow down.", "type": "requests", "code": "rate_limit"}}'
    # Twice: this server's own retry comes first, where a request can be sent again.
    theirs.replies.clear()
    for _ in range(2):
        theirs.replies.append(Scripted((error,), 429, HEADERS))
    reply = proxy.post(path, {"model": "fake", **REPLIES[path][0]})
    assert (reply.status_code, reply.json()["error"]["message"]) == (429, "Slow down.")
    assert {name: reply.headers.get(name) for name in HEADERS} == HEADERS


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("header", "value"), [("retry-after-ms", "900"), ("retry-after", "1")])
def test_a_passing_failure_is_tried_again_after_the_time_it_names(
    proxy: ApiServer, theirs: FakeAnthropic, header: str, value: str, streamed: bool
) -> None:
    theirs.replies.clear()
    theirs.replies.append(Scripted((b"{}",), 503, {header: value}))
    if streamed:
        theirs.streams(STREAM, b"data: [DONE]\n\n")
    else:
        theirs.replies.append(Scripted((REPLIES["/v1/chat/completions"][1],)))
    began = time.monotonic()
    assert proxy.chat({"messages": HELLO, "stream": streamed}).status_code == 200
    # Without the header the SDK would wait for half a second at most.
    assert 0.9 <= time.monotonic() - began < 6


@pytest.mark.parametrize("behaviour", ["hang", "chunks=200+gap=5000"])
def test_a_client_that_hangs_up_before_a_streams_first_token_ends_the_call(
    server: ApiServer, fake: FakeUpstreamServer, behaviour: str
) -> None:
    before = fake.disconnects
    with pytest.raises(Exception, match="timed out"):
        server.http.post(
            "/v1/chat/completions",
            json={"model": "fake", "messages": HELLO, "stream": True},
            headers={"x-fake": behaviour},
            timeout=0.5,
        )
    deadline = time.monotonic() + 10
    while fake.disconnects == before:
        assert time.monotonic() < deadline, "the call upstream goes on"
        time.sleep(0.01)
    *_, last = server.services.reader.logged_decisions()
    outcome = until_logged(server, last.decision.id).outcome
    assert outcome is not None
    assert outcome.status == "cancelled"
    assert outcome.usage.input_tokens > 0
