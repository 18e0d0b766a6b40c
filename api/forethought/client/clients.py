"""The clients: the openai SDK's own, pointed at a Forethought server, with three more resources."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypedDict, Unpack

from openai import AsyncOpenAI, NotGiven, OpenAI, Timeout, not_given

from forethought.client.contexts import AsyncContexts, Contexts
from forethought.client.decisions import AsyncDecisions, Decisions
from forethought.client.feedback import AsyncFeedbackResource, FeedbackResource

if TYPE_CHECKING:
    import httpx2

DEFAULT_BASE_URL = "http://127.0.0.1:8300/v1"
# What a server without API keys accepts. The SDK insists on one, and OPENAI_API_KEY, which it would
# read, is for OpenAI: it never goes to another server unasked.
DEFAULT_API_KEY = "forethought"


class _SharedOptions(TypedDict, total=False):
    """What both clients take as the openai SDK does; ``timeout`` is in seconds."""

    organization: str | None
    project: str | None
    webhook_secret: str | None
    websocket_base_url: str | httpx2.URL | None
    timeout: float | Timeout | NotGiven | None
    max_retries: int
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None


class ClientOptions(_SharedOptions, total=False):
    """What ``Forethought`` takes besides its address and key."""

    http_client: httpx2.Client | None


class AsyncClientOptions(_SharedOptions, total=False):
    """What ``AsyncForethought`` takes besides its address and key."""

    http_client: httpx2.AsyncClient | None


def _base_url(given: str | httpx2.URL | NotGiven | None) -> str | httpx2.URL:
    if given is None or isinstance(given, NotGiven):
        return os.environ.get("FORETHOUGHT_BASE_URL") or DEFAULT_BASE_URL
    return given


def _default_api_key() -> str:
    return os.environ.get("FORETHOUGHT_API_KEY") or DEFAULT_API_KEY


class Forethought(OpenAI):
    """A client of a Forethought server: everything ``openai.OpenAI`` does, and

    ``contexts`` to tell it about a context before the query comes, ``feedback`` to tell it how good
    an answer was, ``decisions`` to ask why.

    Args:
        api_key: Default: ``FORETHOUGHT_API_KEY``, else a placeholder for servers without keys.
        base_url: Default: ``FORETHOUGHT_BASE_URL``, else http://127.0.0.1:8300/v1.
        options: As ``openai.OpenAI`` takes them.
    """

    def __init__(
        self,
        *,
        api_key: str | Callable[[], str] | None = None,
        base_url: str | httpx2.URL | NotGiven | None = not_given,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(
            api_key=_default_api_key() if api_key is None else api_key,
            base_url=_base_url(base_url),
            **options,
        )

    @property
    def contexts(self) -> Contexts:
        return Contexts(self)

    @property
    def feedback(self) -> FeedbackResource:
        return FeedbackResource(self)

    @property
    def decisions(self) -> Decisions:
        return Decisions(self)


class AsyncForethought(AsyncOpenAI):
    """As ``Forethought``, to be awaited."""

    def __init__(
        self,
        *,
        api_key: str | Callable[[], Awaitable[str]] | None = None,
        base_url: str | httpx2.URL | NotGiven | None = not_given,
        **options: Unpack[AsyncClientOptions],
    ) -> None:
        super().__init__(
            api_key=_default_api_key() if api_key is None else api_key,
            base_url=_base_url(base_url),
            **options,
        )

    @property
    def contexts(self) -> AsyncContexts:
        return AsyncContexts(self)

    @property
    def feedback(self) -> AsyncFeedbackResource:
        return AsyncFeedbackResource(self)

    @property
    def decisions(self) -> AsyncDecisions:
        return AsyncDecisions(self)
