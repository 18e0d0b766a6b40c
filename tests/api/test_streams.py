from __future__ import annotations

import json
import time
from typing import Any

import pytest

from forethought.router.log.gathering import LINGER_S
from forethought.router.records import LoggedDecision
from tests.api.conftest import Serve
from tests.api.server import KEY, ApiServer
from tests.fake_upstream import FakeUpstreamServer

BODY: dict[str, Any] = {
    "model": "fake",
    "stream": True,
    "messages": [{"role": "user", "content": "Grüße, 世界"}],
}


def events(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


def until_logged(server: ApiServer, decision_id: str) -> LoggedDecision:
    deadline = time.monotonic() + 5
    while (logged := server.logged_as(decision_id)).outcome is None:
        assert time.monotonic() < deadline, "no outcome was logged"
        time.sleep(0.01)
    return logged


@pytest.mark.parametrize("behaviour", ["", "split"], ids=["whole events", "cut anywhere"])
def test_events_pass_through_to_the_last(server: ApiServer, behaviour: str) -> None:
    reply = server.chat(BODY, x_fake=behaviour)
    *chunks, done = events(reply.text)
    said = [json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(said) == "You said: Grüße, 世界"
    assert done == "[DONE]"
    assert reply.headers["content-type"].startswith("text/event-stream")


def test_usage_that_only_we_asked_for_stays_with_us(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    reply = server.chat(BODY)
    assert fake.requests[-1].body["stream_options"] == {"include_usage": True}
    assert '"usage"' not in reply.text
    assert "stream_options" in reply.headers["x-forethought-changes"]
    outcome = server.logged(reply).outcome
    assert outcome is not None
    assert outcome.usage.output_tokens == 4
    assert outcome.ttft_ms is not None
    assert outcome.finish_reason == "stop"


def test_usage_that_the_client_asked_for_reaches_it(server: ApiServer) -> None:
    reply = server.chat({**BODY, "stream_options": {"include_usage": True}})
    usage = json.loads(events(reply.text)[-2])
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4
    assert "x-forethought-changes" not in reply.headers


def test_chunks_are_not_held_back(server: ApiServer) -> None:
    began = time.monotonic()
    with server.http.stream(
        "POST", "/v1/chat/completions", json=BODY, headers={"x-fake": "gap=60"}
    ) as reply:
        chunks = reply.iter_raw()
        next(chunks)
        first_s = time.monotonic() - began
        list(chunks)
    assert first_s < (time.monotonic() - began) / 2


def test_the_outcome_is_durable_before_the_stream_ends(server: ApiServer) -> None:
    with server.http.stream(
        "POST", "/v1/chat/completions", json=BODY, headers={"x-fake": "gap=100"}
    ) as reply:
        decision_id = reply.headers["x-forethought-decision"]
        time.sleep(3 * LINGER_S)
        assert server.logged_as(decision_id).outcome is None
        for line in reply.iter_lines():
            if line == "data: [DONE]":
                assert server.logged_as(decision_id).outcome is not None
                return
    pytest.fail("the stream did not end")


def test_a_stream_that_breaks_off_ends_in_an_error(server: ApiServer) -> None:
    reply = server.chat(BODY, x_fake="drop")
    *_, last = events(reply.text)
    assert json.loads(last)["error"]["code"] == "upstream_unreachable"
    assert "[DONE]" not in reply.text
    assert '"stop"' not in reply.text
    outcome = server.logged(reply).outcome
    assert outcome is not None
    assert outcome.status == "upstream_error"
    assert outcome.usage.output_tokens == 1


def test_a_client_that_hangs_up_ends_the_call_upstream(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    before = fake.disconnects
    sent = {"x-fake": "chunks=200+gap=20", "authorization": f"Bearer {KEY}"}
    with server.http.stream("POST", "/v1/chat/completions", json=BODY, headers=sent) as reply:
        decision_id = reply.headers["x-forethought-decision"]
        lines = reply.iter_lines()
        for _ in range(9):
            next(lines)
    logged = until_logged(server, decision_id)
    assert logged.outcome is not None
    assert logged.outcome.status == "cancelled"
    assert 1 <= logged.outcome.usage.output_tokens < 50
    assert (logged.outcome.answer or "").startswith("w0 w1")
    while fake.disconnects == before:
        time.sleep(0.01)


def test_a_client_that_hangs_up_ends_a_plain_call_too(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    before = fake.disconnects
    with pytest.raises(Exception, match="timed out"):
        server.http.post(
            "/v1/chat/completions",
            json={**BODY, "stream": False},
            headers={"x-fake": "hang"},
            timeout=0.3,
        )
    while fake.disconnects == before:
        time.sleep(0.01)
    *_, last = server.services.reader.logged_decisions()
    logged = until_logged(server, last.decision.id)
    assert logged.outcome is not None
    assert logged.outcome.status == "cancelled"


def test_streams_that_cannot_say_their_usage_are_left_alone(
    serve: Serve, fake: FakeUpstreamServer
) -> None:
    server = serve(stream_usage=False)
    outcome = server.logged(server.chat(BODY)).outcome
    assert "stream_options" not in fake.requests[-1].body
    assert outcome is not None
    assert outcome.usage.output_tokens == 4
    assert "estimated" in (outcome.error or "")
