"""Any OpenAI-compatible server, through the openai SDK's own transport.

The SDK does the authentication, the connection pool and the retries; the bytes of the
replies stay the server's, so unknown fields survive. Requests are sent as JSON with every
field of the client's body, known or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx2
from openai import (
    DEFAULT_CONNECTION_LIMITS,
    APIConnectionError,
    APIStatusError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
    Omit,
)
from openai._types import RequestOptions

from forethought.router.errors import ConfigError, UpstreamError, UpstreamTimeout
from forethought.router.upstream.base import UpstreamReply, UpstreamStream
from forethought.router.upstream.patience import Patience, Timeouts, timed_out

_CHAT: Final = "/chat/completions"

READY_TIMEOUT_S: Final = 2.0
"""A health probe must not hang on a slow upstream."""

OPENAI_HOST: Final = "api.openai.com"

_NO_KEEP_ALIVE: Final = httpx2.Limits(max_keepalive_connections=0)

LEAVE_BODY_OPEN: Final = "X-Stainless-Raw-Response"
"""Asks the SDK not to read the body, as its own ``with_streaming_response`` does."""

# The client's key is not ours to pass on; the rest belongs to one connection, or the SDK sets
# it itself and a second value beside it would be ambiguous.
OWN_REQUEST_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "api-key",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-api-key",
    }
)

# Of those, the ones that say what a forwarded body is.
_FORWARDED_HEADERS: Final = ("accept", "content-length", "content-type")

# Bodies are handed on decoded and re-framed, so these would no longer be true.
_DROPPED_REPLY_HEADERS: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "keep-alive",
        "set-cookie",
        "transfer-encoding",
    }
)


class OpenAIUpstream:
    """An OpenAI-compatible server at ``base_url`` (the part before ``/chat/completions``).

    Args:
        base_url: Such as ``https://api.openai.com/v1``.
        api_key: Ours, for this upstream; None sends no ``Authorization`` header.
        name: What logs and metrics call it.
        timeouts: Waiting times.
        max_retries: Of connection errors, 408, 409, 429 and 5xx, with the SDK's back-off.
        local: The server is on this host: proxies of the environment do not apply, and each
            request has a connection of its own (cheap here, and llama.cpp's server drops
            idle ones without notice).
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        name: str = "openai",
        timeouts: Timeouts | None = None,
        max_retries: int = 2,
        local: bool = False,
    ) -> None:
        self._base_url = checked_url(base_url)
        self._api_key = api_key
        self._name = name
        self._timeouts = timeouts or Timeouts()
        self._max_retries = max_retries
        self._local = local
        self._client: AsyncOpenAI | None = None
        self._http: httpx2.AsyncClient | None = None

    def __repr__(self) -> str:
        key = None if self._api_key is None else "***"
        return f"OpenAIUpstream({self.base_url!r}, api_key={key!r}, name={self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def base_url(self) -> str:
        """The address, without any user name and password in it."""
        return str(self._base_url.copy_with(userinfo=b""))

    async def start(self) -> None:
        """Create the connection pool; the first connection is made by the first request."""
        self._connected()

    async def aclose(self) -> None:
        """Close the connection pool. A later request opens a new one."""
        client, self._client, self._http = self._client, None, None
        if client is not None:
            await client.close()

    async def complete(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> UpstreamReply:
        """POST ``body`` to /chat/completions and wait for the whole reply."""
        return await self.send("POST", _CHAT, body, headers)

    def stream(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """POST ``body`` and yield the reply as it arrives; leaving early cancels it upstream."""
        return self.send_stream(_CHAT, body, headers)

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> UpstreamReply:
        """Send ``body`` to any ``path`` below the base URL and wait for the whole reply."""
        client, sent = self._connected(), None if body is None else dict(body)
        options: RequestOptions = {"headers": self._request_headers(headers)}
        match method:
            case "GET":
                call = client.get(path, cast_to=httpx2.Response, options=options)
            case "DELETE":
                call = client.delete(path, cast_to=httpx2.Response, body=sent, options=options)
            case _:
                call = client.post(path, cast_to=httpx2.Response, body=sent, options=options)
        try:
            response = await self._patience().whole(call)
        except APIStatusError as error:
            response = error.response
        except (APIConnectionError, httpx2.HTTPError) as error:
            raise self._failure(error) from error
        return _reply(response)

    @asynccontextmanager
    async def send_stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AsyncIterator[UpstreamStream]:
        """POST ``body`` to any ``path`` and yield the reply as it arrives."""
        sent = {
            **self._request_headers(headers),
            # Compression would hold small events back until a block is full.
            "Accept-Encoding": "identity",
            LEAVE_BODY_OPEN: "stream",
        }
        patience = self._patience()
        call = self._connected().post(
            path, cast_to=httpx2.Response, body=dict(body), options={"headers": sent}
        )
        try:
            response = await patience.opened(call)
        except APIStatusError as error:
            response = error.response
        except (APIConnectionError, httpx2.HTTPError) as error:
            raise self._failure(error) from error
        try:
            chunks = patience.watched(self._chunks(response))
            yield UpstreamStream(response.status_code, reply_headers(response), chunks)
        finally:
            await response.aclose()

    @asynccontextmanager
    async def forward(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        content: AsyncIterator[bytes] | None,
    ) -> AsyncIterator[UpstreamStream]:
        """Send any request below the base URL and yield the reply as it arrives.

        A redirection is the client's to follow: it may lead to another host.
        """
        self._connected()
        assert self._http is not None  # noqa: S101 - made with the client
        about = {name: headers[name] for name in _FORWARDED_HEADERS if name in headers}
        own = {name: value for name, value in self._request_headers(headers).items()
               if isinstance(value, str)}  # fmt: skip
        sent = {**own, **about, "accept-encoding": "identity"}
        if self._api_key is not None:
            sent["authorization"] = f"Bearer {self._api_key}"
        url = f"{str(self._base_url).rstrip('/')}{path}{'?' if query else ''}{query}"
        request = self._http.build_request(method, url, headers=sent, content=content)
        patience = self._patience()
        call = self._http.send(request, stream=True, follow_redirects=False)
        try:
            response = await patience.whole(call)
        except httpx2.HTTPError as error:
            raise self._failure(error) from error
        try:
            chunks = patience.watched(self._chunks(response))
            yield UpstreamStream(response.status_code, reply_headers(response), chunks)
        finally:
            await response.aclose()

    async def models(self) -> UpstreamReply:
        """GET /models."""
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
                "/models",
                cast_to=httpx2.Response,
                options={
                    "headers": self._request_headers({}),
                    "timeout": timeout,
                    "max_retries": max_retries,
                },
            )
        except APIStatusError as error:
            response = error.response
        except (APIConnectionError, httpx2.HTTPError) as error:
            raise self._failure(error) from error
        return _reply(response)

    async def _chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        try:
            if response.is_stream_consumed:  # an error reply, which the SDK has read
                yield response.content
                return
            async for chunk in response.aiter_bytes():
                yield chunk
        except httpx2.HTTPError as error:
            raise self._failure(error) from error

    def _connected(self) -> AsyncOpenAI:
        if self._client is None:
            timeout = self._timeouts.as_httpx()
            limits = _NO_KEEP_ALIVE if self._local else DEFAULT_CONNECTION_LIMITS
            self._http = DefaultAsyncHttpxClient(
                timeout=timeout,
                limits=limits,
                trust_env=not self._local,
                cookies=no_cookies(),
            )
            self._client = AsyncOpenAI(
                base_url=self._base_url,
                # Never None: the SDK would then take the environment's key to any base_url.
                api_key=self._api_key or "none",
                timeout=timeout,
                max_retries=self._max_retries,
                http_client=self._http,
            )
            if self._base_url.host != OPENAI_HOST:
                # The environment's, which the SDK sends to any base_url, are OpenAI's to know.
                self._client.organization = self._client.project = None
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


def failure(error: Exception, where: str, name: str, timeouts: Timeouts) -> UpstreamError:
    """An SDK's or the connection's error as ours; ``where`` names the upstream to a reader."""
    cause = error.__cause__ or error
    failed = _failed(error, cause, where, name, timeouts)
    failed.reached = not isinstance(cause, httpx2.ConnectTimeout | httpx2.ConnectError)
    return failed


def _failed(
    error: Exception, cause: BaseException, where: str, name: str, timeouts: Timeouts
) -> UpstreamError:
    if isinstance(cause, httpx2.ConnectTimeout):
        return timed_out(
            f"The upstream {where} took no connection within {timeouts.connect_s:g} s.",
            name=name,
            setting="upstream_connect_timeout_s",
        )
    if isinstance(cause, httpx2.TimeoutException):
        return UpstreamTimeout(
            f"The upstream {where} did not take the request in time ({type(cause).__name__}).",
            param=name,
            remedy="Try again; it, or the way to it, is overloaded.",
        )
    if isinstance(error, httpx2.HTTPError):
        message, remedy = f"broke off in mid-answer ({said(cause)}).", "Try again."
    else:
        message = f"could not be reached ({said(cause)})."
        remedy = "Check that it runs and that its base_url is right."
    return UpstreamError(f"The upstream {where} {message}", param=name, remedy=remedy)


def no_cookies() -> CookieJar:
    """A jar that stays empty: a cookie of one client's reply must not go with another's request."""
    return CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))


def checked_url(base_url: str) -> httpx2.URL:
    """An http or https address, or a ConfigError that names it."""
    remedy = "Give an address such as http://127.0.0.1:8080/v1."
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        message = f"The upstream's base_url {base_url!r} is not a URL ({error})."
        raise ConfigError(message, param="base_url", remedy=remedy) from error
    if url.scheme not in {"http", "https"} or not url.host:
        message = f"The upstream's base_url {base_url!r} is not an http or https URL."
        raise ConfigError(message, param="base_url", remedy=remedy)
    return url


def _reply(response: httpx2.Response) -> UpstreamReply:
    return UpstreamReply(response.status_code, reply_headers(response), response.content)


def reply_headers(response: httpx2.Response) -> dict[str, str]:
    """The headers that are still true of a body that is handed on."""
    return {
        name: value
        for name, value in response.headers.items()
        if name not in _DROPPED_REPLY_HEADERS
    }


def said(error: BaseException) -> str:
    """An error in a few words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
