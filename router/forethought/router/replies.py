"""Replies for the client: the upstream's bytes, and headers that say what was decided."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from forethought.models.errors import ForethoughtError
from forethought.router.calls import answer_text, as_events
from forethought.router.dialects.base import WARNING_HEADER, header_text, warning_header
from forethought.router.errors import openai_error
from forethought.router.incoming import request_id
from forethought.router.turns import Turn
from forethought.router.upstream.base import UpstreamReply

_NOT_PASSED: Final = frozenset(
    "connection content-encoding content-length date keep-alive proxy-authenticate server "
    "set-cookie te trailer transfer-encoding upgrade".split()
)

# CORS is between the browser and us.
_NOT_PASSED_PREFIXES: Final = ("x-forethought-", "access-control-")

MODEL_HEADER: Final = "x-forethought-model"
"""Which model answered, or failed last, where another one could have been asked."""

UPSTREAM_HEADER: Final = "x-forethought-upstream"
"""Whose it is, where there are several upstreams."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply for the client. ``native``: it is in the client's own language."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    native: bool = False


@dataclass(frozen=True, slots=True)
class StreamedReply:
    """A reply whose body is still to come. ``native``: it is in the client's own language."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    native: bool = False


def passed_back(upstream: Mapping[str, str]) -> dict[str, str]:
    """The upstream's headers that are for the client too."""
    return {
        name: value
        for name, value in upstream.items()
        if name not in _NOT_PASSED
        and (name == WARNING_HEADER or not name.startswith(_NOT_PASSED_PREFIXES))
    }


def reply_headers(turn: Turn, upstream: Mapping[str, str]) -> dict[str, str]:
    """The headers of a reply: the upstream's, and ours."""
    headers = passed_back(upstream)
    decision = turn.decision
    if "x-request-id" not in headers:
        given = request_id(turn.request.headers)
        headers["x-request-id"] = given or f"req_{secrets.token_hex(12)}"
    headers["x-forethought-decision"] = decision.id
    headers["x-forethought-strategy"] = decision.strategy
    headers["x-forethought-overhead-ms"] = f"{turn.overhead_ms():.2f}"
    if turn.plan is not None:
        headers["x-forethought-samples"] = str(turn.calls)
    if turn.fallbacks is not None and turn.calls:
        headers[MODEL_HEADER] = header_text(turn.model)
        if turn.warnings:
            earlier = [headers[WARNING_HEADER]] if WARNING_HEADER in headers else []
            headers |= warning_header([*earlier, *turn.warnings])
    if turn.upstream is not None and turn.calls:
        headers[UPSTREAM_HEADER] = turn.upstream
    if decision.context_id is not None:
        headers["x-forethought-context"] = decision.context_id
    if decision.changes:
        headers["x-forethought-changes"] = header_text("; ".join(decision.changes))
    if not turn.logged:
        headers["x-forethought-log"] = "failed"
    return headers


def as_stream(turn: Turn, reply: Reply) -> Reply | StreamedReply:
    """A whole reply in the form of a stream; one without an answer, such as an error, as it is."""
    whole = UpstreamReply(reply.status, reply.headers, reply.body)
    if answer_text(whole) is None:
        return reply
    options = turn.request.body.get("stream_options") or {}
    events = as_events(whole, usage=bool(options.get("include_usage")))

    async def chunks() -> AsyncGenerator[bytes, None]:
        for event in events:
            yield event

    kind = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
    return StreamedReply(reply.status, {**reply.headers, **kind}, chunks())


def error_body(error: ForethoughtError) -> bytes:
    """The body of an error reply."""
    return json.dumps(openai_error(error)).encode()
