"""``client.decisions``: why a request was answered the way it was.

The openai SDK has a resource of this name for an endpoint of its own (``create``). These classes
extend it, so that code written for the stock client keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Unpack

from openai.resources.decisions import AsyncDecisions as StockAsyncDecisions
from openai.resources.decisions import Decisions as StockDecisions

from forethought.client.calls import CallOptions, path_of, request_options
from forethought.client.contexts import Messages
from forethought.client.replies import Decision, Route

AUTO: Final = "forethought/auto"
"""The server's model."""

Extra = Mapping[str, Any] | None


class Decisions(StockDecisions):
    """Decisions of the router, by the id that each reply's headers carry."""

    def retrieve(self, decision_id: str, **call: Unpack[CallOptions]) -> Decision:
        """Return one decision with its candidates, its explanation and what came of it."""
        path = path_of("decisions", decision_id)
        return self._client.get(path, cast_to=Decision, options=request_options(call))

    def preview(
        self,
        *,
        messages: Messages,
        model: str = AUTO,
        extra_body: Extra = None,
        **call: Unpack[CallOptions],
    ) -> Route:
        """Return what would be decided on a chat request, and why. It is not answered or logged.

        Args:
            messages: The request's messages.
            model: The request's model.
            extra_body: Its other fields, such as ``{"forethought": {"context": id}}``.
            call: ``extra_headers`` and ``timeout`` of this one call.
        """
        body = {"model": model, "messages": list(messages), **(extra_body or {})}
        return self._client.post("/route", body=body, cast_to=Route, options=request_options(call))


class AsyncDecisions(StockAsyncDecisions):
    """As ``Decisions``, to be awaited."""

    async def retrieve(self, decision_id: str, **call: Unpack[CallOptions]) -> Decision:
        """Return one decision with its candidates, its explanation and what came of it."""
        path = path_of("decisions", decision_id)
        return await self._client.get(path, cast_to=Decision, options=request_options(call))

    async def preview(
        self,
        *,
        messages: Messages,
        model: str = AUTO,
        extra_body: Extra = None,
        **call: Unpack[CallOptions],
    ) -> Route:
        """Return what would be decided on a chat request; see ``Decisions.preview``."""
        body = {"model": model, "messages": list(messages), **(extra_body or {})}
        return await self._client.post(
            "/route", body=body, cast_to=Route, options=request_options(call)
        )
