"""Requests to the API behind a base URL: with our key, tried again, and not waited for for ever.

A request goes out on a connection of ours. What is rare goes through httpx2: a proxy of the
environment, a server that points elsewhere, a compressed reply.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from typing import Any, Final

import httpx2
import orjson

from forethought.router.errors import ConfigError, UpstreamError, UpstreamTimeout
from forethought.router.upstream.base import UpstreamReply, UpstreamStream
from forethought.router.upstream.headers import reply_headers, request_head, sent_headers
from forethought.router.upstream.patience import Patience, Timeouts, timed_out
from forethought.router.upstream.pool import IDLE_S, MAX_CONNECTIONS, MAX_IDLE, Pool
from forethought.router.upstream.responses import (
    DirectResponse,
    HttpxResponse,
    Response,
    decoded,
)
from forethought.router.upstream.retries import is_worth_another_try, pause_s

_READY: Final = Timeouts(connect_s=2.0, first_token_s=2.0, total_s=2.0)
"""A health probe must not hang on a slow upstream."""

_PLAIN_PATH: Final = re.compile(r"[/A-Za-z0-9_-]*")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class HttpClient:
    """A client of the API at ``base_url``; its pool opens with the first request.

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
            "host": base_url.netloc.decode("ascii"),
            "accept": "application/json",
            "user-agent": f"forethought/{version('forethought')}",
            **_basic_auth(base_url, headers),
        }
        path, _, query = base_url.raw_path.decode("ascii").partition("?")
        self._path, self._query = path.rstrip("/"), query
        self._pool: Pool | None = None
        self._httpx: httpx2.AsyncClient | None = None
        self._direct = local or not _is_proxied(base_url)

    @property
    def base_url(self) -> str:
        """The address, without any user name and password in it."""
        return str(self._base_url.copy_with(userinfo=b""))

    def start(self) -> Pool:
        """Make the pool, as the first request would: reading TLS certificates takes a while."""
        if self._pool is None:
            self._pool = Pool(self._base_url, self._timeouts, keep_alive=not self._local)
        return self._pool

    async def aclose(self) -> None:
        """Close the connections. A later request opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
        client, self._httpx = self._httpx, None
        if client is not None:
            await client.aclose()

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
        call = self._read(method, path, body, sent, self._max_retries)
        return await patience.whole(call)

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
        call = self._answered("POST", path, body, sent, self._max_retries, whole=False)
        try:
            response = await patience.opened(call)
        except httpx2.HTTPError as error:
            raise self._failure(error, "could not be reached") from error
        async with self._streamed(response, patience) as stream:
            yield stream

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
        client = self.httpx()
        url = f"{str(self._base_url).rstrip('/')}{path}{'?' if query else ''}{query}"
        sent = {**self._own, **headers, "accept-encoding": "identity"}
        request = client.build_request(method, url, headers=sent, content=content)
        patience = Patience(self._timeouts, self._name)
        call = client.send(request, stream=True, follow_redirects=False)
        try:
            response = await patience.whole(call)
        except httpx2.HTTPError as error:
            raise self._failure(error, "could not be reached") from error
        async with self._streamed(HttpxResponse(response), patience) as stream:
            yield stream

    async def ready(self, path: str) -> bool:
        """Whether the server answers now, whatever it says short of a server error."""
        sent = {"accept-encoding": "gzip, deflate"}
        try:
            reply = await Patience(_READY, self._name).whole(self._read("GET", path, None, sent, 0))
        except UpstreamError:
            return False
        return reply.status < httpx2.codes.INTERNAL_SERVER_ERROR

    def httpx(self) -> httpx2.AsyncClient:
        """The client for what is rare."""
        if self._httpx is None:
            limits = httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=0 if self._local else MAX_IDLE,
                keepalive_expiry=IDLE_S,
            )
            self._httpx = httpx2.AsyncClient(
                timeout=self._timeouts.as_httpx(),
                limits=limits,
                trust_env=not self._local,
                follow_redirects=True,
                # A cookie of one client's reply must not go with another's request.
                cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            )
        return self._httpx

    async def _read(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        max_retries: int,
    ) -> UpstreamReply:
        try:
            response = await self._answered(method, path, body, headers, max_retries, whole=True)
            return UpstreamReply(
                response.status, reply_headers(response.headers), await response.read()
            )
        except httpx2.HTTPError as error:
            raise self._failure(error, "could not be reached") from error

    @asynccontextmanager
    async def _streamed(
        self, response: Response, patience: Patience
    ) -> AsyncIterator[UpstreamStream]:
        try:
            chunks = patience.watched(self._chunks(response))
            yield UpstreamStream(response.status, reply_headers(response.headers), chunks)
        finally:
            await response.aclose()

    async def _chunks(self, response: Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.chunks():
                yield chunk
        except httpx2.HTTPError as error:
            raise self._failure(error, "broke off in mid-answer") from error

    async def _answered(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        max_retries: int,
        *,
        whole: bool,
    ) -> Response:
        """The first reply that is no passing failure, or the last one, read where ``whole``."""
        content = b"" if body is None else encoded(body)
        sent = {**self._own, **headers}
        if body is not None:
            sent["content-type"] = "application/json"
        for n_before in itertools.count():
            is_last = n_before >= max_retries
            failed: Mapping[str, str] = {}
            try:
                response = await self._sent(method, path, sent, content)
                if whole:
                    await response.read()
            except httpx2.LocalProtocolError:
                raise
            except httpx2.RequestError:
                if is_last:
                    raise
            else:
                failed = response.headers
                if is_last or response.status < 400:
                    return response
                if not is_worth_another_try(response.status, failed):
                    return response
                await response.aclose()
            await asyncio.sleep(pause_s(n_before, failed))
        raise AssertionError("unreachable")

    async def _sent(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes
    ) -> Response:
        if not self._direct:
            return await self._sent_by_httpx(method, path, headers, content)
        framed = {**headers, "content-length": str(len(content))} if content else headers
        head = request_head(method, self._target(path), framed)
        response = await DirectResponse.to(head + content, self.start())
        if response.status in _REDIRECTS and "location" in response.headers:
            await response.aclose()
            return await self._sent_by_httpx(method, path, headers, content)
        if response.headers.get("content-encoding", "identity") != "identity":
            return decoded(response)
        return response

    async def _sent_by_httpx(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes
    ) -> Response:
        client = self.httpx()
        url = self._base_url.copy_with(raw_path=self._target(path).encode("ascii"))
        request = client.build_request(method, url, headers=headers, content=content or None)
        return HttpxResponse(await client.send(request, stream=True))

    def _target(self, path: str) -> str:
        """The path and the query of a request."""
        if not _PLAIN_PATH.fullmatch(path):
            try:
                path = httpx2.URL(f"http://host{path}").raw_path.decode("ascii")
            except httpx2.InvalidURL as error:
                raise httpx2.LocalProtocolError(str(error)) from error
        target = f"{self._path}{path}"
        return f"{target}{'&' if '?' in path else '?'}{self._query}" if self._query else target

    def _failure(self, error: httpx2.HTTPError, what: str) -> UpstreamError:
        failed = self._failed(error, what)
        failed.reached = not isinstance(error, httpx2.ConnectTimeout | httpx2.ConnectError)
        return failed

    def _failed(self, error: httpx2.HTTPError, what: str) -> UpstreamError:
        where = f"The upstream {self._name} at {self.base_url}"
        if isinstance(error, httpx2.ConnectTimeout):
            return timed_out(
                f"{where} took no connection within {self._timeouts.connect_s:g} s.",
                name=self._name,
                setting="upstream_connect_timeout_s",
            )
        if isinstance(error, httpx2.TimeoutException):
            return UpstreamTimeout(
                f"{where} did not take the request in time ({type(error).__name__}).",
                param=self._name,
                remedy="Try again; it, or the way to it, is overloaded.",
            )
        again = "Check that it runs and that its base_url is right."
        remedy = "Try again." if what.startswith("broke") else again
        return UpstreamError(f"{where} {what} ({_said(error)}).", param=self._name, remedy=remedy)


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


def _is_proxied(url: httpx2.URL) -> bool:
    proxies = urllib.request.getproxies()
    found = any(proxies.get(scheme) for scheme in (url.scheme, "all"))
    return found and not urllib.request.proxy_bypass(url.host)


def _basic_auth(url: httpx2.URL, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers, with the user name and the password of the address, if it has any."""
    if not (url.username or url.password):
        return headers
    auth = httpx2.BasicAuth(url.username, url.password)
    request = next(auth.auth_flow(httpx2.Request("GET", url.copy_with(userinfo=b""))))
    return {**headers, "authorization": request.headers["authorization"]}


def _said(error: BaseException) -> str:
    """An error in a few words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
