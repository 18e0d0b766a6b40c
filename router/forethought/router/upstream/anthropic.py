"""Anthropic's Messages API behind the chat-completion interface.

Rare calls go through the anthropic SDK; for the others its authorisation is kept, and retries are
as for any upstream. Requests and replies are translated (``forethought.router.dialects``); a
request that has no translation is answered as a server would, by a 400 that names the field.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from forethought.router.dialects.base import Translated, warning_header
from forethought.router.dialects.caching import mark_stable_prefix
from forethought.router.dialects.events_to_chunks import EventsToChunks
from forethought.router.dialects.faults import openai_fault, parsed
from forethought.router.dialects.models import openai_models
from forethought.router.dialects.native import NativeReader
from forethought.router.dialects.replies import chat_completion
from forethought.router.dialects.to_anthropic import to_anthropic
from forethought.router.errors import InvalidRequest, openai_error
from forethought.router.upstream.base import NativeStream, UpstreamReply, UpstreamStream
from forethought.router.upstream.http_client import HttpClient, checked_url
from forethought.router.upstream.patience import Timeouts
from forethought.router.upstream.sdk import Account, Sdk, load_anthropic

MESSAGES: Final = "/v1/messages"
API_VERSION: Final = "2026-10-21"
"""Where the client names no other: the SDK's."""

_MODELS: Final = "/v1/models?limit=1000"
_JSON: Final[Mapping[str, str]] = {"content-type": "application/json"}


class AnthropicUpstream:
    """Anthropic's API, or a server that speaks as it does.

    Args:
        base_url: Such as ``https://api.anthropic.com``, with or without ``/v1``.
        api_key: Ours, for this upstream; None sends no key.
        name: What logs and metrics call it.
        timeouts: Waiting times.
        max_retries: Of connection errors, 408, 409, 429 and 5xx, after as long as the reply's
            ``retry-after(-ms)`` says or with the SDKs' back-off.
        mark_prefix: Mark the stable prefix for Anthropic's prompt cache where the client has
            no marks of its own. Writing the cache costs a quarter more than reading plainly.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        name: str = "anthropic",
        timeouts: Timeouts | None = None,
        max_retries: int = 2,
        mark_prefix: bool = False,
    ) -> None:
        url, timeouts = checked_url(base_url), timeouts or Timeouts()
        url = url.copy_with(path=url.path.rstrip("/").removesuffix("/v1"))
        headers = {"anthropic-version": API_VERSION}
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key}"
        self._api_key = api_key
        self._name = name
        self._mark_prefix = mark_prefix
        self._client = HttpClient(
            url, name=name, headers=headers, timeouts=timeouts, max_retries=max_retries
        )
        account = Account(url, api_key, timeouts, max_retries)
        self._sdk = Sdk(load_anthropic, account, name=name, shown_url=self.base_url)

    def __repr__(self) -> str:
        key = None if self._api_key is None else "***"
        return f"AnthropicUpstream({self.base_url!r}, api_key={key!r}, name={self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def base_url(self) -> str:
        """The address, without any user name and password in it."""
        return self._client.base_url.rstrip("/")

    async def start(self) -> None:
        """Open the session; the first connection is made by the first request."""
        self._client.start()

    async def aclose(self) -> None:
        """Close the connections. A later request opens new ones."""
        await self._client.aclose()
        await self._sdk.aclose()

    async def complete(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> UpstreamReply:
        """Send a chat completion as a message, and wait for the whole reply."""
        try:
            done = self._translated(body)
        except InvalidRequest as error:
            return _refusal(error)
        reply = await self._client.whole("POST", MESSAGES, done.body, headers)
        return _reply(reply, done.warnings)

    @asynccontextmanager
    async def stream(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AsyncIterator[UpstreamStream]:
        """The same, streamed. Leaving early cancels it upstream."""
        try:
            done = self._translated(body)
        except InvalidRequest as error:
            refusal = _refusal(error)
            yield UpstreamStream(refusal.status, refusal.headers, _once(refusal.body))
            return
        opening = self._client.stream(MESSAGES, {**done.body, "stream": True}, headers)
        async with opening as native:
            kind = native.headers.get("content-type", "")
            if native.status >= 400 or not kind.startswith("text/event-stream"):
                read = b"".join([chunk async for chunk in native.chunks])
                reply = _reply(UpstreamReply(native.status, native.headers, read), done.warnings)
                yield UpstreamStream(reply.status, reply.headers, _once(reply.body))
                return
            options = body.get("stream_options") or {}
            translation = EventsToChunks(with_usage=bool(options.get("include_usage")))
            yield UpstreamStream(
                native.status,
                {**_headers(native.headers), **warning_header(done.warnings)},
                _translated(native.chunks, translation),
                NativeStream(native.chunks, NativeReader()),
            )

    async def count_tokens(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> UpstreamReply:
        """POST a Messages body to /v1/messages/count_tokens; request and reply stay as sent."""
        reply = await self._sdk.post(f"{MESSAGES}/count_tokens", body, headers)
        return replace(reply, headers=_headers(reply.headers))

    async def models(self) -> UpstreamReply:
        """GET /v1/models, as OpenAI's list."""
        reply = await self._sdk.get(_MODELS)
        listed = parsed(reply.body)
        if reply.status >= 400 or not isinstance(listed, dict):
            return _reply(reply, [])
        return UpstreamReply(reply.status, _JSON, _bytes(openai_models(listed)))

    async def ready(self) -> bool:
        """Whether the upstream answers now, whatever it says short of a server error."""
        return await self._client.ready(_MODELS)

    def _translated(self, body: Mapping[str, Any]) -> Translated:
        done = to_anthropic(body)
        if self._mark_prefix:
            done.body = mark_stable_prefix(done.body, done.asked)
        return done


def _reply(reply: UpstreamReply, warnings: list[str]) -> UpstreamReply:
    """A reply of Anthropic's in OpenAI's language."""
    headers, read = {**_headers(reply.headers), **warning_header(warnings)}, reply.body
    message = parsed(read)
    if reply.status >= 400:
        fault = _bytes(openai_fault(message))
        return UpstreamReply(reply.status, {**headers, **_JSON}, fault, read)
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return UpstreamReply(reply.status, headers, read)
    completion = _bytes(chat_completion(message))
    return UpstreamReply(reply.status, {**headers, **_JSON}, completion, read)


async def _translated(
    events: AsyncIterator[bytes], translation: EventsToChunks
) -> AsyncIterator[bytes]:
    async for event in events:
        if translated := translation.feed(event):
            yield translated
    if last := translation.rest():
        yield last


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    """A reply's headers, its id under the name that OpenAI's clients read."""
    named = dict(headers)
    if "request-id" in named:
        named.setdefault("x-request-id", named["request-id"])
    return named


def _refusal(error: InvalidRequest) -> UpstreamReply:
    return UpstreamReply(error.http_status, _JSON, _bytes(openai_error(error)))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _bytes(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode(errors="replace")
