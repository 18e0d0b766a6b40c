"""``/v1/responses``: OpenAI's Responses API over any upstream.

A request becomes a chat completion, is decided on and logged as every other, and its reply comes
back as a response or its events. Where the upstream has a Responses API of its own, requests that
it has to remember (all but those with ``store`` false) or that use what only it has pass on as
they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from forethought.api.answers import Answer
from forethought.api.bodies import read_json
from forethought.api.direct import DirectRoute
from forethought.api.passing import PassedOn, passes_on
from forethought.api.requests import headers_of
from forethought.api.routes.passing import with_model
from forethought.api.services import Services
from forethought.router.dialects.base import WARNING_HEADER, warning_header
from forethought.router.dialects.chat_to_response import response
from forethought.router.dialects.chunks_to_response import ChunksToResponse
from forethought.router.dialects.faults import parsed
from forethought.router.dialects.responses_to_chat import to_chat, untranslatable
from forethought.router.errors import NotFound, UpstreamError
from forethought.router.fallbacks import following
from forethought.router.gateway import Gateway
from forethought.router.incoming import FIELD, chat_request
from forethought.router.replies import Reply, StreamedReply, error_body
from forethought.router.serving import asked_model
from forethought.router.turns import Turn


async def create_response(request: Request, services: Services, tenant: str) -> Response:
    """Answer as OpenAI's endpoint does."""
    began = time.perf_counter()
    body = await read_json(request)
    headers = headers_of(request.scope)
    serving = services.serving
    model = asked_model(body, serving)
    if serving.upstream_of(model).native_responses and _only_native(body):
        upstream = passes_on(services.upstream, "/responses", model)
        named = with_model(body, services)
        # What one upstream keeps another cannot go on with.
        own = serving.upstream_of(named["model"])
        others = (one for one in serving.fallbacks if serving.upstream_of(one) is own)
        fallbacks = following(named["model"], tuple(others))
        return PassedOn(upstream, "POST", "/responses", named, headers, fallbacks, serving=serving)
    done = to_chat(body, takes_effort=serving.takes_effort(model))
    asked = chat_request(done.body, tenant=tenant, headers=headers, began=began)
    turn = await services.gateway.decide(asked)
    return _Response(services.gateway, turn, asked=body, warnings=done.warnings)


async def stored_response(request: Request, services: Services, tenant: str) -> Response:
    """What only an upstream that keeps responses can say: pass it on."""
    del tenant  # only its right to ask
    path: str = request.path_params["path"]
    if not services.serving.upstream_of("").native_responses or ".." in path:
        raise NotFound(
            "Responses are not kept here.",
            param="response_id",
            remedy="Keep the output that the request returned; send earlier items in 'input'.",
        )
    upstream = passes_on(services.upstream, "/responses")
    body = await read_json(request) if await request.body() else None
    query = f"?{request.url.query}" if request.url.query else ""
    path, headers = f"/responses/{path}{query}", headers_of(request.scope)
    return PassedOn(upstream, request.method, path, body, headers, serving=services.serving)


def _only_native(body: Mapping[str, Any]) -> bool:
    kept = body.get("store") is not False
    return FIELD not in body and (kept or untranslatable(body) is not None)


class _Response(Answer):
    """The reply in the shape of Responses; errors keep OpenAI's shape, which is the same."""

    def __init__(
        self, gateway: Gateway, turn: Turn, *, asked: Mapping[str, Any], warnings: list[str]
    ) -> None:
        super().__init__(gateway, turn)
        self._asked = asked
        self._warnings = warnings

    def whole(self, reply: Reply) -> Reply:
        headers = self._warned(reply)
        if reply.status >= 400:
            return Reply(reply.status, headers, reply.body)
        try:
            said = response(parsed(reply.body) or {}, self._asked)
        except (ValueError, AttributeError) as error:
            fault = UpstreamError(f"The upstream's reply cannot be read: {error}.")
            return Reply(fault.http_status, headers, error_body(fault))
        headers["content-type"] = "application/json"
        return Reply(reply.status, headers, json.dumps(said, ensure_ascii=False).encode())

    def streamed(self, reply: StreamedReply) -> StreamedReply:
        headers = {**self._warned(reply), "content-type": "text/event-stream; charset=utf-8"}
        return StreamedReply(reply.status, headers, self._events(reply.chunks))

    async def _events(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        translation = ChunksToResponse(self._asked)
        async for chunk in chunks:
            if events := translation.feed(chunk):
                yield events
        yield translation.rest()

    def _warned(self, reply: Reply | StreamedReply) -> dict[str, str]:
        earlier = reply.headers.get(WARNING_HEADER)
        warnings = [*self._warnings, *([earlier] if earlier else [])]
        return {**reply.headers, **warning_header(warnings)}


ROUTES = (
    DirectRoute("/v1/responses", create_response, tag="responses"),
    DirectRoute(
        "/v1/responses/{path:path}",
        stored_response,
        methods=("GET", "POST", "DELETE"),
        tag="responses",
    ),
)
