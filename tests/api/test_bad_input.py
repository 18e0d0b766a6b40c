from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.api.conftest import Serve
from tests.api.server import ApiServer

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"


def error_of(reply: Any, status: int) -> dict[str, Any]:
    assert reply.status_code == status
    assert reply.headers["x-request-id"]
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("path", [CHAT, "/v1/route", "/v1/contexts", "/v1/feedback"])
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut short"),
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b"[1]", id="an array"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"model": NaN}', id="not a number"),
        pytest.param(b'{"a": "\xff"}', id="not UTF-8"),
        pytest.param(b'{"a": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", id="too deep"),
        pytest.param(b'{"a":' + b"[" * 100_000, id="far too deep"),
    ],
)
def test_a_malformed_body_is_refused(server: ApiServer, path: str, raw: bytes) -> None:
    error = error_of(server.http.post(path, content=raw), 400)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param({"messages": HELLO}, "model", id="no model"),
        pytest.param({"model": 3, "messages": HELLO}, "model", id="a number as model"),
        pytest.param({"model": "fake"}, "messages", id="no messages"),
        pytest.param({"model": "fake", "messages": []}, "messages", id="empty messages"),
        pytest.param({"model": "fake", "messages": "Hi"}, "messages", id="messages as text"),
        pytest.param({"model": "fake", "messages": ["Hi"]}, "messages[0].role", id="no object"),
        pytest.param(
            {"model": "fake", "messages": [{"content": "Hi"}]}, "messages[0].role", id="no role"
        ),
        pytest.param(
            {"model": "fake", "messages": [{"role": "user", "content": 1}]},
            "messages[0].content",
            id="a number as content",
        ),
        pytest.param({"model": "fake", "messages": HELLO, "stream": 1}, "stream", id="stream"),
        pytest.param(
            {"model": "fake", "messages": HELLO, "stream_options": []},
            "stream_options",
            id="stream options",
        ),
        pytest.param(
            {"model": "fake", "messages": HELLO, "forethought": "direct"},
            "forethought",
            id="our field",
        ),
        pytest.param(
            {"model": "fake", "messages": HELLO, "forethought": {"tactic": "x"}},
            "forethought.tactic",
            id="an unknown wish",
        ),
        pytest.param(
            {"model": "fake", "messages": HELLO, "forethought": {"strategy": "guess"}},
            "forethought.strategy",
            id="an unknown strategy",
        ),
        pytest.param(
            {"model": "fake", "messages": HELLO, "forethought": {"strategy": "learned:low"}},
            "forethought.strategy",
            id="a strategy that cannot serve it",
        ),
    ],
)
def test_a_wrong_field_is_named(server: ApiServer, body: dict[str, Any], param: str) -> None:
    assert error_of(server.post(CHAT, body), 400)["param"] == param


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        pytest.param("GET", "/v1/nothing", None, 404, "not_found", id="an unknown path"),
        pytest.param("PUT", CHAT, None, 405, "method_not_allowed", id="a wrong method"),
        pytest.param("GET", "/v1/decisions/dec_0", None, 404, "not_found", id="no decision"),
        pytest.param("GET", "/v1/contexts/ctx_0", None, 404, "not_found", id="no context"),
        pytest.param("DELETE", "/v1/contexts/ctx_0", None, 404, "not_found", id="none to delete"),
        pytest.param("GET", "/v1/contexts/ctx_0/plan", None, 404, "not_found", id="none to plan"),
        pytest.param("GET", "/v1/contexts?limit=0", None, 400, "invalid_request", id="a limit"),
        pytest.param("GET", "/v1/contexts?after=c", None, 404, "not_found", id="a cursor"),
        pytest.param("GET", "/v1/models/gpt-9", None, 404, "model_not_found", id="no model"),
        pytest.param("POST", "/v1/contexts", {}, 400, "invalid_request", id="no context given"),
        pytest.param(
            "POST",
            "/v1/contexts",
            {"text": "a", "messages": HELLO},
            400,
            "invalid_request",
            id="two",
        ),
        pytest.param(
            "POST",
            "/v1/contexts",
            {"text": "a", "sleep": True},
            400,
            "invalid_request",
            id="sleep off",
        ),
        pytest.param(
            "POST",
            "/v1/feedback",
            {"decision_id": "dec_0", "quality": 1},
            404,
            "not_found",
            id="feedback on nothing",
        ),
        pytest.param(
            "POST",
            "/v1/feedback",
            {"decision_id": "dec_0", "quality": 2},
            400,
            "invalid_request",
            id="a quality of 2",
        ),
        pytest.param(
            "POST",
            CHAT,
            {"model": "fake", "messages": HELLO, "forethought": {"context": "ctx_0"}},
            404,
            "not_found",
            id="chat about no context",
        ),
    ],
)
def test_what_is_not_there_or_wrong_is_said_in_openais_shape(
    server: ApiServer, method: str, path: str, body: Any, status: int, code: str
) -> None:
    reply = server.http.request(method, path, json=body)
    assert error_of(reply, status)["code"] == code


@pytest.mark.parametrize("chunked", [False, True], ids=["length declared", "chunked"])
def test_a_too_large_context_is_refused(serve: Serve, chunked: bool) -> None:
    server = serve(max_body_bytes=1000)
    raw = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "a" * 2000}]})
    content: Any = iter([raw.encode()]) if chunked else raw.encode()
    error = error_of(server.http.post(CHAT, content=content), 400)
    assert error["code"] == "context_length_exceeded"
    assert "max_body_bytes" in error["message"]


def test_every_route_but_those_that_watch_the_server_asks_for_a_key(serve: Serve) -> None:
    server = serve(api_keys={"sk-one": "acme"}, upstream_paths=["audio"])
    paths = server.http.get("/openapi.json").json()["paths"]
    asked = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    asked |= {("POST", "/v1/audio/speech"), ("GET", "/v1/files")}
    answered = set()
    for method, path in asked:
        reply = server.http.request(method, re.sub("{[^}]*}", "x", path), json={})
        if reply.status_code != 401:
            answered.add(path)
        elif path.startswith("/v1/messages"):
            assert reply.json()["error"]["type"] == "authentication_error"
        else:
            assert error_of(reply, 401)["code"] == "invalid_api_key"
    assert answered == {"/healthz", "/readyz", "/metrics"}
    assert len(asked) > 20


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_what_passes_through_is_counted_by_its_route(serve: Serve, method: str) -> None:
    server = serve()
    assert server.http.request(method, "/v1/embeddings").status_code == 405
    shown = server.http.get("/metrics").text
    assert 'route="/v1/embeddings",status="405"' in shown


def test_keys_are_asked_for_where_there_are_some(serve: Serve) -> None:
    server = serve(api_keys={"sk-one": "acme"})
    body = {"model": "fake", "messages": HELLO}
    assert error_of(server.post(CHAT, body), 401)["code"] == "invalid_api_key"
    assert error_of(server.http.get("/v1/models"), 401)["code"] == "invalid_api_key"
    reply = server.post(CHAT, body, authorization="Bearer sk-one")
    assert server.logged(reply).decision.tenant == "acme"
    assert server.http.get("/healthz").status_code == 200


def test_a_fault_of_ours_says_nothing_of_the_inside(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()

    async def fail(*_: object) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr(server.services.gateway, "decide", fail)
    error = error_of(server.chat({"messages": HELLO}), 500)
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/responses", {"input": [{"role": {}, "content": None}]}, id="role"),
        pytest.param("/v1/responses", {"input": [{"type": ["message"]}]}, id="item"),
        pytest.param("/v1/responses", {"input": "x", "tools": [{"type": {}}]}, id="tool"),
        pytest.param("/v1/messages", {"max_tokens": 9, "messages": HELLO,
                                      "tools": [{"name": "f", "type": []}]}, id="claude's tool"),
        pytest.param("/v1/messages", {"max_tokens": 9, "messages": [
            {"role": "user", "content": [{"type": {}}]}]}, id="block"),
    ],
)  # fmt: skip
def test_a_list_where_a_word_is_asked_for_is_refused(
    server: ApiServer, path: str, body: dict[str, Any]
) -> None:
    assert server.post(path, {"model": "fake", **body}).status_code == 400


def test_a_field_named_in_a_warning_cannot_break_the_header(server: ApiServer) -> None:
    body = {"model": "fake", "max_tokens": 9, "messages": HELLO, "\x1b\x00ü\n": 1}
    reply = server.post("/v1/messages", body)
    assert reply.status_code == 200
    assert reply.headers["x-forethought-warning"] == "??? : left out"
