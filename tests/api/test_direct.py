"""What passes through goes by the shortest way, and is answered as everything else is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.api.server import ApiServer
from tests.fake_upstream import FakeUpstreamServer

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


class Layer:
    """One of FastAPI's layers: it sees what goes through them."""

    def __init__(self, app: ASGIApp, seen: list[str]) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._seen.append(f"{scope['method']} {scope['path']}")
        await self._app(scope, receive, send)


@pytest.fixture
def seen() -> list[str]:
    return []


@pytest.fixture
def layered(fake: FakeUpstreamServer, tmp_path: Path, seen: list[str]) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path, upstream_base_url=fake.base_url, model="fake")
    server.app.add_middleware(Layer, seen=seen)
    with server:
        yield server


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_completion_goes_by_no_layer(
    layered: ApiServer, seen: list[str], *, stream: bool
) -> None:
    assert layered.chat({**BODY, "stream": stream}).status_code == 200
    assert seen == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/healthz", 200, id="a route of FastAPI's"),
        pytest.param("GET", "/v1/chat/completions", 405, id="a method that is not direct"),
        pytest.param("POST", "/v1/chat/completions/x", 404, id="a path that is not direct"),
    ],
)
def test_all_else_goes_by_every_layer(
    layered: ApiServer, seen: list[str], method: str, path: str, status: int
) -> None:
    assert layered.http.request(method, path).status_code == status
    assert seen == [f"{method} {path}"]


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        pytest.param("/v1/chat/completions", [], "invalid_request_error", id="openai"),
        pytest.param("/v1/messages", [], "invalid_request_error", id="anthropic"),
    ],
)
def test_a_refusal_has_its_shape_and_its_identity(
    layered: ApiServer, path: str, body: Any, kind: str
) -> None:
    reply = layered.http.post(path, json=body, headers={"x-request-id": "mine"})
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == kind
    assert reply.headers["x-request-id"] == "mine"
    assert f'route="{path}",status="400"' in layered.http.get("/metrics").text
