"""Aliases: names of the clients' own for the upstream's models, at every endpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from anthropic import Anthropic

from forethought.api.serving import serving_of
from forethought.api.settings_sources import load_settings
from forethought.router.errors import ConfigError
from forethought.router.upstream.openai import OpenAIUpstream
from tests.api.conftest import Serve
from tests.api.server import KEY, ApiServer
from tests.fake_anthropic import FakeAnthropic, message
from tests.fake_upstream import FakeUpstreamServer

HELLO: Final[list[dict[str, Any]]] = [{"role": "user", "content": "Hi"}]
ALIASES: Final = {"fast": "small", "team/default": "fast", "the-usual": "forethought/auto"}
ENDPOINTS: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/messages": {"messages": HELLO, "max_tokens": 9},
    "/v1/responses": {"input": "Hi"},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/embeddings": {"input": "Hi"},
}


@pytest.fixture(scope="module")
def shared(
    shared_fake: FakeUpstreamServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    folder, url = tmp_path_factory.mktemp("server"), shared_fake.base_url
    with ApiServer(folder, upstream_base_url=url, model="big", model_aliases=ALIASES) as server:
        yield server


@pytest.fixture
def proxy(shared: ApiServer, fake: FakeUpstreamServer) -> ApiServer:
    del fake  # forgets the requests of earlier tests
    return shared


@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param("fast", "small", id="an alias"),
        pytest.param("team/default", "small", id="an alias of an alias"),
        pytest.param("the-usual", "big", id="an alias of forethought/auto"),
        pytest.param("forethought/auto", "big", id="forethought/auto"),
        pytest.param("small", "small", id="a model's own name"),
        pytest.param("of-tomorrow", "of-tomorrow", id="any other name"),
    ],
)
@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_upstream_is_asked_by_its_own_name(
    proxy: ApiServer, fake: FakeUpstreamServer, path: str, name: str, model: str
) -> None:
    reply = proxy.post(path, {"model": name, **ENDPOINTS[path]})
    assert reply.status_code == 200
    assert fake.requests[-1].body["model"] == model
    assert reply.json()["model"] == model
    if "x-forethought-decision" in reply.headers:
        assert proxy.logged(reply).decision.model == model
        changed = reply.headers.get("x-forethought-changes", "")
        assert (f"model={model}" in changed) is (name != model)


@pytest.mark.parametrize("path", [*ENDPOINTS][:4])
def test_streams_too(proxy: ApiServer, fake: FakeUpstreamServer, path: str) -> None:
    reply = proxy.post(path, {"model": "fast", **ENDPOINTS[path], "stream": True})
    assert (reply.status_code, fake.requests[-1].body["model"]) == (200, "small")
    assert '"small"' in reply.text


def test_an_alias_takes_effort_where_its_model_does(serve: Serve, fake: FakeUpstreamServer) -> None:
    server = serve(model_aliases={"thinker": "gpt-5-mini"})
    wish = {"forethought": {"strategy": "effort:low"}}
    server.chat({"model": "thinker", "messages": HELLO, **wish})
    assert fake.requests[-1].body["reasoning_effort"] == "low"
    thinking = {"type": "enabled", "budget_tokens": 1024}
    asked = {"messages": HELLO, "max_tokens": 2048, "thinking": thinking}
    server.post("/v1/messages", {"model": "thinker", **asked})
    assert "reasoning_effort" in fake.requests[-1].body


def test_aliases_are_listed(proxy: ApiServer) -> None:
    listed = {one.id: one for one in proxy.openai.models.list()}
    assert [*listed] == ["fake", *ALIASES, "forethought/auto"]
    found = proxy.openai.models.retrieve("team/default")
    assert (found.owned_by, found.model_dump()["alias_of"]) == ("forethought", "small")
    with Anthropic(base_url=proxy.url, api_key=KEY, max_retries=0) as claude:
        assert [one.id for one in claude.models.list()] == [*listed]


def test_an_alias_that_hides_a_model_says_so(
    serve: Serve, fake: FakeUpstreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        server = serve(model_aliases={"fake": "small", "other": "fake"})
    hidden = "the alias 'fake' hides the upstream's model of that name: its requests go to 'small'"
    assert [r.message for r in caplog.records if "hides" in r.message] == [hidden]
    listed = [(one.id, one.owned_by) for one in server.openai.models.list()]
    assert listed.count(("fake", "forethought")) == 1
    assert ("fake", "fake") not in listed
    reply = server.chat({"model": "fake", "messages": HELLO})
    assert fake.requests[-1].body["model"] == "small"
    assert "model=small" in reply.headers["x-forethought-changes"]


def test_an_upstream_that_cannot_be_asked_for_its_models_is_told_of(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        serve(upstream_base_url="http://127.0.0.1:9/v1", model_aliases=ALIASES)
    assert "an alias may hide one" in caplog.text


def test_settings_may_use_aliases_too(serve: Serve, fake: FakeUpstreamServer) -> None:
    server = serve(
        model="fast", fallbacks=["spare"], model_aliases={"fast": "small", "spare": "tiny"}
    )
    fake.script("status=503")
    reply = server.chat({"model": "forethought/auto", "messages": HELLO})
    asked = [request.body["model"] for request in fake.requests if request.method == "POST"]
    assert asked == ["small", "tiny"]
    assert reply.headers["x-forethought-model"] == "tiny"


def test_an_anthropic_upstream_counts_tokens_by_its_own_name(serve: Serve) -> None:
    with FakeAnthropic() as claude:
        claude.says({"data": []})
        server = serve(
            upstream_base_url=claude.url,
            upstream_api="anthropic",
            model_aliases={"fast": "claude-haiku-4-5"},
        )
        claude.says({"input_tokens": 17})
        claude.says(message({"type": "text", "text": "Hallo"}))
        with Anthropic(base_url=server.url, api_key=KEY, max_retries=0) as sdk:
            counted = sdk.messages.count_tokens(model="fast", messages=HELLO)  # type: ignore[arg-type]
            said = sdk.messages.create(model="fast", max_tokens=9, messages=HELLO)  # type: ignore[arg-type]
        assert (counted.input_tokens, said.model) == (17, "claude-haiku-4-5")
        models = [request.body["model"] for request in claude.requests[1:]]
        assert models == ["claude-haiku-4-5", "claude-haiku-4-5"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param('model_aliases = {"" = "m"}', "a model's name is empty", id="an empty name"),
        pytest.param('model_aliases = {a = " "}', "a model's name is empty", id="for nothing"),
        pytest.param('model_aliases = {a = "a"}', "circle: a -> a", id="itself"),
        pytest.param('model_aliases = {a = "b", b = "c", c = "b"}', "circle: ", id="a circle"),
        pytest.param(
            'model_aliases = {"forethought/auto" = "m"}', "setting model", id="what is the server's"
        ),
        pytest.param('fallbacks = [""]', "a model's name is empty", id="an empty fallback"),
        pytest.param('fallbacks = ["forethought/auto"]', "one by one", id="auto as a fallback"),
    ],
)
def test_names_that_lead_nowhere_are_refused(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(config)
    assert said in str(caught.value)
    assert str(caught.value.param).startswith(text.split(maxsplit=1)[0])
    assert str(config) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        pytest.param({"fallbacks": ["a"]}, "fallbacks", id="the embedded model has no other"),
        pytest.param({"model_aliases": {"a": "b"}}, "model_aliases.a", id="no embedded model"),
        pytest.param(
            {"upstream_base_url": "http://127.0.0.1:9/v1", "fallbacks": ["m", "a"],
             "model_aliases": {"a": "m"}},
            "fallbacks", id="twice the same",
        ),
        pytest.param(
            {"upstream_base_url": "http://127.0.0.1:9/v1", "fallbacks": ["a"],
             "model_aliases": {"a": "forethought/auto"}},
            "fallbacks", id="auto by an alias",
        ),
    ],
)  # fmt: skip
async def test_names_that_the_upstream_cannot_have_are_refused(
    given: dict[str, Any], param: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await serving_of(load_settings(**given), OpenAIUpstream("http://127.0.0.1:9/v1"))
    assert caught.value.param == param


async def test_the_embedded_model_may_have_aliases() -> None:
    settings = load_settings(model_aliases={"mine": "qwen2.5-coder-1.5b", "any": "mine"})
    serving = await serving_of(settings, OpenAIUpstream("http://127.0.0.1:9/v1"))
    assert serving.aliases == {"mine": "qwen2.5-coder-1.5b", "any": "qwen2.5-coder-1.5b"}
