from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forethought.router import catalogue
from forethought.router.errors import UpstreamError
from forethought.router.upstream.anthropic import AnthropicUpstream
from forethought.router.upstream.base import UpstreamReply
from forethought.router.upstream.llamacpp import EmbeddedUpstream
from forethought.router.upstream.openai import OpenAIUpstream
from forethought.router.upstream.scoring import (
    CannotScore,
    EchoScorer,
    LlamaCppScorer,
    Surprisal,
    scorer_of,
)
from tests.fake_upstream import FakeUpstreamServer


def score(upstream: Any, context: str, query: str) -> Surprisal:
    async def ask() -> Surprisal:
        try:
            return await EchoScorer(upstream, "fake").score(context, query)
        finally:
            await upstream.aclose()

    return asyncio.run(ask())


class Answering(OpenAIUpstream):
    """Replies with what it is given."""

    def __init__(self, status: int, said: Any) -> None:
        super().__init__("http://127.0.0.1:9/v1")
        self._reply = UpstreamReply(status, {}, json.dumps(said).encode())

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> UpstreamReply:
        return self._reply


def test_the_tokens_of_the_query_alone_count() -> None:
    with FakeUpstreamServer() as fake:
        found = score(OpenAIUpstream(fake.base_url), "Ann has apples.", "How many?")
        assert fake.requests[-1].body["prompt"] == "Ann has apples.\n\nHow many?"
    assert found.n_tokens == 2
    assert found.nats_per_token == pytest.approx((math.log(4) + math.log(6)) / 2)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(400, {"error": {"message": "no echo"}}, id="refused"),
        pytest.param(404, {"error": {"message": "no such path"}}, id="no such endpoint"),
        pytest.param(200, {"choices": [{"text": "Hi", "logprobs": None}]}, id="none given"),
        pytest.param(
            200,
            {"choices": [{"logprobs": {"text_offset": [9], "token_logprobs": [None]}}]},
            id="not of the query",
        ),
    ],
)
def test_an_upstream_that_cannot_says_so(status: int, said: Any) -> None:
    with pytest.raises(CannotScore):
        score(Answering(status, said), "Ann.", "How many?")


@pytest.mark.parametrize("status", [429, 503])
def test_an_upstream_that_is_busy_may_be_asked_again(status: int) -> None:
    with pytest.raises(UpstreamError) as raised:
        score(Answering(status, {"error": {}}), "Ann.", "How many?")
    assert not isinstance(raised.value, CannotScore)


def test_anthropic_is_not_asked() -> None:
    assert scorer_of(AnthropicUpstream("http://127.0.0.1:9", "key"), "claude") is None


@pytest.mark.model
async def test_the_embedded_model_finds_a_query_likelier_after_its_own_context(
    tmp_path: Path,
) -> None:
    weights = catalogue.fetch("smollm2-135m")
    upstream = EmbeddedUpstream(
        weights, alias="m", n_ctx=1024, parallel=1, threads=1, log_path=tmp_path / "child.log"
    )
    await upstream.start()
    try:
        scorer = scorer_of(upstream, "m")
        assert isinstance(scorer, LlamaCppScorer)
        query = "How many geese did Ann sell at the market?"
        own = await scorer.score("Ann keeps 12 geese. She sells 3 geese at the market.", query)
        other = await scorer.score("Revenue fell in 2019. Net income was £24.9m.", query)
    finally:
        await upstream.aclose()
    assert own.n_tokens == other.n_tokens > 5
    assert 0 < own.nats_per_token < other.nats_per_token - 0.5
