"""What every upstream offers: raw replies, plain and streamed, nothing lost in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from forethought.router.sse import Reader


@dataclass(frozen=True, slots=True)
class UpstreamReply:
    """A whole reply: status, headers (lower-case names) and the body's bytes as received.

    ``native``: these bytes, where the upstream speaks another language and ``body`` is a
    translation of them.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    native: bytes | None = None


@dataclass(frozen=True, slots=True)
class UpstreamStream:
    """A reply whose body is still arriving; ``chunks`` yields bytes as they come.

    ``native`` yields them as received, where the upstream speaks another language and ``chunks``
    is a translation, and has the reader that understands them. Read one of the two, not both.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    native: NativeStream | None = None


@dataclass(frozen=True, slots=True)
class NativeStream:
    """A stream in the upstream's own language."""

    chunks: AsyncIterator[bytes]
    reader: Reader


class Upstream(Protocol):
    """A server that answers OpenAI's chat-completion requests.

    An HTTP error status from the upstream is a reply, not an exception. Raises
    ``UpstreamError`` where it cannot be reached, ``UpstreamTimeout`` where it is too slow.
    """

    @property
    def name(self) -> str: ...

    @property
    def base_url(self) -> str: ...

    async def complete(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> UpstreamReply:
        """POST ``body`` to /chat/completions; ``headers`` are added to the request."""
        ...

    def stream(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """The same, streamed. Leaving the context cancels the upstream call."""
        ...

    async def models(self) -> UpstreamReply:
        """GET /models."""
        ...

    async def ready(self) -> bool:
        """Whether the upstream answers now."""
        ...

    async def start(self) -> None:
        """Acquire what it needs (a child process, a connection pool)."""
        ...

    async def aclose(self) -> None:
        """Release it."""
        ...


@runtime_checkable
class SpeaksMessages(Protocol):
    """An upstream with Anthropic's Messages API behind it.

    A request in that form loses nothing on its way there.
    """

    async def count_tokens(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> UpstreamReply:
        """POST a Messages body to /v1/messages/count_tokens; request and reply stay as sent."""
        ...


@runtime_checkable
class Forwards(Protocol):
    """An upstream that takes any request below its base URL, in whatever form it comes."""

    def forward(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        content: AsyncIterator[bytes] | None,
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """Send ``content`` as it comes; errors as in ``Upstream``. Nothing is tried again.

        ``path`` begins with a slash and goes below the base URL as it is.
        """
        ...


@runtime_checkable
class PassesOn(Protocol):
    """An upstream with more of OpenAI's endpoints than chat completions.

    Requests and replies stay as they are; errors as in ``Upstream``.
    """

    @property
    def base_url(self) -> str: ...

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> UpstreamReply:
        """Send ``body`` to ``path`` (such as ``/embeddings``) and wait for the whole reply."""
        ...

    def send_stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """POST ``body`` to ``path``, streamed. Leaving the context cancels the upstream call."""
        ...
