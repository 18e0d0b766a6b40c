"""Text completions and embeddings: the upstream's own, as they are."""

from __future__ import annotations

import pytest
from openai import BadRequestError, InternalServerError, NotFoundError

from tests.api.conftest import Serve
from tests.api.server import ApiServer
from tests.fake_upstream import FakeUpstreamServer


def test_embeddings_pass_on(server: ApiServer, fake: FakeUpstreamServer) -> None:
    found = server.openai.embeddings.create(model="forethought/auto", input=["a b", "abc"])
    assert [one.embedding for one in found.data] == [[3.0, 0.5], [3.0, 0.5]]
    request = fake.requests[-1]
    assert (request.path, request.body["model"]) == ("/v1/embeddings", "fake")
    assert "authorization" not in request.headers


def test_completions_pass_on_whole_and_streamed(server: ApiServer) -> None:
    raw = server.openai.completions.with_raw_response.create(
        model="fake", prompt="dinner", extra_body={"unknown_field": "kept"}
    )
    assert raw.parse().choices[0].text == "after dinner"
    assert '"unknown_reply_field": "kept"' in raw.text
    stream = server.openai.completions.create(model="fake", prompt="dinner", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "after dinner"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_errors_keep_their_status(server: ApiServer, streamed: bool) -> None:
    client = server.openai.with_options(max_retries=0)
    with pytest.raises(InternalServerError, match="As asked"):
        client.completions.create(
            model="fake", prompt="x", stream=streamed, extra_headers={"x-fake": "status=500"}
        )


def test_an_upstream_that_is_away_is_a_502(serve: Serve) -> None:
    server = serve(upstream_base_url="http://127.0.0.1:9/v1", upstream_max_retries=0)
    reply = server.post("/v1/embeddings", {"model": "fake", "input": "x"})
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "upstream_unreachable"


def test_an_upstream_without_the_endpoint_is_a_404(serve: Serve) -> None:
    server = serve(upstream_api="anthropic", upstream_api_key="sk-ours")
    with pytest.raises(NotFoundError, match="has no endpoint /embeddings"):
        server.openai.embeddings.create(model="fake", input="x")


def test_a_model_has_to_be_named(server: ApiServer) -> None:
    with pytest.raises(BadRequestError, match="'model' has to be"):
        server.openai.embeddings.create(model="", input="x")


def test_a_key_is_needed(serve: Serve) -> None:
    server = serve(api_keys={"sk-right": "t"})
    wrong = {"authorization": "Bearer wrong"}
    body = {"model": "fake", "input": "x"}
    assert server.http.post("/v1/embeddings", json=body, headers=wrong).status_code == 401
