"""``POST /v1/messages`` and ``/v1/messages/count_tokens``, for clients of Anthropic's API.

A request becomes a chat completion, is decided on and logged as every other, and its reply
comes back as Anthropic's message or events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from forethought.api.answers import Answer
from forethought.api.bodies import read_json
from forethought.api.direct import DirectRoute
from forethought.api.requests import headers_of
from forethought.api.services import Services
from forethought.router.context import text_of
from forethought.router.dialects.base import Json, Translated, warning_header
from forethought.router.dialects.chunks_to_events import PING, ChunksToEvents
from forethought.router.dialects.faults import anthropic_error, message_of, parsed
from forethought.router.dialects.replies import message
from forethought.router.dialects.thinking import asks_thinking
from forethought.router.dialects.to_openai import to_openai
from forethought.router.gateway import Gateway
from forethought.router.incoming import chat_request, passed_on
from forethought.router.replies import Reply, StreamedReply
from forethought.router.serving import asked_model, served_model
from forethought.router.sleep.writer import estimated_tokens
from forethought.router.turns import Turn
from forethought.router.upstream import SpeaksMessages
from forethought.router.upstream.several import upstream_for

PING_EVERY_S: Final = 10.0
"""A silent upstream thinks; proxies on the way to the client close what is silent for a minute."""


async def create_message(request: Request, services: Services, tenant: str) -> Response:
    """Answer as Anthropic's endpoint does."""
    began = time.perf_counter()
    body = await read_json(request)
    done = _translated(body, services)
    if done.body.get("stream") and services.serving.ask_usage:
        # Asked for here, so that the gateway does not keep it from us.
        done.body["stream_options"] = {"include_usage": True}
    headers = headers_of(request.scope)
    asked = chat_request(done.body, tenant=tenant, headers=headers, began=began)
    if asked.strategy is None and asks_thinking(body) and not _takes_effort(body, services):
        # Its wish cannot be passed on, but no strategy shall ask for the opposite in words.
        asked = replace(asked, strategy="direct")
    asked = replace(asked, native=_is_native(body, services))
    turn = await services.gateway.decide(asked)
    return _Message(
        services.gateway, turn, warnings=done.warnings, show_thinking=asks_thinking(body)
    )


async def count_tokens(request: Request, services: Services, tenant: str) -> Response:
    """Anthropic's own count where it is the upstream; else an estimate that says to be one."""
    del tenant  # only its right to ask
    body = await read_json(request)
    upstream, model = upstream_for(services.upstream, asked_model(body, services.serving))
    if isinstance(upstream, SpeaksMessages):
        if isinstance(name := body.get("model"), str):
            served_model(name, services.serving)  # or a refusal
            body["model"] = model
        headers = passed_on(headers_of(request.scope))
        counted = await upstream.count_tokens(body, headers)
        return Response(counted.body, counted.status, media_type="application/json")
    body.setdefault("max_tokens", 1)  # no part of this request, but of the one that follows
    done = _translated(body, services)
    texts = [text_of(one.get("content")) for one in done.body["messages"]]
    calls = [one["tool_calls"] for one in done.body["messages"] if one.get("tool_calls")]
    rest = [json.dumps(one) for one in (*calls, done.body.get("tools")) if one]
    tokens = sum(map(estimated_tokens, [*texts, *rest]))
    estimated = "input_tokens: estimated at four characters a token, images not counted"
    return JSONResponse(
        {"input_tokens": tokens}, headers=warning_header([estimated, *done.warnings])
    )


def _translated(body: dict[str, Any], services: Services) -> Translated:
    native = _is_native(body, services)
    return to_openai(body, native=native, takes_effort=_takes_effort(body, services))


def _is_native(body: dict[str, Any], services: Services) -> bool:
    """Whether the upstream speaks the client's language."""
    model = asked_model(body, services.serving)
    return isinstance(upstream_for(services.upstream, model)[0], SpeaksMessages)


def _takes_effort(body: dict[str, Any], services: Services) -> bool:
    return services.serving.takes_effort(asked_model(body, services.serving))


class _Message(Answer):
    """The reply in Anthropic's shape."""

    def __init__(
        self, gateway: Gateway, turn: Turn, *, warnings: list[str], show_thinking: bool
    ) -> None:
        super().__init__(gateway, turn)
        self._warnings = warnings
        self._show_thinking = show_thinking

    def whole(self, reply: Reply) -> Reply:
        headers = self._named(reply, "application/json")
        if reply.native:
            return Reply(reply.status, headers, reply.body)
        if reply.status >= 400:
            said = anthropic_error(
                reply.status, message_of(reply.body, reply.status), headers["request-id"]
            )
            return Reply(reply.status, headers, _bytes(said))
        try:
            translated = message(parsed(reply.body) or {}, show_thinking=self._show_thinking)
        except (ValueError, AttributeError) as error:
            text = f"The upstream's reply cannot be read: {error}."
            return Reply(502, headers, _bytes(anthropic_error(502, text, headers["request-id"])))
        return Reply(reply.status, headers, _bytes(translated))

    def streamed(self, reply: StreamedReply) -> StreamedReply:
        headers = self._named(reply, "text/event-stream; charset=utf-8")
        events = self._pinged if reply.native else self._events
        return StreamedReply(reply.status, headers, events(reply.chunks))

    async def _pinged(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for event in _with_pauses(events):
            yield PING if event is None else event

    async def _events(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        translation = ChunksToEvents(show_thinking=self._show_thinking)
        async for chunk in _with_pauses(chunks):
            if events := PING if chunk is None else translation.feed(chunk):
                yield events
        yield translation.rest()

    def _named(self, reply: Reply | StreamedReply, kind: str) -> dict[str, str]:
        earlier = reply.headers.get("x-forethought-warning")
        warnings = [*self._warnings, *([earlier] if earlier else [])]
        return {
            **reply.headers,
            **warning_header(warnings),
            "content-type": kind,
            "request-id": reply.headers["x-request-id"],
        }


async def _with_pauses(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes | None]:
    """The chunks, and None whenever none came for a while."""
    waiting: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            waiting = waiting or asyncio.create_task(_next(chunks))
            await asyncio.wait({waiting}, timeout=PING_EVERY_S)
            if not waiting.done():
                yield None
                continue
            chunk, waiting = waiting.result(), None
            if chunk is None:
                return
            yield chunk
    finally:
        if waiting is not None:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


def _bytes(content: Json) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode(errors="replace")


ROUTES = (
    DirectRoute("/v1/messages", create_message, tag="messages"),
    DirectRoute("/v1/messages/count_tokens", count_tokens, tag="messages"),
)
