"""Requests that pass on to the upstream as they are: no decision, no context, nothing logged."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from starlette.types import Send

from forethought.api.answers import Sending, send_stream, send_whole
from forethought.router.dialects.events import anthropic_event
from forethought.router.errors import NotFound, UpstreamError
from forethought.router.incoming import passed_on
from forethought.router.replies import Reply, StreamedReply, error_body, passed_back
from forethought.router.sse import ChunkReader, error_event
from forethought.router.upstream import PassesOn, Upstream

_NUMBER: Final = re.compile(rb'"sequence_number":\s*(\d+)')


def passes_on(upstream: Upstream, path: str) -> PassesOn:
    """The upstream, where it has more endpoints than chat completions.

    Raises:
        NotFound: It has not.
    """
    if isinstance(upstream, PassesOn):
        return upstream
    raise NotFound(
        f"The upstream {upstream.name} has no endpoint {path}.",
        remedy="Use /v1/chat/completions, or an upstream that speaks OpenAI's language.",
    )


class PassedOn(Sending):
    """The upstream's own reply to a request that is sent as it came.

    Args:
        upstream: Who answers.
        method: GET, POST or DELETE.
        path: Below the upstream's base URL.
        body: As the client sent it, the model's alias resolved.
        headers: The client's.
    """

    def __init__(
        self,
        upstream: PassesOn,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__()
        self._upstream = upstream
        self._method = method
        self._path = path
        self._body = body
        self._asked_headers = passed_on(headers)

    async def answer(self, send: Send) -> None:
        """Call the upstream and send what it says."""
        try:
            if self._body is None or not self._body.get("stream"):
                reply = await self._upstream.send(
                    self._method, self._path, self._body, self._asked_headers
                )
                await send_whole(send, Reply(reply.status, passed_back(reply.headers), reply.body))
                return
            opening = self._upstream.send_stream(self._path, self._body, self._asked_headers)
            async with opening as stream:
                headers = {**passed_back(stream.headers), "x-accel-buffering": "no"}
                kind = headers.get("content-type", "")
                chunks = stream.chunks
                if kind.startswith("text/event-stream"):
                    chunks = _to_its_end(chunks, self._path)
                await send_stream(send, StreamedReply(stream.status, headers, chunks))
        except UpstreamError as error:
            headers = {"content-type": "application/json"}
            await send_whole(send, Reply(error.http_status, headers, error_body(error)))


async def _to_its_end(chunks: AsyncIterator[bytes], path: str) -> AsyncIterator[bytes]:
    """The events of a stream, whole ones only; an error where it breaks off."""
    reader = ChunkReader(hide_usage=False)
    n_events = 0
    try:
        async for chunk in chunks:
            if passed := reader.feed(chunk):
                n_events = _counted(passed, n_events)
                yield passed
    except UpstreamError as error:
        yield _broken_off(error, path, n_events)
        return
    if last := reader.rest():
        yield last


def _counted(events: bytes, n_events: int) -> int:
    numbers = _NUMBER.findall(events)
    return int(numbers[-1]) + 1 if numbers else n_events


def _broken_off(error: UpstreamError, path: str, n_events: int) -> bytes:
    if path != "/responses":
        return error_event(error)
    said = {"code": error.code, "message": str(error), "param": error.param}
    return anthropic_event({"type": "error", "sequence_number": n_events, **said})
