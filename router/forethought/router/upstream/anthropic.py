"""Anthropic's Messages API behind the chat-completion interface, through the anthropic SDK.

The SDK does the authentication, the connection pool and the retries. Requests and replies are
translated (``forethought.router.dialects``); a request that has no translation is answered as a
server would, by a 400 that names the field.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
from anthropic import (
    APIConnectionError,
    APIStatusError,
    AsyncAnthropic,
    DefaultAsyncHttpxClient,
    Omit,
)

from forethought.router.dialects.base import Translated, warning_header
from forethought.router.dialects.caching import mark_stable_prefix
from forethought.router.dialects.events_to_chunks import EventsToChunks
from forethought.router.dialects.faults import openai_fault, parsed
from forethought.router.dialects.models import openai_models
from forethought.router.dialects.native import NativeReader
from forethought.router.dialects.replies import chat_completion
from forethought.router.dialects.to_anthropic import to_anthropic
from forethought.router.errors import (
    InvalidRequest,
    UpstreamError,
    openai_error,
)
from forethought.router.upstream.base import NativeStream, UpstreamReply, UpstreamStream
from forethought.router.upstream.openai import (
    LEAVE_BODY_OPEN,
    OWN_REQUEST_HEADERS,
    READY_TIMEOUT_S,
    checked_url,
    failure,
    no_cookies,
    reply_headers,
)
from forethought.router.upstream.patience import Patience, Timeouts

MESSAGES: Final = "/v1/messages"
_JSON: Final[Mapping[str, str]] = {"content-type": "application/json"}


class AnthropicUpstream:
    """Anthropic's API, or a server that speaks as it does.

    Args:
        base_url: Such as ``https://api.anthropic.com``, with or without ``/v1``.
        api_key: Ours, for this upstream; None sends no key.
        name: What logs and metrics call it.
        timeouts: Waiting times.
        max_retries: Of connection errors, 408, 409, 429 and 5xx, after as long as the reply's
            ``retry-after(-ms)`` says or with the SDK's back-off.
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
        url = checked_url(base_url)
        self._base_url = url.copy_with(path=url.path.rstrip("/").removesuffix("/v1"))
        self._api_key = api_key
        self._name = name
        self._timeouts = timeouts or Timeouts()
        self._max_retries = max_retries
        self._mark_prefix = mark_prefix
        self._client: AsyncAnthropic | None = None

    def __repr__(self) -> str:
        key = None if self._api_key is None else "***"
        return f"AnthropicUpstream({self._base_url!r}, api_key={key!r}, name={self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def base_url(self) -> str:
        """The address, without any user name and password in it."""
        return str(self._base_url.copy_with(userinfo=b"")).rstrip("/")

    async def start(self) -> None:
        """Create the connection pool; the first connection is made by the first request."""
        self._connected()

    async def aclose(self) -> None:
        """Close the connection pool. A later request opens a new one."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def complete(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> UpstreamReply:
        """Send a chat completion as a message, and wait for the whole reply."""
        try:
            done = self._translated(body)
        except InvalidRequest as error:
            return _refusal(error)
        call = self._post(MESSAGES, done.body, self._request_headers(headers))
        response = await self._patience().whole(call)
        return self._reply(response, response.content, done.warnings)

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
        sent = {
            **self._request_headers(headers),
            # Compression would hold small events back until a block is full.
            "Accept-Encoding": "identity",
            LEAVE_BODY_OPEN: "stream",
        }
        patience = self._patience()
        response = await patience.opened(self._post(MESSAGES, {**done.body, "stream": True}, sent))
        try:
            kind = response.headers.get("content-type", "")
            if response.status_code >= 400 or not kind.startswith("text/event-stream"):
                read = await patience.whole(self._read(response))
                reply = self._reply(response, read, done.warnings)
                yield UpstreamStream(reply.status, reply.headers, _once(reply.body))
                return
            options = body.get("stream_options") or {}
            translation = EventsToChunks(with_usage=bool(options.get("include_usage")))
            events = patience.watched(self._events(response))
            yield UpstreamStream(
                response.status_code,
                {**_headers(response), **warning_header(done.warnings)},
                _translated(events, translation),
                NativeStream(events, NativeReader()),
            )
        finally:
            await response.aclose()

    async def count_tokens(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> UpstreamReply:
        """POST a Messages body to /v1/messages/count_tokens; request and reply stay as sent."""
        path = f"{MESSAGES}/count_tokens"
        call = self._post(path, body, self._request_headers(headers))
        response = await self._patience().whole(call)
        return UpstreamReply(response.status_code, _headers(response), response.content)

    async def models(self) -> UpstreamReply:
        """GET /v1/models, as OpenAI's list."""
        call = self._get_models(self._timeouts.as_httpx(), self._max_retries)
        return await self._patience().whole(call)

    async def ready(self) -> bool:
        """Whether the upstream answers now, whatever it says short of a server error."""
        try:
            reply = await self._get_models(httpx2.Timeout(READY_TIMEOUT_S), 0)
        except UpstreamError:
            return False
        return reply.status < httpx2.codes.INTERNAL_SERVER_ERROR

    async def _get_models(self, timeout: httpx2.Timeout, max_retries: int) -> UpstreamReply:
        try:
            response = await self._connected().get(
                "/v1/models",
                cast_to=httpx2.Response,
                options={
                    "headers": self._request_headers({}),
                    "params": {"limit": 1000},
                    "timeout": timeout,
                    "max_retries": max_retries,
                },
            )
        except APIStatusError as error:
            response = error.response
        except (APIConnectionError, httpx2.HTTPError) as error:
            raise self._failure(error) from error
        listed = parsed(response.content)
        if response.status_code >= 400 or not isinstance(listed, dict):
            return self._reply(response, response.content, [])
        return UpstreamReply(response.status_code, _JSON, _bytes(openai_models(listed)))

    async def _post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str | Omit]
    ) -> httpx2.Response:
        try:
            return await self._connected().post(
                path, cast_to=httpx2.Response, body=dict(body), options={"headers": headers}
            )
        except APIStatusError as error:
            return error.response
        except (APIConnectionError, httpx2.HTTPError) as error:
            raise self._failure(error) from error

    def _translated(self, body: Mapping[str, Any]) -> Translated:
        done = to_anthropic(body)
        if self._mark_prefix:
            done.body = mark_stable_prefix(done.body, done.asked)
        return done

    def _reply(self, response: httpx2.Response, read: bytes, warnings: list[str]) -> UpstreamReply:
        headers = {**_headers(response), **warning_header(warnings)}
        message = parsed(read)
        if response.status_code >= 400:
            fault = _bytes(openai_fault(message))
            return UpstreamReply(response.status_code, {**headers, **_JSON}, fault, read)
        if not isinstance(message, dict) or not isinstance(message.get("content"), list):
            return UpstreamReply(response.status_code, headers, read)
        completion = _bytes(chat_completion(message))
        return UpstreamReply(response.status_code, {**headers, **_JSON}, completion, read)

    async def _read(self, response: httpx2.Response) -> bytes:
        try:
            return await response.aread()
        except httpx2.HTTPError as error:
            raise self._failure(error) from error

    async def _events(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        except httpx2.HTTPError as error:
            raise self._failure(error) from error

    def _connected(self) -> AsyncAnthropic:
        if self._client is None:
            timeout = self._timeouts.as_httpx()
            self._client = AsyncAnthropic(
                base_url=self._base_url,
                # Never None: the SDK would then take the environment's key to any base_url.
                api_key=self._api_key or "none",
                timeout=timeout,
                max_retries=self._max_retries,
                http_client=DefaultAsyncHttpxClient(timeout=timeout, cookies=no_cookies()),
            )
        return self._client

    def _request_headers(self, headers: Mapping[str, str]) -> dict[str, str | Omit]:
        sent: dict[str, str | Omit] = {
            name: value
            for name, value in ((n.lower(), v) for n, v in headers.items())
            if name not in OWN_REQUEST_HEADERS and not name.startswith("x-stainless-")
        }
        if self._api_key is None:
            sent["Authorization"] = Omit()
        return sent

    def _patience(self) -> Patience:
        return Patience(self._timeouts, self._name)

    def _failure(self, error: Exception) -> UpstreamError:
        return failure(error, f"{self._name} at {self.base_url}", self._name, self._timeouts)


async def _translated(
    events: AsyncIterator[bytes], translation: EventsToChunks
) -> AsyncIterator[bytes]:
    async for event in events:
        if translated := translation.feed(event):
            yield translated
    if last := translation.rest():
        yield last


def _headers(response: httpx2.Response) -> dict[str, str]:
    """The reply's headers, its id under the name that OpenAI's clients read."""
    headers = reply_headers(response)
    if "request-id" in headers:
        headers.setdefault("x-request-id", headers["request-id"])
    return headers


def _refusal(error: InvalidRequest) -> UpstreamReply:
    return UpstreamReply(error.http_status, _JSON, _bytes(openai_error(error)))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _bytes(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode(errors="replace")
