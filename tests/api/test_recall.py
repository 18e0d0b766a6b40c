from __future__ import annotations

from typing import Any

import pytest
from openai import BadRequestError

from forethought.router.records import LearnedContext, Note, Usage
from tests.api.conftest import Serve
from tests.api.server import ApiServer
from tests.fake_upstream import FakeUpstreamServer

DOCUMENT = "The shop sells 12 eggs a day at 2 dollars each. " * 6
ASK = "How much does the shop earn a day, in dollars?"


def learn(server: ApiServer) -> LearnedContext:
    """Register the document, and store what sleep would have written about it."""
    context = server.client.contexts.create(text=DOCUMENT)
    learned = LearnedContext(
        id="lc_1",
        context_id=context.id,
        version=1,
        level="k3r1",
        model="fake",
        notes=(Note(kind="computed", text=ASK, answer="24", confidence=1.0, verified=True),),
        text=f"{ASK} 24",
        tokens=12,
        usage=Usage(),
        cost_usd=None,
        created_at=1.0,
    )
    services = server.services
    services.writer.write_sync(learned)
    services.contexts.learned(learned)
    return learned


def ask(server: ApiServer, query: str = ASK, **more: Any) -> Any:
    return server.openai.chat.completions.with_raw_response.create(
        model="fake",
        messages=[{"role": "system", "content": DOCUMENT}, {"role": "user", "content": query}],
        **more,
    )


def test_a_recalled_answer_used_and_cost_nothing(serve: Serve, fake: FakeUpstreamServer) -> None:
    # No price of the model is known: what was not bought still costs nothing.
    server = serve(recall=True)
    learn(server)
    fake.requests.clear()
    raw = ask(server, "how much does the shop earn a day in dollars")
    reply = raw.parse()
    assert reply.choices[0].message.content == "24"
    assert reply.usage.model_dump(include={"prompt_tokens", "completion_tokens"}) == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
    }
    assert not fake.requests
    assert raw.headers["x-forethought-strategy"] == "recall"
    assert raw.headers["x-forethought-samples"] == "0"
    shown = server.client.decisions.retrieve(raw.headers["x-forethought-decision"])
    assert (shown.strategy, shown.mode, shown.propensity) == ("recall", "recalled", 1.0)
    assert shown.changes == ["answered from note 1 of lc_1, without calling the model"]
    assert shown.outcome is not None
    assert (shown.outcome.status, shown.outcome.cost_usd, shown.outcome.calls) == ("ok", 0.0, 0)
    assert shown.outcome.error is None


def test_a_recalled_answer_streams(serve: Serve, fake: FakeUpstreamServer) -> None:
    server = serve(recall=True)
    learn(server)
    fake.requests.clear()
    raw = ask(server, stream=True, stream_options={"include_usage": True})
    chunks = list(raw.parse())
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "24"
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, "stop"]
    assert chunks[-1].usage.total_tokens == 0
    assert not fake.requests


def test_a_recalled_answer_needs_no_upstream(serve: Serve) -> None:
    server = serve(recall=True, upstream_base_url="http://127.0.0.1:9/v1")
    learn(server)
    assert ask(server).parse().choices[0].message.content == "24"


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("How much does the shop earn in 2 days, in dollars?", id="number"),
        pytest.param("How much does the shop not earn a day, in dollars?", id="negation"),
        pytest.param(f"If it sold two more, {ASK.lower()}", id="condition"),
    ],
)
def test_another_question_goes_to_the_model(
    serve: Serve, fake: FakeUpstreamServer, query: str
) -> None:
    server = serve(recall=True)
    learn(server)
    fake.requests.clear()
    raw = ask(server, query)
    assert raw.headers["x-forethought-strategy"] != "recall"
    assert len(fake.requests) == 1


def test_without_the_setting_the_model_is_asked_even_on_a_wish(
    serve: Serve, fake: FakeUpstreamServer
) -> None:
    server = serve()
    learn(server)
    fake.requests.clear()
    assert ask(server).headers["x-forethought-strategy"] != "recall"
    assert len(fake.requests) == 1
    with pytest.raises(BadRequestError, match="its setting recall"):
        ask(server, extra_body={"forethought": {"strategy": "recall"}})


def test_the_clients_own_wish_wins(serve: Serve, fake: FakeUpstreamServer) -> None:
    server = serve(recall=True)
    learn(server)
    fake.requests.clear()
    raw = ask(server, extra_body={"forethought": {"strategy": "direct"}})
    assert raw.headers["x-forethought-strategy"] == "direct"
    assert len(fake.requests) == 1
    wished = ask(server, extra_body={"forethought": {"strategy": "recall"}})
    assert wished.headers["x-forethought-strategy"] == "recall"
    logged = server.logged_as(wished.headers["x-forethought-decision"])
    assert logged.decision.mode == "forced"
