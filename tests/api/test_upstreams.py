"""Several upstreams: which one is asked, in its language, with its own key, at its own price."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from anthropic import Anthropic

from forethought.api.metrics import Metrics
from forethought.api.services import opened
from forethought.api.settings_sources import load_settings
from forethought.router.errors import ConfigError
from forethought.router.fallbacks import Fallbacks
from tests.api.conftest import Serve
from tests.api.server import KEY, ApiServer
from tests.api.test_fallbacks import HELLO, WAYS, logged, said_in
from tests.api.test_sleep import PROGRAM, slept
from tests.api.test_sleep import text as document
from tests.fake_anthropic import FakeAnthropic, ended, message, started, text
from tests.fake_upstream import FakeUpstreamServer

ANSWER: Final = "You said: Hi there"
OVERLOADED: Final = {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}
HAIKU: Final = "claude/claude-haiku-4-5"
HAIKUS_COST: Final = (5 * 1.0 + 20 * 1.25 + 100 * 0.1 + 9 * 5.0) / 1e6
"""Of the scripted reply, at the list prices."""


@pytest.fixture(scope="module")
def shared_other() -> Iterator[FakeUpstreamServer]:
    with FakeUpstreamServer(models=("small", "team/large")) as other:
        yield other


@pytest.fixture
def other(shared_other: FakeUpstreamServer) -> FakeUpstreamServer:
    shared_other.requests.clear()
    return shared_other


@pytest.fixture
def claude() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture
def proxy(
    serve: Serve, fake: FakeUpstreamServer, other: FakeUpstreamServer, claude: FakeAnthropic
) -> ApiServer:
    claude.says({"data": []})  # at its start the server looks whether the alias hides a model
    server = serve(
        upstream_api_key="the-first-key",
        upstreams=upstreams(other, claude),
        fallbacks=["other/small", HAIKU],
        model_aliases={"claude-haiku-4-5": HAIKU},
        prices={
            "fake": {"input": 10, "output": 10},
            "small": {"input": 7, "output": 7},
            "other/small": {"input": 1000, "output": 1000},
        },
    )
    for upstream in (fake, other, claude):
        upstream.requests.clear()
    return server


def upstreams(other: FakeUpstreamServer, claude: FakeAnthropic) -> dict[str, Any]:
    return {
        "other": {"base_url": other.base_url, "api_key": "the-others-key"},
        "claude": {"base_url": claude.url, "api": "anthropic", "api_key": "claudes-key"},
    }


@WAYS
def test_a_name_in_front_of_the_model_says_who_is_asked(
    proxy: ApiServer, fake: FakeUpstreamServer, other: FakeUpstreamServer, streamed: bool
) -> None:
    reply = proxy.chat({"model": "other/team/large", "messages": HELLO, "stream": streamed})
    assert (reply.status_code, said_in(reply)) == (200, ANSWER)
    assert [request.body["model"] for request in other.requests] == ["team/large"]
    assert not fake.requests
    assert reply.headers["x-forethought-upstream"] == "other"
    assert logged(proxy, reply)[0].model == "other/team/large"
    reply = proxy.chat({"model": "unknown/small", "messages": HELLO, "stream": streamed})
    assert fake.requests[0].body["model"] == "unknown/small"
    assert reply.headers["x-forethought-upstream"] == "default"


def test_an_alias_leads_to_another_upstream(proxy: ApiServer, claude: FakeAnthropic) -> None:
    claude.says(message({"type": "text", "text": "Hallo"}))
    reply = proxy.chat({"model": "claude-haiku-4-5", "messages": HELLO, "max_tokens": 9})
    assert (said_in(reply), reply.headers["x-forethought-upstream"]) == ("Hallo", "claude")
    assert claude.requests[0].body["model"] == "claude-haiku-4-5"
    decision, outcome = logged(proxy, reply)
    assert (decision.model, outcome.model) == (HAIKU, None)
    assert outcome.cost_usd == pytest.approx(HAIKUS_COST)


@WAYS
def test_each_upstream_gets_its_own_key_and_nobody_elses(
    proxy: ApiServer, fake: FakeUpstreamServer, other: FakeUpstreamServer,
    claude: FakeAnthropic, streamed: bool,
) -> None:  # fmt: skip
    fake.script("status=503")
    other.script("status=500")
    if streamed:
        claude.streams(started() + text("Hallo") + ended())
    else:
        claude.says(message({"type": "text", "text": "Hallo"}))
    body = {"model": "fake", "messages": HELLO, "stream": streamed, "max_tokens": 9}
    reply = proxy.chat(body, cookie="session=1", x_api_key="the-clients-own")
    assert said_in(reply) == "Hallo"
    assert reply.headers["x-forethought-model"] == HAIKU
    assert reply.headers["x-forethought-upstream"] == "claude"
    keys = ("the-first-key", "the-others-key", "claudes-key", KEY, "the-clients-own", "session")
    seen = [
        {key for key in keys if any(key in value for value in request.headers.values())}
        for (request,) in (fake.requests, other.requests, claude.requests)
    ]
    assert seen == [{"the-first-key"}, {"the-others-key"}, {"claudes-key"}]
    decision, outcome = logged(proxy, reply)
    assert (decision.model, outcome.model, outcome.calls) == ("fake", HAIKU, 3)
    assert outcome.error == "fake: HTTP status 503; other/small: HTTP status 500"
    assert outcome.cost_usd == pytest.approx(HAIKUS_COST)


def test_the_same_model_has_another_price_at_another_upstream(
    proxy: ApiServer, fake: FakeUpstreamServer
) -> None:
    at_the_first = proxy.chat({"model": "small", "messages": HELLO})
    fake.script("status=503")
    fell_back = proxy.chat({"model": "fake", "messages": HELLO})
    assert logged(proxy, at_the_first)[1].cost_usd == pytest.approx(6 * 7 / 1e6)
    assert logged(proxy, fell_back)[1].cost_usd == pytest.approx(6 * 1000 / 1e6)


@WAYS
def test_a_claude_that_fails_is_answered_for_in_its_clients_language(
    proxy: ApiServer, other: FakeUpstreamServer, claude: FakeAnthropic, streamed: bool
) -> None:
    claude.says(OVERLOADED, 529)
    marked = {"type": "text", "text": "A long document.", "cache_control": {"type": "ephemeral"}}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    body: Any = {
        "model": "claude/claude-opus-4-1", "max_tokens": 2000, "system": [marked],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [{"role": "user", "content": [
            {"type": "document", "source": pdf}, {"type": "text", "text": "Hi there"},
        ]}],
    }  # fmt: skip
    with Anthropic(base_url=proxy.url, api_key=KEY, max_retries=0, timeout=20) as sdk:
        if streamed:
            with sdk.messages.stream(**body) as stream:
                said, headers = stream.get_final_message(), stream.response.headers
        else:
            raw = sdk.messages.with_raw_response.create(**body)
            said, headers = raw.parse(), raw.headers
    assert (said.model, said.usage.output_tokens) == ("small", 4)
    assert getattr(said.content[0], "text", "").endswith("Hi there")
    (asked,) = other.requests
    assert asked.body["messages"][0] == {"role": "system", "content": "A long document."}
    assert [part["type"] for part in asked.body["messages"][1]["content"]] == ["file", "text"]
    assert asked.body["max_tokens"] == 2000
    assert not {"thinking", "cache_control"} & asked.body.keys()
    assert headers["x-forethought-model"] == "other/small"
    assert "cache_control: left out" in headers["x-forethought-warning"]
    assert "thinking: left out" in headers["x-forethought-warning"]


def test_what_claude_wrote_for_itself_goes_to_no_other_server(
    proxy: ApiServer, other: FakeUpstreamServer, claude: FakeAnthropic
) -> None:
    claude.says(OVERLOADED, 529)
    thought = [{"type": "thinking", "thinking": "Hm", "signature": "s"}]
    marked = [{"type": "text", "text": "Doc", "cache_control": {"type": "ephemeral"}}]
    said = {"role": "assistant", "content": "Yes", "thinking_blocks": thought}
    messages = [{"role": "system", "content": marked}, *HELLO, said, *HELLO]
    reply = proxy.chat({"model": "claude/claude-opus-4-1", "max_tokens": 9, "messages": messages})
    assert reply.status_code == 200
    assert claude.requests[0].body["messages"][1]["content"][0] == thought[0]
    assert other.requests[0].body["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "Doc"}]},
        *HELLO, {"role": "assistant", "content": "Yes"}, *HELLO,
    ]  # fmt: skip


def test_who_has_no_word_for_a_request_is_passed_over(
    proxy: ApiServer, fake: FakeUpstreamServer, other: FakeUpstreamServer, claude: FakeAnthropic
) -> None:
    fake.script("status=503")
    other.script("status=429+retry-after=7")
    reply = proxy.chat({"model": "fake", "messages": HELLO, "logprobs": True})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")
    assert not claude.requests
    _, outcome = logged(proxy, reply)
    assert (outcome.model, outcome.calls) == ("other/small", 2)
    assert outcome.error == "fake: HTTP status 503; As asked."


def test_a_tool_that_only_anthropic_has_leaves_out_all_others() -> None:
    server_tool = {"type": "web_search_20250305", "name": "web_search"}
    models = ("other/small", HAIKU)
    fallbacks = Fallbacks(models=models, speaks_anthropic=frozenset({"c/opus", HAIKU}), native=True)
    body = {"model": "c/opus", "max_tokens": 9, "messages": HELLO, "tools": [server_tool]}
    following = fallbacks.after("c/opus", body)
    assert following is not None
    assert following.body == {**body, "model": HAIKU}
    assert fallbacks.after(HAIKU, body) is None
    assert [one["model"] for one in fallbacks.bodies(body)] == [HAIKU]


def test_each_call_of_a_vote_falls_back_to_another_upstream(
    proxy: ApiServer, fake: FakeUpstreamServer, other: FakeUpstreamServer
) -> None:
    fake.script(*["status=503"] * 3)
    wish = {"forethought": {"strategy": "vote:3"}}
    reply = proxy.chat({"model": "fake", "messages": HELLO, **wish})
    assert (said_in(reply), reply.headers["x-forethought-upstream"]) == (ANSWER, "other")
    assert {request.body["model"] for request in other.requests} == {"small"}
    _, outcome = logged(proxy, reply)
    assert outcome.cost_usd == pytest.approx(len(other.requests) * 6 * 1000 / 1e6)


def test_text_completions_and_embeddings_go_where_the_model_is(
    proxy: ApiServer, fake: FakeUpstreamServer, other: FakeUpstreamServer
) -> None:
    assert proxy.openai.embeddings.create(model="other/small", input="x").model == "small"
    fake.script("status=503")
    reply = proxy.post("/v1/completions", {"model": "fake", "prompt": "x"})
    assert (reply.json()["model"], reply.headers["x-forethought-upstream"]) == ("small", "other")
    assert [request.path for request in other.requests] == ["/v1/embeddings", "/v1/completions"]
    refused = proxy.post("/v1/embeddings", {"model": HAIKU, "input": "x"})
    assert (refused.status_code, "claude has no endpoint" in refused.text) == (404, True)


@WAYS
def test_a_response_that_is_kept_stays_with_one_upstream(
    serve: Serve, fake: FakeUpstreamServer, other: FakeUpstreamServer, streamed: bool
) -> None:
    named = {"other": {"base_url": other.base_url, "responses": True}}
    server = serve(upstream_responses=True, upstreams=named, fallbacks=["other/small", "tiny"])
    fake.script("status=503")
    reply = server.post("/v1/responses", {"model": "fake", "input": "x", "stream": streamed})
    assert reply.headers["x-forethought-model"] == "tiny"
    assert not other.requests
    kept = server.post("/v1/responses", {"model": "other/small", "input": "x", "stream": streamed})
    assert kept.headers["x-forethought-upstream"] == "other"
    assert [request.path for request in other.requests] == ["/v1/responses"]


def test_the_models_of_all_are_listed_with_their_names(
    proxy: ApiServer, claude: FakeAnthropic
) -> None:
    claude.says({"data": [{"id": "claude-haiku-4-5", "type": "model"}], "has_more": False})
    listed = [model.id for model in proxy.openai.models.list()]
    ours = ["claude-haiku-4-5", "forethought/auto"]
    assert listed == ["fake", "other/small", "other/team/large", HAIKU, *ours]
    claude.says(OVERLOADED, 529)  # one that does not tell is left out
    assert HAIKU not in [model.id for model in proxy.openai.models.list()]


def test_one_upstream_that_answers_is_enough_to_be_ready(
    serve: Serve, fake: FakeUpstreamServer
) -> None:
    away = {"away": {"base_url": "http://127.0.0.1:9/v1"}}
    server = serve(upstreams=away, fallbacks=["fake"])
    ready = server.http.get("/readyz")
    assert (ready.status_code, ready.json()["upstreams"]) == (200, {"default": True, "away": False})
    reply = server.chat({"model": "away/any", "messages": HELLO})
    assert (reply.status_code, len(fake.requests) > 0) == (200, True)
    assert "away at http://127.0.0.1:9/v1" not in reply.text


def test_without_a_first_one_the_models_own_upstream_takes_what_names_none(
    serve: Serve, fake: FakeUpstreamServer, other: FakeUpstreamServer
) -> None:
    named = {"first": {"base_url": fake.base_url}, "other": {"base_url": other.base_url}}
    prices = {"plain": {"input": 5, "output": 5}}
    server = serve(
        upstream_base_url=None, model="first/fake", upstreams=named, prices=prices,
        fallbacks=["other/small"],
    )  # fmt: skip
    for name, asked in (("forethought/auto", "fake"), ("plain", "plain"), ("first/x", "x")):
        reply = server.chat({"model": name, "messages": HELLO})
        assert reply.headers["x-forethought-upstream"] == "first"
        assert fake.requests[-1].body["model"] == asked
        assert logged(server, reply)[0].model == f"first/{asked}"
        assert (logged(server, reply)[1].cost_usd is not None) == (name == "plain")
    assert server.openai.models.retrieve("fake").id == "first/fake"


def test_sleep_asks_the_upstream_of_its_model(
    tmp_path: Path, fake: FakeUpstreamServer, other: FakeUpstreamServer, claude: FakeAnthropic
) -> None:
    settings = {"upstream_base_url": fake.base_url, "upstreams": upstreams(other, claude)}
    for _ in range(3):
        claude.says(message({"type": "text", "text": PROGRAM}))
    with ApiServer(tmp_path, model=HAIKU, sleep="auto", **settings) as server:
        context = server.client.contexts.create(text=document("Janet"), sleep=True)
        slept(server, context.id)
        (learned,) = server.services.reader.learned_versions(context.id)
    assert (learned.model, len(learned.notes)) == (HAIKU, 2)
    assert learned.cost_usd == pytest.approx(3 * HAIKUS_COST)
    assert claude.requests[0].body["thinking"] == {"type": "disabled"}
    assert not fake.requests


BASE: Final = '[upstreams.claude]\nbase_url = "https://api.anthropic.com"\n'


@pytest.mark.parametrize(
    ("config", "said"),
    [
        pytest.param('[upstreams.claude]\napi_key = "k"', "'upstreams.claude.base_url'", id="none"),
        pytest.param('[upstreams.a]\nbase_url = "a.org"', "no address such as", id="no address"),
        pytest.param(BASE.replace("claude", "Big"), "small letters", id="large letters"),
        pytest.param(BASE.replace("claude", "forethought"), "is not default", id="our own name"),
        pytest.param(f"{BASE}key = 1", "'upstreams.claude.key' is not a setting", id="misspelt"),
        pytest.param(f'{BASE}[upstreams.b]\nbase_url = "http://b"', "claude, b", id="no default"),
        pytest.param(f'fallbacks = ["x", "claude/x"]\n{BASE}', "a model twice", id="twice"),
    ],
)
async def test_what_cannot_be_is_said_at_the_start(tmp_path: Path, config: str, said: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(config)
    with pytest.raises(ConfigError) as caught:
        async with opened(load_settings(file, data_dir=tmp_path), Metrics()):
            pass
    assert said in str(caught.value)


def test_a_key_comes_from_the_environment_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(BASE)
    monkeypatch.setenv("FORETHOUGHT_UPSTREAMS__CLAUDE__API_KEY", "my-secret")
    settings = load_settings(file)
    found = settings.upstreams["claude"]
    assert found.api_key is not None
    assert (found.api_key.get_secret_value(), found.speaks_anthropic) == ("my-secret", True)
    assert (settings.embedded, settings.default_upstream) == (False, "claude")
    assert "my-secret" not in repr(settings)
