"""Requests that pass on to the upstream as they are: no decision, no context, nothing logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.types import Send

from forethought.api.answers import Sending, send_stream, send_whole
from forethought.router.errors import NotFound, UpstreamError
from forethought.router.incoming import passed_on
from forethought.router.replies import Reply, StreamedReply, error_body, passed_back
from forethought.router.upstream import PassesOn, Upstream


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
        started = False
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
                started = True
                await send_stream(send, StreamedReply(stream.status, headers, stream.chunks))
        except UpstreamError as error:
            # In mid-stream the connection breaks off: the form of an error is the endpoint's own.
            if started:
                raise
            headers = {"content-type": "application/json"}
            await send_whole(send, Reply(error.http_status, headers, error_body(error)))
