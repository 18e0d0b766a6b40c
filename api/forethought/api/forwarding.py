"""A request that passes on as it came, and its reply: neither is parsed, buffered or logged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send

from forethought.api.answers import Sending, hung_up, send_stream, send_whole
from forethought.api.bodies import too_large
from forethought.api.requests import headers_of
from forethought.models.errors import ForethoughtError
from forethought.router.incoming import passed_on
from forethought.router.replies import Reply, StreamedReply, error_body, passed_back
from forethought.router.sse import error_event
from forethought.router.upstream import Forwards

_ABOUT_THE_BODY: Final = ("accept", "content-length", "content-type", "range")


class Forwarded(Sending):
    """The upstream's reply to a request whose body may still be arriving.

    Args:
        upstream: Who answers.
        request: The client's; its body is sent on as it comes.
        path: Where to, below the upstream's base URL; it has been checked.
    """

    def __init__(self, upstream: Forwards, request: Request, path: str) -> None:
        super().__init__()
        self._upstream = upstream
        self._request = request
        self._path = path
        self._limit: int = request.app.state.settings.max_body_bytes
        self._all_read = asyncio.Event()

    async def listen(self, receive: Receive) -> None:
        # Before, what is received is the body; a client that hangs up ends that too.
        await self._all_read.wait()
        await hung_up(receive)

    async def answer(self, send: Send) -> None:
        """Call the upstream and send what it says, as it says it."""
        started = False
        streams_events = False
        try:
            asked = self._request
            method, query = asked.method, asked.url.query
            async with self._upstream.forward(
                method, self._path, query, self._sent_headers(), self._body()
            ) as reply:
                kind = reply.headers.get("content-type", "")
                streams_events = kind.startswith("text/event-stream")
                headers = passed_back(reply.headers)
                started = True
                await send_stream(send, StreamedReply(reply.status, headers, reply.chunks))
        except ClientDisconnect:
            return
        except ForethoughtError as error:
            if not started:
                headers = {"content-type": "application/json"}
                await send_whole(send, Reply(error.http_status, headers, error_body(error)))
            elif streams_events:
                await send({"type": "http.response.body", "body": error_event(error)})
            else:
                # Bytes have no form for an error: the connection breaks off, as the upstream's did.
                raise

    def _sent_headers(self) -> dict[str, str]:
        sent = headers_of(self._request.scope)
        about: dict[str, str] = {name: sent[name] for name in _ABOUT_THE_BODY if name in sent}
        return {**passed_on(sent), **about}

    def _body(self) -> AsyncIterator[bytes] | None:
        headers = self._request.headers
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            self._all_read.set()
            return None
        return self._parts()

    async def _parts(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for part in self._request.stream():
                size += len(part)
                if size > self._limit:
                    raise too_large(self._limit)
                if part:
                    yield part
        finally:
            self._all_read.set()
