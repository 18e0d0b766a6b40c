"""The clients are the openai SDK's, with another address, another key and the reply's headers."""

from __future__ import annotations

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from forethought.client import AsyncForethought, Forethought, decision_id, overhead_ms, strategy
from tests.client.server import FakeForethought

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How many are left?"}]


@pytest.mark.parametrize("kind", [Forethought, AsyncForethought])
def test_the_default_is_the_local_server(kind: type[Forethought | AsyncForethought]) -> None:
    client = kind()
    assert str(client.base_url) == "http://127.0.0.1:8300/v1/"
    assert client.api_key == "forethought"


def test_the_environment_names_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETHOUGHT_BASE_URL", "http://elsewhere:1/v1")
    monkeypatch.setenv("FORETHOUGHT_API_KEY", "ours")
    assert str(Forethought().base_url) == "http://elsewhere:1/v1/"
    assert Forethought().api_key == "ours"
    assert Forethought(api_key="mine", base_url="http://here:2/v1").api_key == "mine"


def test_openais_own_settings_never_reach_the_server(
    fake: FakeForethought, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "for-openai-only")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "for-openai-only-too")
    monkeypatch.setenv("FORETHOUGHT_BASE_URL", fake.base_url)
    with Forethought(max_retries=0) as client:
        client.contexts.retrieve("ctx_1")
        client.chat.completions.create(model="small", messages=QUESTION)
    assert {request.headers["authorization"] for request in fake.received} == {"Bearer forethought"}


def test_with_options_keeps_class_address_and_key(fake: FakeForethought) -> None:
    with Forethought(base_url=fake.base_url, api_key="ours") as client:
        copied = client.with_options(timeout=5, max_retries=0)
        assert type(copied) is Forethought
        assert copied.contexts.retrieve("ctx_1").id == "ctx_1"
    assert fake.last.headers["authorization"] == "Bearer ours"


def test_a_key_can_come_from_a_function(fake: FakeForethought) -> None:
    with Forethought(base_url=fake.base_url, api_key=lambda: "fresh", max_retries=0) as client:
        client.contexts.retrieve("ctx_1")
    assert fake.last.headers["authorization"] == "Bearer fresh"


def test_headers_of_a_raw_reply(client: Forethought) -> None:
    reply = client.chat.completions.with_raw_response.create(model="small", messages=QUESTION)
    assert reply.parse().choices[0].message.content == "9"
    assert (decision_id(reply), strategy(reply)) == ("dec_1", "learned:low")
    assert overhead_ms(reply) == pytest.approx(0.7)


def test_headers_of_a_stream(client: Forethought) -> None:
    with client.chat.completions.create(model="small", messages=QUESTION, stream=True) as stream:
        assert decision_id(stream) == "dec_1"
        assert [chunk.choices[0].delta.content for chunk in stream] == ["9"]


def test_headers_of_the_streaming_helper(client: Forethought) -> None:
    completions = client.chat.completions
    with completions.with_streaming_response.create(model="small", messages=QUESTION) as reply:
        assert decision_id(reply) == "dec_1"


def test_a_reply_from_elsewhere_has_no_decision(client: Forethought) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.list()
    with pytest.raises(LookupError, match="x-forethought-decision"):
        decision_id(caught.value)
