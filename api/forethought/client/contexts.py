"""``client.contexts``: tell Forethought about a context before the first query on it comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, Unpack

from openai import AsyncOpenAI, OpenAI
from openai.pagination import AsyncCursorPage, SyncCursorPage
from openai.types.chat import ChatCompletionMessageParam

from forethought.client.calls import CallOptions, path_of, request_options, without_none
from forethought.client.replies import Context, ContextDeleted, LearnedContexts, Plan, SleepJob

Messages = Iterable[ChatCompletionMessageParam | Mapping[str, Any]]


class SleepLevel(TypedDict, total=False):
    """How much sleep-time compute: ``drafts`` parallel drafts, ``rounds`` rethink rounds."""

    drafts: int
    rounds: int


def _registration(
    messages: Messages | None, text: str | None, sleep: bool | None, level: SleepLevel | None
) -> dict[str, Any]:
    if (messages is None) == (text is None):
        raise TypeError("A context is given either as `messages` or as `text`.")
    given = None if messages is None else list(messages)
    return without_none(messages=given, text=text, sleep=sleep, level=level)


class Contexts:
    """Contexts and what was learned about them. A context is found again by its content."""

    def __init__(self, client: OpenAI) -> None:
        self._client = client

    def create(
        self,
        *,
        messages: Messages | None = None,
        text: str | None = None,
        sleep: bool | None = None,
        level: SleepLevel | None = None,
        **call: Unpack[CallOptions],
    ) -> Context:
        """Register a context; registering it again returns the same one.

        Args:
            messages: The context as chat messages: what every query on it will start with.
            text: The context as plain text, instead of ``messages``.
            sleep: True sleeps on it now, False never on its own; None lets the policy decide.
            level: How much to sleep; None lets the policy decide.
            call: ``extra_headers`` and ``timeout`` of this one call.
        """
        body = _registration(messages, text, sleep, level)
        return self._client.post(
            "/contexts", body=body, cast_to=Context, options=request_options(call)
        )

    def retrieve(self, context_id: str, **call: Unpack[CallOptions]) -> Context:
        """Return one context."""
        path = path_of("contexts", context_id)
        return self._client.get(path, cast_to=Context, options=request_options(call))

    def list(
        self, *, limit: int | None = None, after: str | None = None, **call: Unpack[CallOptions]
    ) -> SyncCursorPage[Context]:
        """Return the contexts. Iterating the result fetches further pages as needed."""
        return self._client.get_api_list(
            "/contexts",
            model=Context,
            page=SyncCursorPage[Context],
            options=request_options(call, {"limit": limit, "after": after}),
        )

    def delete(self, context_id: str, **call: Unpack[CallOptions]) -> ContextDeleted:
        """Delete a context and what was learned about it."""
        path = path_of("contexts", context_id)
        return self._client.delete(path, cast_to=ContextDeleted, options=request_options(call))

    def learned(self, context_id: str, **call: Unpack[CallOptions]) -> LearnedContexts:
        """Return every version of what sleep wrote about a context."""
        path = path_of("contexts", context_id, "learned")
        return self._client.get(path, cast_to=LearnedContexts, options=request_options(call))

    def sleep(
        self, context_id: str, *, level: SleepLevel | None = None, **call: Unpack[CallOptions]
    ) -> SleepJob:
        """Ask for sleep on a context now. It runs on the server; `retrieve` tells how far it is."""
        path = path_of("contexts", context_id, "sleep")
        return self._client.post(
            path, body=without_none(level=level), cast_to=SleepJob, options=request_options(call)
        )

    def plan(self, context_id: str, **call: Unpack[CallOptions]) -> Plan:
        """Return what the policy would do about a context's sleep, and why."""
        path = path_of("contexts", context_id, "plan")
        return self._client.get(path, cast_to=Plan, options=request_options(call))


class AsyncContexts:
    """As ``Contexts``, to be awaited."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client

    async def create(
        self,
        *,
        messages: Messages | None = None,
        text: str | None = None,
        sleep: bool | None = None,
        level: SleepLevel | None = None,
        **call: Unpack[CallOptions],
    ) -> Context:
        """Register a context; see ``Contexts.create``."""
        body = _registration(messages, text, sleep, level)
        return await self._client.post(
            "/contexts", body=body, cast_to=Context, options=request_options(call)
        )

    async def retrieve(self, context_id: str, **call: Unpack[CallOptions]) -> Context:
        """Return one context."""
        path = path_of("contexts", context_id)
        return await self._client.get(path, cast_to=Context, options=request_options(call))

    async def list(
        self, *, limit: int | None = None, after: str | None = None, **call: Unpack[CallOptions]
    ) -> AsyncCursorPage[Context]:
        """Return the contexts. ``async for`` on the result fetches further pages as needed."""
        return await self._client.get_api_list(
            "/contexts",
            model=Context,
            page=AsyncCursorPage[Context],
            options=request_options(call, {"limit": limit, "after": after}),
        )

    async def delete(self, context_id: str, **call: Unpack[CallOptions]) -> ContextDeleted:
        """Delete a context and what was learned about it."""
        path = path_of("contexts", context_id)
        options = request_options(call)
        return await self._client.delete(path, cast_to=ContextDeleted, options=options)

    async def learned(self, context_id: str, **call: Unpack[CallOptions]) -> LearnedContexts:
        """Return every version of what sleep wrote about a context."""
        path = path_of("contexts", context_id, "learned")
        return await self._client.get(path, cast_to=LearnedContexts, options=request_options(call))

    async def sleep(
        self, context_id: str, *, level: SleepLevel | None = None, **call: Unpack[CallOptions]
    ) -> SleepJob:
        """Ask for sleep on a context now; see ``Contexts.sleep``."""
        path = path_of("contexts", context_id, "sleep")
        return await self._client.post(
            path, body=without_none(level=level), cast_to=SleepJob, options=request_options(call)
        )

    async def plan(self, context_id: str, **call: Unpack[CallOptions]) -> Plan:
        """Return what the policy would do about a context's sleep, and why."""
        path = path_of("contexts", context_id, "plan")
        return await self._client.get(path, cast_to=Plan, options=request_options(call))
