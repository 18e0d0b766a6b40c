"""``POST /v1/chat/completions``, plain and streamed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from forethought.api.bodies import read_json
from forethought.api.requests import WithServices, WithTenant, headers_of
from forethought.router.gateway import Gateway
from forethought.router.incoming import chat_request
from forethought.router.replies import Reply, StreamedReply
from forethought.router.turns import Turn

router = APIRouter(prefix="/v1", tags=["chat"])


@router.post("/chat/completions", response_class=Response)
async def create_chat_completion(
    request: Request, services: WithServices, tenant: WithTenant
) -> Response:
    """Answer as OpenAI's endpoint does; unknown fields pass in both directions."""
    began = time.perf_counter()
    body = await read_json(request)
    asked = chat_request(body, tenant=tenant, headers=headers_of(request.scope), began=began)
    turn = await services.gateway.decide(asked)
    return _Answer(services.gateway, turn)


class _Answer(Response):
    """Calls the upstream and sends its reply; a client that hangs up ends the call."""

    def __init__(self, gateway: Gateway, turn: Turn) -> None:
        super().__init__()
        self._gateway = gateway
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        answering = asyncio.create_task(self._answer(send))
        listening = asyncio.create_task(_hung_up(receive))
        try:
            await asyncio.wait({answering, listening}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            listening.cancel()
            if not answering.done():
                answering.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await answering

    async def _answer(self, send: Send) -> None:
        if not self._turn.request.streams:
            await _send_whole(send, await self._gateway.complete(self._turn))
            return
        async with self._gateway.stream(self._turn) as reply:
            if isinstance(reply, Reply):
                await _send_whole(send, reply)
            else:
                await _send_stream(send, reply)


async def _send_whole(send: Send, reply: Reply) -> None:
    headers = {**reply.headers, "content-length": str(len(reply.body))}
    await _start(send, reply.status, headers)
    await send({"type": "http.response.body", "body": reply.body})


async def _send_stream(send: Send, reply: StreamedReply) -> None:
    await _start(send, reply.status, reply.headers)
    async for chunk in reply.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
