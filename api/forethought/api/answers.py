"""Replies of the gateway on their way to the client; one that hangs up ends the call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from forethought.router.gateway import Gateway
from forethought.router.replies import Reply, StreamedReply
from forethought.router.turns import Turn


class Sending(Response):
    """A response that is made while it is sent; a client that hangs up ends the making."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        answering = asyncio.current_task()
        assert answering is not None  # noqa: S101 - a coroutine runs in one
        gone = False

        async def listen() -> None:
            nonlocal gone
            await self.listen(receive)
            gone = True
            answering.cancel()

        listening = asyncio.create_task(listen())
        try:
            await self.answer(send)
        except asyncio.CancelledError:
            # Ended here, unless somebody else cancels this task too: the server that stops.
            if not gone or answering.uncancel():
                raise
        finally:
            listening.cancel()

    async def listen(self, receive: Receive) -> None:
        """Return when the client has hung up."""
        await hung_up(receive)

    async def answer(self, send: Send) -> None:
        """Make the response and send it."""
        raise NotImplementedError


class Answer(Sending):
    """Calls the upstream and sends its reply, as OpenAI's clients expect it.

    ``whole`` and ``streamed`` are the places to give it another shape.
    """

    def __init__(self, gateway: Gateway, turn: Turn) -> None:
        super().__init__()
        self._gateway = gateway
        self._turn = turn

    def whole(self, reply: Reply) -> Reply:
        """A reply in one piece, as it is sent."""
        return reply

    def streamed(self, reply: StreamedReply) -> StreamedReply:
        """A streamed reply, as it is sent."""
        return reply

    async def answer(self, send: Send) -> None:
        if not self._turn.request.streams:
            await send_whole(send, self.whole(await self._gateway.complete(self._turn)))
            return
        async with self._gateway.stream(self._turn) as reply:
            if isinstance(reply, Reply):
                await send_whole(send, self.whole(reply))
            else:
                await send_stream(send, self.streamed(reply))


async def send_whole(send: Send, reply: Reply) -> None:
    """Send a reply in one piece."""
    headers = {**reply.headers, "content-length": str(len(reply.body))}
    await _start(send, reply.status, headers)
    await send({"type": "http.response.body", "body": reply.body})


async def send_stream(send: Send, reply: StreamedReply) -> None:
    """Send a reply as it comes."""
    await _start(send, reply.status, reply.headers)
    async for chunk in reply.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def hung_up(receive: Receive) -> None:
    """Wait until the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
