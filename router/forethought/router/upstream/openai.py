"""Any OpenAI-compatible server.

The bytes of the replies stay the server's, so unknown fields survive. Requests are sent as JSON
with every field of the client's body, known or not. Rare calls go through the openai SDK; for the
others its authorisation and its retries are kept, and aiohttp is faster.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from forethought.router.upstream.base import UpstreamReply, UpstreamStream
from forethought.router.upstream.headers import sent_headers
from forethought.router.upstream.http_client import HttpClient, checked_url
from forethought.router.upstream.patience import Timeouts
from forethought.router.upstream.sdk import OPENAI_HOST, Account, Sdk, load_openai

_CHAT: Final = "/chat/completions"
_MODELS: Final = "/models"

_OF_THE_ENVIRONMENT: Final = {
    "openai-organization": "OPENAI_ORG_ID",
    "openai-project": "OPENAI_PROJECT_ID",
}
"""Headers of an account that the SDK takes from these variables."""

_FORWARDED_HEADERS: Final = ("accept", "content-length", "content-type")
"""Those of a client that say what a forwarded body is."""


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
        self._api_key = api_key
        self._name = name
        url, timeouts = checked_url(base_url), timeouts or Timeouts()
        self._client = HttpClient(
            url,
            name=name,
            headers=_account_headers(url.host, api_key),
            timeouts=timeouts,
            max_retries=max_retries,
            local=local,
        )
        account = Account(url, api_key, timeouts, max_retries, local=local)
        self._sdk = Sdk(load_openai, account, name=name, shown_url=self.base_url)

    def __repr__(self) -> str:
        key = None if self._api_key is None else "***"
        return f"OpenAIUpstream({self.base_url!r}, api_key={key!r}, name={self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def base_url(self) -> str:
        """The address, without any user name and password in it."""
        return self._client.base_url

    async def start(self) -> None:
        """Open the session; the first connection is made by the first request."""
        self._client.start()

    async def aclose(self) -> None:
        """Close the connections. A later request opens new ones."""
        await self._client.aclose()
        await self._sdk.aclose()

    async def complete(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> UpstreamReply:
        """POST ``body`` to /chat/completions and wait for the whole reply."""
        return await self._client.whole("POST", _CHAT, body, headers)

    def stream(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """POST ``body`` and yield the reply as it arrives; leaving early cancels it upstream."""
        return self._client.stream(_CHAT, body, headers)

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> UpstreamReply:
        """Send ``body`` to any ``path`` below the base URL and wait for the whole reply."""
        return await self._client.whole(method, path, body, headers)

    def send_stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """POST ``body`` to any ``path`` and yield the reply as it arrives."""
        return self._client.stream(path, body, headers)

    def forward(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        content: AsyncIterator[bytes] | None,
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """Send any request below the base URL and yield the reply as it arrives."""
        about = {name: headers[name] for name in _FORWARDED_HEADERS if name in headers}
        sent = {**sent_headers(headers), **about}
        return self._client.forward(method, path, query, sent, content)

    async def models(self) -> UpstreamReply:
        """GET /models."""
        return await self._sdk.get(_MODELS)

    async def ready(self) -> bool:
        """Whether the upstream answers now, whatever it says short of a server error."""
        return await self._client.ready(_MODELS)


def _account_headers(host: str, api_key: str | None) -> dict[str, str]:
    """Who asks, and who pays: the environment's account at OpenAI is for OpenAI to know."""
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    if host == OPENAI_HOST:
        found = {name: os.environ.get(variable) for name, variable in _OF_THE_ENVIRONMENT.items()}
        headers |= {name: value for name, value in found.items() if value is not None}
    return headers
