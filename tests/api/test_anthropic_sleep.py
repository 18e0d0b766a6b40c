"""Sleep in front of an Anthropic upstream: its calls go the way of every other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.server import ApiServer
from tests.api.test_sleep import PROGRAM, slept, text
from tests.fake_anthropic import FakeAnthropic, message

USAGE = {
    "input_tokens": 100,
    "cache_creation_input_tokens": 40,
    "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 10},
    "cache_read_input_tokens": 200,
    "output_tokens": 50,
    "service_tier": "standard",
}
PER_CALL = 100 * 1.0 + 30 * 1.25 + 10 * 2.0 + 200 * 0.1 + 50 * 5.0
"""Micro-dollars at Claude Haiku 4.5's list prices."""


@pytest.mark.parametrize(
    ("model", "sent", "cost_usd"),
    [
        pytest.param(
            "claude-haiku-4-5",
            {"max_tokens": 480, "thinking": {"type": "disabled"}, "temperature": 0.0},
            3 * PER_CALL / 1e6,
            id="thinking off",
        ),
        pytest.param(
            "claude-fable-5-1",
            {"max_tokens": 480 + 2048, "output_config": {"effort": "low"}},
            None,
            id="always thinks",
        ),
    ],
)
def test_claude_sleeps(
    tmp_path: Path, model: str, sent: dict[str, object], cost_usd: float | None
) -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    # A tier without a price makes the whole of it unknown.
    tier = "standard" if cost_usd else "priority"
    drafted = message({"type": "text", "text": PROGRAM}, usage={**USAGE, "service_tier": tier})
    settings = {"upstream_api": "anthropic", "upstream_api_key": "sk-ours", "model": model}
    with (
        FakeAnthropic() as claude,
        ApiServer(tmp_path, upstream_base_url=claude.url, sleep="auto", **settings) as server,
    ):
        claude.says(overloaded, 529)
        for _ in range(3):
            claude.says(drafted)
        context = server.client.contexts.create(text=text("Janet"), sleep=True)
        slept(server, context.id)
        (learned,) = server.services.reader.learned_versions(context.id)
        first, again, *_ = claude.requests
    assert [note.answer for note in learned.notes] == ["13", "26"]
    assert learned.usage.input_tokens == 3 * 340
    assert (learned.usage.cached_tokens, learned.usage.cache_write_tokens) == (600, 120)
    assert learned.usage.cache_write_1h_tokens == 30
    assert learned.cost_usd == (None if cost_usd is None else pytest.approx(cost_usd))
    assert first.body == again.body
    assert first.headers["authorization"] == "Bearer sk-ours"
    assert {name: first.body.get(name) for name in sent} == sent
    assert ("temperature" in first.body) == ("temperature" in sent)
    assert "seed" not in first.body
