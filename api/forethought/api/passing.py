"""Requests that pass on to the upstream as they are: no decision, no context, nothing logged."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from starlette.types import Send

from forethought.api.answers import Sending, send_stream, send_whole
from forethought.router.dialects.base import header_text
from forethought.router.dialects.events import anthropic_event
from forethought.router.errors import UpstreamError
from forethought.router.fallbacks import fails
from forethought.router.incoming import passed_on
from forethought.router.replies import (
    MODEL_HEADER,
    UPSTREAM_HEADER,
    Reply,
    StreamedReply,
    error_body,
    passed_back,
)
from forethought.router.serving import Serving, upstream_name
from forethought.router.sse import ChunkReader, error_event
from forethought.router.upstream import PassesOn, Upstream
from forethought.router.upstream.several import no_endpoint, upstream_for

_NUMBER: Final = re.compile(rb'"sequence_number":\s*(\d+)')


def passes_on(upstream: Upstream, path: str, model: str = "") -> PassesOn:
    """The upstream, where that of ``model`` has more endpoints than chat completions.

    Raises:
        NotFound: It has not.
    """
    asked, _ = upstream_for(upstream, model)
    if isinstance(upstream, PassesOn) and isinstance(asked, PassesOn):
        return upstream
    raise no_endpoint(asked, path)


class PassedOn(Sending):
    """The upstream's own reply to a request that is sent as it came.

    Args:
        upstream: Who answers.
        method: GET, POST or DELETE.
        path: Below the upstream's base URL.
        body: As the client sent it, the model's alias resolved.
        headers: The client's.
        fallbacks: The models that are asked in turn where one fails.
        serving: Names the upstream in the reply, where there are several.
    """

    def __init__(
        self,
        upstream: PassesOn,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        fallbacks: Sequence[str] = (),
        *,
        serving: Serving,
    ) -> None:
        super().__init__()
        self._upstream = upstream
        self._method = method
        self._path = path
        self._body = body
        self._asked_headers = passed_on(headers)
        self._fallbacks = fallbacks
        self._serving = serving

    async def answer(self, send: Send) -> None:
        """Call the upstream, another model where one fails, and send what it says."""
        for model in self._fallbacks:
            if await self._answered(send, self._body, last=False):
                return
            self._body = {**(self._body or {}), "model": model}
        await self._answered(send, self._body, last=True)

    async def _answered(self, send: Send, body: Mapping[str, Any] | None, *, last: bool) -> bool:
        """Send one model's reply; False for a failure that is not the last, which is not sent."""
        started = False
        try:
            if body is None or not body.get("stream"):
                reply = await self._upstream.send(
                    self._method, self._path, body, self._asked_headers
                )
                if not last and fails(reply.status):
                    return False
                headers = self._reply_headers(reply.headers, body)
                await send_whole(send, Reply(reply.status, headers, reply.body))
                return True
            opening = self._upstream.send_stream(self._path, body, self._asked_headers)
            async with opening as stream:
                if not last and fails(stream.status):
                    return False
                headers = {**self._reply_headers(stream.headers, body), "x-accel-buffering": "no"}
                kind = headers.get("content-type", "")
                chunks = stream.chunks
                if kind.startswith("text/event-stream"):
                    chunks = _to_its_end(chunks, self._path)
                started = True
                await send_stream(send, StreamedReply(stream.status, headers, chunks))
        except UpstreamError as error:
            if started:
                raise
            if not last:
                return False
            headers = self._reply_headers({"content-type": "application/json"}, body)
            await send_whole(send, Reply(error.http_status, headers, error_body(error)))
        return True

    def _reply_headers(
        self, upstream: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> dict[str, str]:
        headers = passed_back(upstream)
        if self._fallbacks and body is not None:
            headers[MODEL_HEADER] = header_text(body["model"])
        model = "" if body is None else str(body.get("model", ""))
        if (name := upstream_name(model, self._serving)) is not None:
            headers[UPSTREAM_HEADER] = name
        return headers


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
