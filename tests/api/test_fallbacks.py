"""A model that fails: who is asked instead, when, at whose price, and how that is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from anthropic import Anthropic
from openai import APIStatusError, OpenAI
from rich.console import Console

from forethought.api.commands.why import print_decision
from forethought.api.metrics import Metrics
from forethought.api.services import opened
from forethought.api.settings_sources import load_settings
from forethought.router.errors import ConfigError
from forethought.router.records import Decision, Outcome
from tests.api.conftest import Serve
from tests.api.server import KEY, ApiServer
from tests.api.test_streams import until_logged
from tests.fake_anthropic import RESET, FakeAnthropic, ended, message, started, text
from tests.fake_upstream import FakeUpstreamServer

HELLO: Final[list[dict[str, Any]]] = [{"role": "user", "content": "Hi there"}]
ANSWER: Final = "You said: Hi there"
BIG, SMALL, TINY = 1000.0, 100.0, 10.0
"""USD per million tokens, in and out; the fake upstream's token is a word."""
SMALLS_COST: Final = 6 * SMALL / 1e6
BAD: Final = ("status=408", "status=429", "status=500", "status=503", "status=529", "garbage")
MODELS: Final = {f"big:{how}": BIG for how in (*BAD, "drop", "hang", "status=400", "status=409")}
PRICES: Final = {
    name: {"input": usd, "output": usd}
    for name, usd in {**MODELS, "big": BIG, "small": SMALL, "tiny": TINY, "tiny:drop": TINY}.items()
}
WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module")
def shared(
    shared_fake: FakeUpstreamServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    given: dict[str, Any] = {
        "upstream_base_url": shared_fake.base_url, "model": "big", "fallbacks": ["small", "tiny"],
        "prices": PRICES, "upstream_responses": True, "upstream_first_token_timeout_s": 0.4,
        "upstream_timeout_s": 2.0,
    }  # fmt: skip
    with ApiServer(tmp_path_factory.mktemp("server"), **given) as server:
        yield server


@pytest.fixture
def proxy(shared: ApiServer, fake: FakeUpstreamServer) -> ApiServer:
    del fake  # forgets the requests of earlier tests
    return shared


def asked(fake: FakeUpstreamServer) -> list[str]:
    return [request.body["model"] for request in fake.requests]


def said_in(reply: Any) -> str:
    """The answer of a chat completion, whole or streamed."""
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return str(reply.json()["choices"][0]["message"]["content"])
    events = [line[6:] for line in reply.text.split("\n\n") if line.startswith("data: {")]
    chunks = [json.loads(event) for event in events]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def logged(server: ApiServer, reply: Any) -> tuple[Decision, Outcome]:
    found = until_logged(server, reply.headers["x-forethought-decision"])
    assert found.outcome is not None
    return found.decision, found.outcome


@WAYS
@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
def test_where_a_model_fails_the_next_one_answers_an_openai_client(
    proxy: ApiServer, fake: FakeUpstreamServer, status: int, streamed: bool
) -> None:
    reply = proxy.chat({"model": f"big:status={status}", "messages": HELLO, "stream": streamed})
    assert (reply.status_code, said_in(reply)) == (200, ANSWER)
    assert reply.headers["x-forethought-model"] == "small"
    assert float(reply.headers["x-forethought-overhead-ms"]) > 0
    assert asked(fake) == [f"big:status={status}", "small"]
    decision, outcome = logged(proxy, reply)
    assert decision.model == f"big:status={status}"
    assert (outcome.status, outcome.model, outcome.calls) == ("ok", "small", 2)
    assert outcome.error == f"big:status={status}: HTTP status {status}"
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (2, 4)
    assert outcome.cost_usd == pytest.approx(SMALLS_COST)


@WAYS
def test_the_openai_sdk_gets_the_other_models_answer(proxy: ApiServer, streamed: bool) -> None:
    create = proxy.openai.chat.completions.create
    body: Any = {"model": "big:status=503", "messages": HELLO, "stream": streamed}
    reply: Any = create(**body)
    if streamed:
        chunks = list(reply)
        assert {chunk.model for chunk in chunks} == {"small"}
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    else:
        assert (reply.model, reply.choices[0].message.content) == ("small", ANSWER)


@WAYS
def test_an_anthropic_client_gets_the_other_models_answer(
    proxy: ApiServer, fake: FakeUpstreamServer, streamed: bool
) -> None:
    body: Any = {"model": "big:status=529", "max_tokens": 50, "messages": HELLO}
    with Anthropic(base_url=proxy.url, api_key=KEY, max_retries=0, timeout=20) as sdk:
        if streamed:
            with sdk.messages.stream(**body) as stream:
                said = stream.get_final_message()
        else:
            said = sdk.messages.create(**body)
    assert (said.model, getattr(said.content[0], "text", "")) == ("small", ANSWER)
    assert asked(fake) == ["big:status=529", "small"]


@WAYS
def test_a_client_of_responses_gets_the_other_models_answer(
    proxy: ApiServer, streamed: bool
) -> None:
    body: Any = {"model": "big:status=503", "input": "Hi there", "store": False}
    reply: Any = proxy.openai.responses.create(**body, stream=streamed)
    said = list(reply)[-1].response if streamed else reply
    assert (said.model, said.output_text) == ("small", ANSWER)


@WAYS
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_what_is_the_clients_fault_is_reported_and_asked_of_no_other_model(
    proxy: ApiServer, fake: FakeUpstreamServer, status: int, streamed: bool
) -> None:
    model = f"big:status={status}"
    reply = proxy.chat({"model": model, "messages": HELLO, "stream": streamed})
    assert (reply.status_code, reply.json()["error"]["message"]) == (status, "As asked.")
    assert asked(fake) == [model] == [reply.headers["x-forethought-model"]]
    _, outcome = logged(proxy, reply)
    assert (outcome.model, outcome.calls, outcome.cost_usd) == (None, 1, None)


@WAYS
def test_a_model_that_is_silent_for_too_long_is_left_and_its_input_billed(
    proxy: ApiServer, fake: FakeUpstreamServer, streamed: bool
) -> None:
    reply = proxy.chat({"model": "big:hang", "messages": HELLO, "stream": streamed})
    assert (reply.status_code, said_in(reply)) == (200, ANSWER)
    assert asked(fake) == ["big:hang", "small"]
    _, outcome = logged(proxy, reply)
    read = outcome.usage.input_tokens - 2
    assert read > 0
    assert outcome.cost_usd == pytest.approx(SMALLS_COST + read * BIG / 1e6)
    assert outcome.error == "big:hang: timed out, input tokens are estimated"


def test_what_a_silent_model_cost_is_unknown_without_its_price(proxy: ApiServer) -> None:
    reply = proxy.chat({"model": "of-tomorrow:hang", "messages": HELLO, "stream": True})
    _, outcome = logged(proxy, reply)
    assert (outcome.status, outcome.model, outcome.cost_usd) == ("ok", "small", None)


def test_the_record_the_metrics_and_why_name_the_other_model(
    proxy: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = proxy.chat({"model": "big:status=503", "messages": HELLO})
    decision = proxy.client.decisions.retrieve(reply.headers["x-forethought-decision"])
    assert decision.outcome is not None
    assert (decision.model, decision.outcome.model) == ("big:status=503", "small")
    assert 'forethought_fallbacks_total{model="small"}' in proxy.http.get("/metrics").text
    print_decision(decision, Console(width=200))
    assert (
        "small was asked in the end (big:status=503: HTTP status 503)." in capsys.readouterr().out
    )


def test_a_whole_reply_that_breaks_off_is_asked_of_the_next_model(
    proxy: ApiServer, fake: FakeUpstreamServer
) -> None:
    reply = proxy.chat({"model": "big:drop", "messages": HELLO})
    assert said_in(reply) == ANSWER
    assert asked(fake) == ["big:drop", "small"]
    assert (logged(proxy, reply)[1].cost_usd or 0.0) > SMALLS_COST


def test_a_stream_that_breaks_off_in_mid_answer_stays_the_models_own(
    proxy: ApiServer, fake: FakeUpstreamServer
) -> None:
    reply = proxy.chat({"model": "big:drop", "messages": HELLO, "stream": True})
    assert asked(fake) == ["big:drop"]
    last = json.loads(reply.text.rstrip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "upstream_unreachable"
    assert reply.headers["x-forethought-model"] == "big:drop"
    _, outcome = logged(proxy, reply)
    assert (outcome.status, outcome.model, outcome.calls) == ("upstream_error", None, 1)


@WAYS
def test_nothing_is_asked_again_where_the_model_answers(
    proxy: ApiServer, fake: FakeUpstreamServer, streamed: bool
) -> None:
    reply = proxy.chat({"model": "big", "messages": HELLO, "stream": streamed})
    assert (said_in(reply), asked(fake)) == (ANSWER, ["big"])
    assert reply.headers["x-forethought-model"] == "big"
    _, outcome = logged(proxy, reply)
    assert (outcome.model, outcome.calls, outcome.error) == (None, 1, None)
    assert outcome.cost_usd == pytest.approx(6 * BIG / 1e6)


def test_a_fallback_has_only_those_behind_it(proxy: ApiServer, fake: FakeUpstreamServer) -> None:
    fake.script("status=500")
    first = proxy.chat({"model": "small", "messages": HELLO})
    fake.script("status=500")
    last = proxy.chat({"model": "tiny", "messages": HELLO})
    assert asked(fake) == ["small", "tiny", "tiny"]
    assert (first.status_code, last.status_code) == (200, 500)
    assert "x-forethought-model" not in last.headers


@WAYS
def test_where_all_fail_the_last_ones_failure_is_the_reply(
    proxy: ApiServer, fake: FakeUpstreamServer, streamed: bool
) -> None:
    fake.script("status=500", "status=503", "status=429+retry-after=7")
    reply = proxy.chat({"model": "big", "messages": HELLO, "stream": streamed})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")
    assert asked(fake) == ["big", "small", "tiny"]
    assert reply.headers["x-forethought-model"] == "tiny"
    _, outcome = logged(proxy, reply)
    assert (outcome.status, outcome.model, outcome.calls) == ("upstream_error", "tiny", 3)
    assert outcome.error == "big: HTTP status 500; small: HTTP status 503; As asked."
    assert outcome.cost_usd is None


def test_all_that_time_out_are_billed(proxy: ApiServer, fake: FakeUpstreamServer) -> None:
    fake.script("hang", "hang", "hang")
    reply = proxy.chat({"model": "big", "messages": HELLO, "stream": True})
    assert (reply.status_code, len(asked(fake))) == (504, 3)
    _, outcome = logged(proxy, reply)
    assert (outcome.status, outcome.calls) == ("timeout", 3)
    read = outcome.usage.input_tokens / 3
    assert outcome.cost_usd == pytest.approx(read * (BIG + SMALL + TINY) / 1e6)


@WAYS
def test_an_upstream_that_takes_no_connection_costs_nothing(serve: Serve, streamed: bool) -> None:
    away = serve(upstream_base_url="http://127.0.0.1:9/v1", fallbacks=["small"], prices=PRICES)
    reply = away.chat({"model": "big", "messages": HELLO, "stream": streamed})
    assert (reply.status_code, reply.headers["x-forethought-model"]) == (502, "small")
    _, outcome = logged(away, reply)
    assert (outcome.calls, outcome.usage.input_tokens, outcome.cost_usd) == (2, 0, None)
    assert outcome.error is not None
    assert outcome.error.startswith("big: not reached; ")


def test_a_model_is_tried_again_before_another_is_asked(
    serve: Serve, fake: FakeUpstreamServer
) -> None:
    server = serve(fallbacks=["small"], upstream_max_retries=1)
    fake.script("status=503+retry-after=0.01", "")
    assert said_in(server.chat({"model": "big", "messages": HELLO})) == ANSWER
    assert asked(fake) == ["big", "big"]
    fake.requests.clear()
    fake.script("status=503+retry-after=0.01", "status=503+retry-after=0.01", "")
    assert said_in(server.chat({"model": "big", "messages": HELLO})) == ANSWER
    assert asked(fake) == ["big", "big", "small"]


def test_without_fallbacks_no_header_names_a_model(
    server: ApiServer, fake: FakeUpstreamServer
) -> None:
    reply = server.chat({"model": "fake:status=503", "messages": HELLO})
    assert (reply.status_code, len(fake.requests)) == (503, 1)
    assert "x-forethought-model" not in reply.headers


def test_each_sample_of_a_vote_falls_back_and_is_billed(
    proxy: ApiServer, fake: FakeUpstreamServer
) -> None:
    wish = {"forethought": {"strategy": "vote:3"}}
    reply = proxy.chat({"model": "big:status=500", "messages": HELLO, **wish})
    assert (said_in(reply), reply.headers["x-forethought-model"]) == (ANSWER, "small")
    assert sorted(asked(fake)) == ["big:status=500"] * 2 + ["small"] * 2
    _, outcome = logged(proxy, reply)
    assert (outcome.model, outcome.calls) == ("small", 4)
    assert outcome.error == "big:status=500: HTTP status 500"
    assert outcome.cost_usd == pytest.approx(2 * SMALLS_COST)


def test_an_effort_that_the_other_model_does_not_take_is_left_out_openly(
    proxy: ApiServer, fake: FakeUpstreamServer
) -> None:
    wish = {"forethought": {"strategy": "effort:low"}}
    reply = proxy.chat({"model": "gpt-5:status=503", "messages": HELLO, **wish})
    first, second = fake.requests
    assert (first.body["reasoning_effort"], second.body.get("reasoning_effort")) == ("low", None)
    warning = reply.headers["x-forethought-warning"]
    assert warning == "reasoning_effort is not for small, which answers instead"
    # What the client itself asked for stays.
    fake.requests.clear()
    proxy.chat({"model": "gpt-5:status=503", "messages": HELLO, "reasoning_effort": "high"})
    assert [request.body["reasoning_effort"] for request in fake.requests] == ["high", "high"]


@WAYS
@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"path": "/v1/completions", "prompt": "x"}, id="completions"),
        pytest.param({"path": "/v1/responses", "input": "x"}, id="responses that are kept"),
    ],
)
def test_what_passes_on_falls_back_too(
    proxy: ApiServer, fake: FakeUpstreamServer, body: dict[str, Any], streamed: bool
) -> None:
    path, rest = body["path"], {k: v for k, v in body.items() if k != "path"}
    reply = proxy.post(path, {"model": "big:status=503", "stream": streamed, **rest})
    assert (reply.status_code, reply.headers["x-forethought-model"]) == (200, "small")
    assert asked(fake) == ["big:status=503", "small"]
    reply = proxy.post(path, {"model": "big:status=400", "stream": streamed, **rest})
    assert (reply.status_code, reply.headers["x-forethought-model"]) == (400, "big:status=400")


def test_embeddings_of_another_model_never_stand_in(
    proxy: ApiServer, fake: FakeUpstreamServer
) -> None:
    with pytest.raises(APIStatusError, match="As asked"):
        proxy.openai.embeddings.create(model="big:status=503", input="x")
    assert asked(fake) == ["big:status=503"]


@pytest.fixture
def claude() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as fake:
        yield fake


@pytest.mark.parametrize(
    "pieces", [pytest.param((RESET,), id="reset"), pytest.param((), id="empty")]
)
def test_a_stream_that_ends_before_its_first_event_is_asked_of_the_next_model(
    serve: Serve, claude: FakeAnthropic, pieces: tuple[bytes, ...]
) -> None:
    server = serve(upstream_base_url=f"{claude.url}/v1", fallbacks=["small"], prices=PRICES)
    claude.streams(*pieces)
    word = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    claude.streams(b"data: %s\n\ndata: [DONE]\n\n" % json.dumps(word).encode())
    reply = server.chat({"model": "big", "messages": HELLO, "stream": True})
    assert (reply.status_code, said_in(reply)) == (200, "Hi")
    assert [request.body["model"] for request in claude.requests] == ["big", "small"]
    assert float(reply.headers["x-forethought-overhead-ms"]) > 0
    _, outcome = logged(server, reply)
    assert (outcome.status, outcome.model, outcome.calls) == ("ok", "small", 2)
    assert outcome.error is not None
    assert outcome.error.startswith("big: broke off, input tokens are estimated")


@WAYS
@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_before_anthropics_api(
    serve: Serve, claude: FakeAnthropic, client: str, streamed: bool
) -> None:
    server = serve(
        upstream_base_url=claude.url, upstream_api="anthropic", fallbacks=["claude-haiku-4-5"]
    )
    claude.says({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, 529)
    if streamed:
        claude.streams(started() + text("Hallo") + ended())
    else:
        claude.says(message({"type": "text", "text": "Hallo"}))
    path = "/v1/messages" if client == "anthropic" else "/v1/chat/completions"
    body = {"model": "claude-opus-4-1", "max_tokens": 9, "messages": HELLO, "stream": streamed}
    reply = server.post(path, body)
    assert reply.status_code == 200
    assert "Hallo" in reply.text
    assert reply.headers["x-forethought-model"] == "claude-haiku-4-5"
    models = [request.body["model"] for request in claude.requests]
    assert models == ["claude-opus-4-1", "claude-haiku-4-5"]
    _, outcome = logged(server, reply)
    assert (outcome.model, outcome.calls) == ("claude-haiku-4-5", 2)
    usd = (5 * 1.0 + 20 * 1.25 + 100 * 0.1 + 9 * 5.0) / 1e6  # at the haiku's list prices
    assert outcome.cost_usd == pytest.approx(usd)


BUDGET: Final[dict[str, Any]] = {
    "budget_period_s": 365 * 86_400.0,
    "prices": PRICES,
    "model": "tiny",
}


def test_a_hard_budget_holds_for_the_dearest_model_that_can_be_asked(
    serve: Serve, fake: FakeUpstreamServer
) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 20}
    alone = serve(budget_usd=0.03, **BUDGET)
    assert alone.chat(body).status_code == 200
    alone.__exit__(None, None, None)
    fake.requests.clear()
    reply = serve(budget_usd=0.03, fallbacks=["big"], **BUDGET).chat(body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "budget_spent")
    assert not fake.requests


def test_a_hard_budget_is_not_exceeded_by_answers_that_fell_back(serve: Serve) -> None:
    server = serve(budget_usd=0.5, fallbacks=["big"], **BUDGET)
    statuses = []
    while 429 not in statuses:
        reply = server.chat({"model": "tiny:drop", "messages": HELLO, "max_tokens": 5})
        statuses.append(reply.status_code)
    shown = server.http.get("/v1/budget", headers={"authorization": f"Bearer {KEY}"}).json()
    outcomes = [d.outcome for d in server.services.reader.logged_decisions() if d.outcome]
    assert {(one.model, one.calls) for one in outcomes} == {("big", 2)}
    assert len(outcomes) == len(statuses) - 1 > 3
    assert shown["spent_usd"] == pytest.approx(sum(one.cost_usd or 0.0 for one in outcomes))
    assert 0 < shown["spent_usd"] <= 0.5
    assert shown["reserved_usd"] == 0


async def test_a_budget_needs_the_prices_of_every_model_that_can_be_asked(
    fake: FakeUpstreamServer, tmp_path: Path
) -> None:
    settings = load_settings(
        data_dir=tmp_path, upstream_base_url=fake.base_url, fallbacks=["of-tomorrow"],
        budget_usd=1.0, sleep="off", **BUDGET,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="of-tomorrow"):
        async with opened(settings, Metrics()):
            pass


def test_a_client_that_hangs_up_while_another_model_is_asked_pays_for_both(
    proxy: ApiServer, fake: FakeUpstreamServer
) -> None:
    fake.script("drop", "hang")
    client = OpenAI(base_url=f"{proxy.url}/v1", api_key=KEY, max_retries=0, timeout=0.5)
    with client, pytest.raises(Exception, match="timed out"):
        client.chat.completions.create(model="big", messages=HELLO)  # type: ignore[arg-type]
    assert asked(fake) == ["big", "small"]
    *_, last = proxy.services.reader.logged_decisions()
    outcome = until_logged(proxy, last.decision.id).outcome
    assert outcome is not None
    assert (outcome.status, outcome.model, outcome.calls) == ("cancelled", "small", 2)
    read = outcome.usage.input_tokens / 2
    assert outcome.cost_usd == pytest.approx(read * (BIG + SMALL) / 1e6)
