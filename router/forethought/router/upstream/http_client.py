"""Requests to the API behind a base URL: with our key, tried again, and not waited for for ever.

For the calls that a proxy is made of. aiohttp carries them: the SDKs and their client in Python
cost more time than all that Forethought does (docs/decisions/0002-aiohttp-on-the-hot-path.md).
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import aiohttp
import httpx2
import orjson
from yarl import URL

from forethought.router.errors import ConfigError, UpstreamError
from forethought.router.upstream.base import UpstreamReply, UpstreamStream
from forethought.router.upstream.failures import BROKE_OFF, FAILURES, UNREACHED, failure
from forethought.router.upstream.headers import joined, reply_headers, sent_headers
from forethought.router.upstream.patience import Patience, Timeouts
from forethought.router.upstream.retries import is_worth_another_try, pause_s
from forethought.router.upstream.session import open_session

_PLAIN_PATH: Final = re.compile(r"[/A-Za-z0-9_-]*")

_READY: Final = Timeouts(connect_s=2.0, first_token_s=2.0, total_s=2.0)
"""A health probe must not hang on a slow upstream."""

_MAX_REDIRECTS: Final = 20
"""As in the SDKs' client."""

_FIRST_BYTES: Final = 1024
"""Of a stream, some three events. The client waits for the first of them, and not for all that has
come behind it: to take and to read that costs time too."""

_LARGE_BODY: Final = 2**20
"""From here on aiohttp wants to send a body in parts, as it would hold the event loop."""


class HttpClient:
    """A client of the API at ``base_url``; its session opens with the first request.

    Args:
        base_url: What paths are appended to.
        name: The upstream's, for errors.
        headers: Ours, such as the key's; a client's header of the same name wins.
        timeouts: Waiting times.
        max_retries: Of failures that may pass (``forethought.router.upstream.retries``).
        local: The server is on this host: proxies of the environment do not apply, and each
            request has a connection of its own.
    """

    def __init__(
        self,
        base_url: httpx2.URL,
        *,
        name: str,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        max_retries: int,
        local: bool = False,
    ) -> None:
        self._base_url = base_url
        self._name = name
        self._timeouts = timeouts
        self._max_retries = max_retries
        self._local = local
        self._own = {
            "accept": "application/json",
            "user-agent": f"forethought/{version('forethought')}",
            **_basic_auth(base_url, headers),
        }
        path, _, query = base_url.raw_path.decode("ascii").partition("?")
        self._root = f"{base_url.scheme}://{base_url.netloc.decode('ascii')}{path.rstrip('/')}"
        self._query = query
        self._session: aiohttp.ClientSession | None = None

    @property
    def base_url(self) -> str:
        """The address, without any user name and password in it."""
        return str(self._base_url.copy_with(userinfo=b""))

    def start(self) -> aiohttp.ClientSession:
        """Open the session, as the first request would: reading TLS certificates takes a while.

        Raises:
            ConfigError: The environment's proxy cannot be used.
        """
        if self._session is None:
            self._session = open_session(self._base_url, self._timeouts, local=self._local)
        return self._session

    async def aclose(self) -> None:
        """Close the connections; what is under way fails. A later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def whole(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> UpstreamReply:
        """Send ``body`` as JSON and wait for the whole reply; an error status is one.

        Raises:
            UpstreamError, UpstreamTimeout: There is no reply, or not in time.
        """
        patience = Patience(self._timeouts, self._name)
        sent = {"accept-encoding": "gzip, deflate", **sent_headers(headers)}
        call = self._answered(method, path, body, sent, whole=True)
        response = await patience.whole(self._reached(call))
        return UpstreamReply(response.status, _reply_headers(response), await response.read())

    async def ready(self, path: str) -> bool:
        """Whether the server answers a GET now, whatever it says short of a server error."""
        sent = {"accept-encoding": "gzip, deflate"}
        call = self._answered("GET", path, None, sent, whole=True, max_retries=0)
        try:
            response = await Patience(_READY, self._name).whole(self._reached(call))
        except UpstreamError:
            return False
        return response.status < HTTPStatus.INTERNAL_SERVER_ERROR

    @asynccontextmanager
    async def stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AsyncIterator[UpstreamStream]:
        """POST ``body`` as JSON and yield the reply as it comes; leaving early cancels it.

        Raises:
            UpstreamError, UpstreamTimeout: As ``whole``; also while the reply is read.
        """
        patience = Patience(self._timeouts, self._name)
        # Compression would hold small events back until a block is full.
        sent = {"accept-encoding": "identity", **sent_headers(headers)}
        call = self._answered("POST", path, body, sent, whole=False)
        response = await patience.opened(self._reached(call))
        try:
            chunks = patience.watched(self._chunks(response))
            yield UpstreamStream(response.status, _reply_headers(response), chunks)
        finally:
            response.close()

    @asynccontextmanager
    async def forward(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        content: AsyncIterator[bytes] | None,
    ) -> AsyncIterator[UpstreamStream]:
        """Send any request, once, and yield the reply as it comes.

        A redirection is the client's to follow: it may lead to another host.
        """
        sent = {**self._own, **headers, "accept-encoding": "identity"}
        body = None if content is None else _Content(content)
        patience = Patience(self._timeouts, self._name)
        target = f"{path}?{query}" if query else path
        call = self._reached(self._forwarded(method, target, sent, body))
        try:
            response = await patience.whole(call)
        except UpstreamError as error:
            if body is not None and body.error is not None:
                raise body.error from error
            raise
        try:
            chunks = patience.watched(self._chunks(response))
            yield UpstreamStream(response.status, _reply_headers(response), chunks)
        finally:
            response.close()

    async def _forwarded(
        self, method: str, path: str, headers: Mapping[str, str], body: _Content | None
    ) -> aiohttp.ClientResponse:
        data = None if body is None else body.parts()
        return await self.start().request(
            method, self._url(path), data=data, headers=headers, allow_redirects=False
        )

    async def _reached(self, call: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        try:
            return await call
        except FAILURES as error:
            raise self._failure(error, UNREACHED) from error

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            if first := await response.content.read(_FIRST_BYTES):
                yield first
            async for chunk in response.content.iter_any():
                yield chunk
        except FAILURES as error:
            if came := _left_in(response.content):
                yield came
            raise self._failure(error, BROKE_OFF) from error

    async def _answered(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        *,
        whole: bool,
        max_retries: int | None = None,
    ) -> aiohttp.ClientResponse:
        """The first reply that is no passing failure, or the last one, read where ``whole``."""
        tries = 1 + (self._max_retries if max_retries is None else max_retries)
        session = self.start()
        url = self._url(path)
        content = None if body is None else encoded(body)
        sent = {**self._own, **headers}
        if content is not None:
            sent["content-type"] = "application/json"
        for n_before in itertools.count():
            is_last = n_before + 1 >= tries
            failed: Mapping[str, str] = {}
            try:
                response = await self._sent(session, method, url, sent, content)
                if whole:
                    await response.read()
            except ValueError:  # asked wrongly, so that asking again is of no use
                raise
            except aiohttp.ClientError:
                if is_last or session.closed:
                    raise
            else:
                if is_last or response.status < 400:
                    return response
                failed = joined(response.raw_headers)
                if not is_worth_another_try(response.status, failed):
                    return response
                response.release()
            await asyncio.sleep(pause_s(n_before, failed))
        raise AssertionError("unreachable")

    async def _sent(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        content: bytes | None,
    ) -> aiohttp.ClientResponse:
        if session.closed:
            raise aiohttp.ClientConnectionError("closed meanwhile")
        is_large = content is not None and len(content) > _LARGE_BODY
        data = io.BytesIO(content) if content is not None and is_large else content
        return await session.request(
            method, url, data=data, headers=headers, max_redirects=_MAX_REDIRECTS
        )

    def _url(self, path: str) -> URL:
        """The address of a path, which may have a query."""
        if not _PLAIN_PATH.fullmatch(path):
            try:
                path = httpx2.URL(f"http://host{path}").raw_path.decode("ascii")
            except httpx2.InvalidURL as error:
                raise aiohttp.InvalidURL(path, str(error)) from error
        url = f"{self._root}{path}"
        if self._query:
            url = f"{url}{'&' if '?' in path else '?'}{self._query}"
        return URL(url, encoded=True)

    def _failure(self, error: Exception, what: str) -> UpstreamError:
        return failure(
            error, what, name=self._name, base_url=self.base_url, timeouts=self._timeouts
        )


class _Content:
    """A body that comes in parts, and the error that ended it: aiohttp raises another."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self.error: Exception | None = None
        self._content = content

    async def parts(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._content:
                yield part
        except Exception as error:
            self.error = error
            raise


def encoded(body: Mapping[str, Any]) -> bytes:
    """A body as JSON."""
    try:
        return orjson.dumps(body)
    except TypeError:  # of what JSON allows: integers beyond 64 bits, halves of surrogate pairs
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


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


def _left_in(content: Any) -> bytes:
    """What came before a reply broke off and was not taken yet; aiohttp gives the error first."""
    content.set_exception(None)
    left: bytes = content.read_nowait()
    return left


def _reply_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return reply_headers(joined(response.raw_headers))


def _basic_auth(url: httpx2.URL, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers, with the user name and the password of the address, if it has any."""
    if not (url.username or url.password):
        return headers
    auth = httpx2.BasicAuth(url.username, url.password)
    request = next(auth.auth_flow(httpx2.Request("GET", url.copy_with(userinfo=b""))))
    return {**headers, "authorization": request.headers["authorization"]}
