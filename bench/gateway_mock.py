"""An upstream that answers at once, and the barest proxy in front of one: what others are held to.

``python -m bench.gateway_mock mock PORT`` and ``python -m bench.gateway_mock bare PORT UPSTREAM``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

MODEL = "mock"
CHUNKS = 400
"""Of a streamed answer, the last with the reason to stop; then the usage, where asked for."""

_USAGE = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}
_HEAD = {"id": "chatcmpl-mock", "created": 1_760_000_000, "model": MODEL}


def _whole() -> bytes:
    message = {"role": "assistant", "content": "She sells 9 eggs a day."}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    reply = {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    return json.dumps(reply).encode()


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    chunk = {**_HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


REPLY = _whole()
PIECE = _event([{"index": 0, "delta": {"content": " egg"}, "finish_reason": None}])
LAST = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE = _event([], usage=_USAGE)
DONE = b"data: [DONE]\n\n"


async def mock(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A raw ASGI application: every POST is answered by the same completion."""
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    body += message.get("body", b"")
    if scope["method"] != "POST":
        models = {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "me"}]}
        await _send(send, json.dumps(models).encode())
        return
    asked = json.loads(body)
    if not asked.get("stream"):
        await _send(send, REPLY)
        return
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(CHUNKS - 1):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": LAST, "more_body": True})
    if (asked.get("stream_options") or {}).get("include_usage"):
        await send({"type": "http.response.body", "body": USAGE, "more_body": True})
    await send({"type": "http.response.body", "body": DONE})


async def _send(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def bare(upstream: str) -> FastAPI:
    """FastAPI and httpx, and nothing between them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=upstream, timeout=60) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.client
        body = await request.body()
        own = {"content-type": "application/json"}
        asked = client.build_request("POST", "/chat/completions", content=body, headers=own)
        if not json.loads(body).get("stream"):
            reply = await client.send(asked)
            return Response(reply.content, reply.status_code, media_type="application/json")
        reply = await client.send(asked, stream=True)
        return StreamingResponse(reply.aiter_raw(), media_type="text/event-stream")

    return app


def main() -> None:
    name, port = sys.argv[1], int(sys.argv[2])
    app: Any = mock if name == "mock" else bare(sys.argv[3])
    own = {"lifespan": "off"} if name == "mock" else {}
    uvicorn.run(app, port=port, log_level="warning", access_log=False, **own)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
