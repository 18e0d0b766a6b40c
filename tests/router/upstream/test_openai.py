"""An OpenAI-compatible upstream: bytes kept, errors told apart, nothing of the client's leaked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from forethought.router.errors import ConfigError, UpstreamError, UpstreamTimeout
from forethought.router.upstream.openai import OpenAIUpstream
from forethought.router.upstream.patience import Timeouts
from tests.fake_upstream import FakeUpstreamServer


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeUpstreamServer]:
    with FakeUpstreamServer() as server:
        yield server


@pytest.fixture
async def upstream(fake: FakeUpstreamServer) -> AsyncIterator[OpenAIUpstream]:
    client = OpenAIUpstream(fake.base_url, "sk-ours", max_retries=0)
    yield client
    await client.aclose()


def body(model: str = "fake", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "héllo wörld ✓"}], **more}


async def streamed(upstream: OpenAIUpstream, asked: dict[str, Any]) -> bytes:
    async with upstream.stream({**asked, "stream": True}, {}) as reply:
        return b"".join([chunk async for chunk in reply.chunks])


async def test_unknown_fields_survive_in_both_directions(
    fake: FakeUpstreamServer, upstream: OpenAIUpstream
) -> None:
    reply = await upstream.complete(body(frobnicate={"deep": [1, None]}), {})
    assert fake.requests[-1].body["frobnicate"] == {"deep": [1, None]}
    assert json.loads(reply.body)["unknown_reply_field"] == {
        "echo": {"frobnicate": {"deep": [1, None]}}
    }
    assert reply.headers["x-fake-reply-header"] == "kept"


async def test_stream_is_byte_for_byte_what_the_server_sent(upstream: OpenAIUpstream) -> None:
    whole = await streamed(upstream, body("fake"))
    split = await streamed(upstream, body("fake:split"))
    assert split == whole.replace(b'"model": "fake"', b'"model": "fake:split"')
    assert "wörld".encode() in whole
    assert whole.endswith(b"data: [DONE]\n\n")


async def test_chunks_arrive_while_the_answer_is_written(upstream: OpenAIUpstream) -> None:
    loop = asyncio.get_running_loop()
    async with upstream.stream(body("fake:chunks=3+gap=100", stream=True), {}) as reply:
        times = [loop.time() async for _ in reply.chunks]
    assert times[-1] - times[0] > 0.3


async def test_only_our_key_and_harmless_headers_go_upstream(
    fake: FakeUpstreamServer, upstream: OpenAIUpstream
) -> None:
    sent = {
        "Authorization": "Bearer client",
        "COOKIE": "session=1",
        "x-api-key": "client",
        "host": "elsewhere",
        "content-length": "3",
        "x-request-id": "abc",
        "X-Custom": "1",
    }
    await upstream.complete(body(), sent)
    received = fake.requests[-1].headers
    assert received["authorization"] == "Bearer sk-ours"
    assert received["x-request-id"] == "abc"
    assert received["x-custom"] == "1"
    assert "client" not in str(received.values())
    assert "cookie" not in received


async def test_without_a_key_none_is_sent_even_if_the_environment_has_one(
    fake: FakeUpstreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment")
    upstream = OpenAIUpstream(fake.base_url)
    await upstream.complete(body(), {})
    await upstream.aclose()
    assert "authorization" not in fake.requests[-1].headers


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_error_status_is_a_reply(upstream: OpenAIUpstream, status: int) -> None:
    model = f"fake:status={status}+retry-after=7"
    reply = await upstream.complete(body(model), {})
    assert reply.status == status
    assert json.loads(reply.body)["error"]["code"] == "as_asked"
    assert reply.headers["retry-after"] == "7"
    assert json.loads(await streamed(upstream, body(model)))["error"]["code"] == "as_asked"


async def test_a_passing_failure_is_tried_again(fake: FakeUpstreamServer) -> None:
    upstream = OpenAIUpstream(fake.base_url, "k", max_retries=1)
    fake.script("status=503", "")
    reply = await upstream.complete(body(), {})
    await upstream.aclose()
    assert reply.status == 200


async def test_leaving_a_stream_early_cancels_it_upstream(
    fake: FakeUpstreamServer, upstream: OpenAIUpstream
) -> None:
    before = fake.disconnects
    async with upstream.stream(body("fake:chunks=200+gap=50", stream=True), {}) as reply:
        async for _ in reply.chunks:
            break
    async with asyncio.timeout(5):
        while fake.disconnects == before:  # noqa: ASYNC110 - seen by another thread
            await asyncio.sleep(0.01)


async def test_broken_off_stream_is_an_error_that_names_the_upstream(
    fake: FakeUpstreamServer, upstream: OpenAIUpstream
) -> None:
    with pytest.raises(UpstreamError, match="broke off") as caught:
        await streamed(upstream, body("fake:drop"))
    assert fake.base_url in str(caught.value)


async def test_broken_off_reply_is_an_error(upstream: OpenAIUpstream) -> None:
    with pytest.raises(UpstreamError):
        await upstream.complete(body("fake:drop"), {})


@pytest.mark.parametrize("asked", ["fake:hang", "fake:delay=2000"])
async def test_slow_upstream_is_a_timeout(fake: FakeUpstreamServer, asked: str) -> None:
    timeouts = Timeouts(first_token_s=0.1, total_s=0.1)
    upstream = OpenAIUpstream(fake.base_url, "k", timeouts=timeouts, max_retries=0)
    with pytest.raises(UpstreamTimeout):
        await upstream.complete(body(asked), {})
    with pytest.raises(UpstreamTimeout):
        await streamed(upstream, body(asked))
    await upstream.aclose()


async def test_stalled_stream_is_a_timeout(fake: FakeUpstreamServer) -> None:
    timeouts = Timeouts(between_tokens_s=0.1)
    upstream = OpenAIUpstream(fake.base_url, "k", timeouts=timeouts, max_retries=0)
    with pytest.raises(UpstreamTimeout):
        await streamed(upstream, body("fake:chunks=3+gap=2000"))
    await upstream.aclose()


async def test_unreachable_upstream_is_an_error_and_not_ready() -> None:
    with FakeUpstreamServer() as gone:
        address = gone.base_url
    upstream = OpenAIUpstream(address, "k", max_retries=0)
    with pytest.raises(UpstreamError, match="could not be reached") as caught:
        await upstream.complete(body(), {})
    assert caught.value.remedy
    assert not await upstream.ready()
    await upstream.aclose()


async def test_ready_and_models_of_a_running_upstream(upstream: OpenAIUpstream) -> None:
    assert await upstream.ready()
    reply = await upstream.models()
    assert [model["id"] for model in json.loads(reply.body)["data"]] == ["fake"]


async def test_works_again_after_it_was_closed(upstream: OpenAIUpstream) -> None:
    await upstream.start()
    await upstream.aclose()
    assert (await upstream.complete(body(), {})).status == 200


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("", id="empty"),
        pytest.param("api.openai.com/v1", id="no-scheme"),
        pytest.param("ftp://host/v1", id="wrong-scheme"),
        pytest.param("http://", id="no-host"),
        pytest.param("http://host:port/v1", id="bad-port"),
    ],
)
def test_bad_address_is_a_config_error_that_names_it(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIUpstream(address)
    assert caught.value.param == "base_url"


def test_secrets_are_shown_nowhere() -> None:
    upstream = OpenAIUpstream("http://user:pass@host/v1", "sk-secret")
    assert "secret" not in repr(upstream)
    assert "pass" not in repr(upstream)


async def test_who_pays_at_openai_is_told_to_no_other_server(
    fake: FakeUpstreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-ours")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-ours")
    upstream = OpenAIUpstream(fake.base_url, "k")
    await upstream.complete({"model": "fake", "messages": []}, {})
    await upstream.aclose()
    assert not [value for value in fake.requests[-1].headers.values() if "-ours" in value]
