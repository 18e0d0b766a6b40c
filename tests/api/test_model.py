"""The whole path on a real model: the smallest of the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from forethought.router import catalogue
from tests.api.server import ApiServer

MODEL = "smollm2-135m"

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not catalogue.is_cached(MODEL), reason=f"{MODEL} was not fetched"),
]


def test_a_real_model_answers_plain_and_streamed(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Janet's ducks lay 16 eggs a day. She eats three."},
        {"role": "user", "content": "How many are left?"},
    ]
    body = {"model": "forethought/auto", "messages": messages, "max_tokens": 6, "temperature": 0}
    with ApiServer(tmp_path / "data", model=MODEL) as server:
        assert server.http.get("/readyz").json()["upstream"] == {"name": "embedded", "ready": True}
        assert [m.id for m in server.openai.models.list()] == [MODEL, "forethought/auto"]
        plain = server.post("/v1/chat/completions", body)
        streamed = server.post("/v1/chat/completions", {**body, "stream": True})
        too_long = server.post(
            "/v1/chat/completions",
            {**body, "messages": [{"role": "user", "content": "egg " * 20_000}]},
        )
        whole, pieces = server.logged(plain).outcome, server.logged(streamed).outcome
    assert plain.json()["model"] == MODEL
    assert whole is not None
    assert pieces is not None
    assert whole.answer == plain.json()["choices"][0]["message"]["content"] == pieces.answer
    assert whole.usage.output_tokens == pieces.usage.output_tokens == 6
    assert whole.cost_usd is not None
    assert whole.cost_usd > 0
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert too_long.status_code == 400
    assert too_long.json()["error"]["code"] == "context_length_exceeded"


def test_an_unknown_model_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with ApiServer(tmp_path / "data", model=MODEL) as server:
        reply = server.post(
            "/v1/chat/completions",
            {"model": "gpt-9", "messages": [{"role": "user", "content": "Hi"}]},
        )
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"
    assert MODEL in reply.json()["error"]["message"]
