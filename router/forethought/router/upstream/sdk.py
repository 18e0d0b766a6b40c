"""Calls through the providers' own SDKs: the rare ones, where their cost does not matter.

Authorisation, retries and connections are the SDK's; the bytes of the replies stay the server's.
An SDK takes a second and tens of megabytes to import, so it is imported by the first call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final

import httpx2

from forethought.router.upstream.base import UpstreamReply
from forethought.router.upstream.failures import UNREACHED, failure
from forethought.router.upstream.headers import joined, reply_headers, sent_headers
from forethought.router.upstream.patience import Patience, Timeouts

if TYPE_CHECKING:
    import anthropic
    import openai

OPENAI_HOST: Final = "api.openai.com"


@dataclass(frozen=True, slots=True)
class Account:
    """Where an SDK's client calls, and how patiently.

    ``local``: proxies of the environment do not apply, and connections are not kept.
    """

    base_url: httpx2.URL
    api_key: str | None
    timeouts: Timeouts
    max_retries: int
    local: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """A client of an SDK, and what of its module its calls need."""

    client: openai.AsyncOpenAI | anthropic.AsyncAnthropic
    status_error: type[openai.APIStatusError | anthropic.APIStatusError]
    connection_error: type[Exception]
    omitted: object
    """The value of a header that is not to be sent."""


def load_openai(account: Account) -> Loaded:
    """The openai SDK's client."""
    import openai  # noqa: PLC0415 - see above

    client = openai.AsyncOpenAI(
        base_url=account.base_url,
        # Never None: the SDK would then take the environment's key to any base_url.
        api_key=account.api_key or "none",
        timeout=account.timeouts.as_httpx(),
        max_retries=account.max_retries,
        http_client=_http_client(openai.DefaultAsyncHttpxClient, account),
    )
    if account.base_url.host != OPENAI_HOST:
        # The environment's, which the SDK sends to any base_url, are OpenAI's to know.
        client.organization = client.project = None
    return Loaded(client, openai.APIStatusError, openai.APIConnectionError, openai.Omit())


def load_anthropic(account: Account) -> Loaded:
    """The anthropic SDK's client."""
    import anthropic  # noqa: PLC0415 - see above

    client = anthropic.AsyncAnthropic(
        base_url=account.base_url,
        api_key=account.api_key or "none",
        timeout=account.timeouts.as_httpx(),
        max_retries=account.max_retries,
        http_client=_http_client(anthropic.DefaultAsyncHttpxClient, account),
    )
    errors = anthropic.APIStatusError, anthropic.APIConnectionError
    return Loaded(client, *errors, anthropic.Omit())


class Sdk:
    """Calls through an SDK, which is imported by the first of them.

    Args:
        load: ``load_openai`` or ``load_anthropic``.
        account: Where it calls.
        name: The upstream's, for errors.
        shown_url: The address for errors, without secrets.
    """

    def __init__(
        self, load: Callable[[Account], Loaded], account: Account, *, name: str, shown_url: str
    ) -> None:
        self._load = load
        self._account = account
        self._name = name
        self._shown_url = shown_url
        self._loaded: Loaded | None = None
        self._loading = asyncio.Lock()

    async def aclose(self) -> None:
        """Close the SDK's connections. A later call opens new ones."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            await loaded.client.close()

    async def get(self, path: str) -> UpstreamReply:
        """GET ``path``; an error status is a reply.

        Raises:
            UpstreamError, UpstreamTimeout: There is no reply, or not in time.
        """
        return await self._patience().whole(self._got(path))

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> UpstreamReply:
        """POST ``body`` as JSON, with a client's headers; otherwise as ``get``."""

        async def call() -> UpstreamReply:
            loaded = await self._connected()
            options: Any = {"headers": self._headers(loaded, headers)}
            call = loaded.client.post(
                path, cast_to=httpx2.Response, body=dict(body), options=options
            )
            return await self._reply(loaded, call)

        return await self._patience().whole(call())

    async def _got(self, path: str) -> UpstreamReply:
        loaded = await self._connected()
        options: Any = {"headers": self._headers(loaded, {})}
        call = loaded.client.get(path, cast_to=httpx2.Response, options=options)
        return await self._reply(loaded, call)

    async def _reply(self, loaded: Loaded, call: Any) -> UpstreamReply:
        try:
            response: httpx2.Response = await call
        except loaded.status_error as error:
            response = error.response
        except (loaded.connection_error, httpx2.HTTPError) as error:
            cause = error.__cause__
            raise failure(
                cause if isinstance(cause, httpx2.HTTPError) else error,
                UNREACHED,
                name=self._name,
                base_url=self._shown_url,
                timeouts=self._account.timeouts,
            ) from error
        headers = reply_headers(joined(response.headers.raw))
        return UpstreamReply(response.status_code, headers, response.content)

    async def _connected(self) -> Loaded:
        async with self._loading:
            if self._loaded is None:
                # In a thread, as requests go on meanwhile.
                self._loaded = await asyncio.to_thread(self._load, self._account)
            return self._loaded

    def _headers(self, loaded: Loaded, headers: Mapping[str, str]) -> dict[str, object]:
        sent: dict[str, object] = dict(sent_headers(headers))
        if self._account.api_key is None:
            sent["Authorization"] = loaded.omitted
        return sent

    def _patience(self) -> Patience:
        return Patience(self._account.timeouts, self._name)


def _http_client(
    of_the_sdk: Callable[..., httpx2.AsyncClient], account: Account
) -> httpx2.AsyncClient:
    kept = {"limits": httpx2.Limits(max_keepalive_connections=0)} if account.local else {}
    return of_the_sdk(
        timeout=account.timeouts.as_httpx(),
        trust_env=not account.local,
        # A cookie of one client's reply must not go with another's request.
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        **kept,
    )
