from __future__ import annotations

import json
import secrets
import subprocess

import pytest

from tests.api.conftest import Serve
from tests.api.server import KEY, ApiServer
from tests.fake_upstream import FakeUpstreamServer

HELLO = [{"role": "user", "content": "Hello there"}]


def document() -> str:
    return f"The shop {secrets.token_hex(4)} sells 12 eggs a day. " * 8


def test_the_openai_sdk_works_unchanged(server: ApiServer) -> None:
    reply = server.openai.chat.completions.create(
        model="fake", messages=[{"role": "user", "content": "Hello"}]
    )
    assert reply.choices[0].message.content == "You said: Hello"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3


def test_the_sdks_streaming_helper_works(server: ApiServer) -> None:
    with server.openai.chat.completions.stream(
        model="fake", messages=[{"role": "user", "content": "Hello"}]
    ) as stream:
        pieces = [e.delta for e in stream if e.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(pieces) == "You said: Hello"
    assert final.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "stream", [pytest.param(False, id="plain"), pytest.param(True, id="streamed")]
)
def test_curl_without_a_content_type_works(server: ApiServer, stream: bool) -> None:
    body = {"model": "fake", "messages": HELLO, "stream": stream}
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--noproxy",
            "*",
            f"{server.url}/v1/chat/completions",
            "-d",
            json.dumps(body),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "there" in done.stdout
    assert done.stdout.endswith("data: [DONE]\n\n") == stream


def test_unknown_fields_pass_both_ways(server: ApiServer, fake: FakeUpstreamServer) -> None:
    reply = server.chat({"messages": HELLO, "of_tomorrow": {"a": [1, None]}})
    assert fake.requests[-1].body["of_tomorrow"] == {"a": [1, None]}
    assert reply.json()["unknown_reply_field"] == {"echo": {"of_tomorrow": {"a": [1, None]}}}


def test_a_direct_request_goes_upstream_as_it_came(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    body = {"model": "fake", "messages": HELLO, "temperature": 0.3}
    reply = server.post("/v1/chat/completions", {**body, "forethought": {"strategy": "direct"}})
    assert fake.requests[-1].body == body
    assert reply.headers["x-forethought-strategy"] == "direct"
    assert "x-forethought-changes" not in reply.headers


def test_headers_pass_but_for_keys_and_connections(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    reply = server.chat(
        {"messages": HELLO}, cookie="a=b", x_trace="t1", x_api_key="secret", forwarded="for=me"
    )
    sent = fake.requests[-1].headers
    assert sent["x-trace"] == "t1"
    assert KEY not in str(sent)
    assert {"cookie", "x-api-key", "forwarded"}.isdisjoint(sent)
    assert reply.headers["x-fake-reply-header"] == "kept"
    assert reply.headers["x-request-id"] == "fake-request"
    assert float(reply.headers["x-forethought-overhead-ms"]) > 0


def test_the_decision_and_its_outcome_are_logged(server: ApiServer) -> None:
    logged = server.logged(server.chat({"messages": HELLO}))
    assert logged.decision.query == "Hello there"
    assert logged.decision.propensity == 1.0
    assert logged.outcome is not None
    assert (logged.outcome.status, logged.outcome.answer) == ("ok", "You said: Hello there")
    assert (logged.outcome.usage.input_tokens, logged.outcome.usage.output_tokens) == (2, 4)


def test_the_name_auto_stands_for_the_servers_model(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    reply = server.chat({"model": "forethought/auto", "messages": HELLO})
    assert fake.requests[-1].body["model"] == "fake"
    assert reply.headers["x-forethought-changes"] == "model=fake"


def test_a_forced_strategy_wins(server: ApiServer, fake: FakeUpstreamServer) -> None:
    reply = server.chat({"messages": HELLO}, x_forethought_strategy="effort:low")
    assert reply.headers["x-forethought-strategy"] == "effort:low"
    assert len(fake.requests[-1].body["messages"]) == 2
    assert "x-forethought-strategy" not in fake.requests[-1].headers
    assert server.logged(reply).decision.mode == "forced"


def test_the_same_prefix_is_the_same_context(server: ApiServer) -> None:
    system = {"role": "system", "content": document()}
    first, second = (
        server.chat({"messages": [system, {"role": "user", "content": question}]})
        for question in ("How many?", "And in a week?")
    )
    name = "x-forethought-context"
    assert first.headers[name] == second.headers[name]
    known = server.client.contexts.retrieve(first.headers[name])
    assert (known.n_queries, known.registered) == (2, False)


def test_contexts_of_tenants_are_apart(server: ApiServer) -> None:
    messages = [{"role": "system", "content": document()}, *HELLO]
    mine, theirs = (
        server.chat({"messages": messages}, authorization=f"Bearer {key}") for key in ("a", "b")
    )
    assert mine.headers["x-forethought-context"] != theirs.headers["x-forethought-context"]
    found = server.http.get(f"/v1/decisions/{mine.headers['x-forethought-decision']}")
    assert found.status_code == 404


def test_a_context_by_id_needs_not_be_sent_again(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    text = document()
    context = server.client.contexts.create(text=text)
    reply = server.chat({"messages": HELLO, "forethought": {"context": context.id}})
    sent = fake.requests[-1].body
    assert sent["messages"] == [{"role": "system", "content": text}, *HELLO]
    assert "forethought" not in sent
    assert reply.headers["x-forethought-context"] == context.id
    assert context.id in reply.headers["x-forethought-changes"]


@pytest.mark.parametrize(
    ("behaviour", "status", "logged"),
    [
        pytest.param("status=429+retry-after=7", 429, "upstream_error", id="too many requests"),
        pytest.param("status=500", 500, "upstream_error", id="server error"),
        pytest.param("drop", 502, "upstream_error", id="broken off"),
        pytest.param("garbage", 200, "upstream_error", id="not JSON"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_what_the_upstream_does_wrong_is_passed_on_and_logged(
    server: ApiServer,
    fake: FakeUpstreamServer,
    behaviour: str,
    status: int,
    logged: str,
    stream: bool,
) -> None:
    reply = server.chat({"messages": HELLO, "stream": stream}, x_fake=behaviour)
    streamed_drop = stream and behaviour == "drop"  # its status had been sent by then
    assert reply.status_code == (200 if streamed_drop else status)
    assert reply.headers.get("retry-after") == ("7" if "retry-after" in behaviour else None)
    outcome = server.logged(reply).outcome
    assert outcome is not None
    assert outcome.status == logged
    if status >= 500 and not streamed_drop:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


def test_a_slow_upstream_is_a_timeout(serve: Serve, fake: FakeUpstreamServer) -> None:
    server = serve(upstream_timeout_s=0.2)
    reply = server.chat({"messages": HELLO}, x_fake="hang")
    assert reply.status_code == 504
    assert reply.json()["error"]["code"] == "upstream_timeout"
    outcome = server.logged(reply).outcome
    assert outcome is not None
    assert outcome.status == "timeout"


def test_an_unreachable_upstream_is_named(serve: Serve) -> None:
    server = serve(upstream_base_url="http://127.0.0.1:9/v1")
    reply = server.chat({"messages": HELLO})
    assert reply.status_code == 502
    assert "127.0.0.1:9" in reply.json()["error"]["message"]
    assert server.http.get("/readyz").status_code == 503


def test_without_the_log_the_request_still_goes_through(serve: Serve) -> None:
    server = serve()
    server.services.writer.close()
    reply = server.chat({"messages": HELLO})
    assert reply.json()["choices"][0]["message"]["content"] == "You said: Hello there"
    assert reply.headers["x-forethought-log"] == "failed"
    assert 'forethought_log_failures_total{what="decision"} 1.0' in server.http.get("/metrics").text


def test_texts_stay_out_of_the_log_if_so_set(serve: Serve) -> None:
    server = serve(log_text=False)
    logged = server.logged(server.chat({"messages": HELLO}))
    assert logged.decision.query == ""
    assert logged.outcome is not None
    assert logged.outcome.answer is None


def test_a_dry_run_decides_and_does_nothing(server: ApiServer, fake: FakeUpstreamServer) -> None:
    messages = [{"role": "system", "content": document()}, *HELLO]
    before = len(list(server.services.reader.logged_decisions()))
    reply = server.post("/v1/route", {"model": "fake", "messages": messages})
    assert reply.json()["strategy"] == "direct"
    assert len(reply.json()["candidates"]) == 5
    assert len(fake.requests) == 0
    assert len(list(server.services.reader.logged_decisions())) == before
