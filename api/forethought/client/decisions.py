"""``client.decisions``: why a request was answered the way it was.

The openai SDK has a resource of this name for an endpoint of its own (``create``). These classes
extend it, so that code written for the stock client keeps its meaning.
"""

from __future__ import annotations

from typing import Unpack

from openai.resources.decisions import AsyncDecisions as StockAsyncDecisions
from openai.resources.decisions import Decisions as StockDecisions

from forethought.client.calls import CallOptions, path_of, request_options
from forethought.client.replies import Decision


class Decisions(StockDecisions):
    """Decisions of the router, by the id that each reply's headers carry."""

    def retrieve(self, decision_id: str, **call: Unpack[CallOptions]) -> Decision:
        """Return one decision with its candidates, its features and what came of it."""
        path = path_of("decisions", decision_id)
        return self._client.get(path, cast_to=Decision, options=request_options(call))


class AsyncDecisions(StockAsyncDecisions):
    """As ``Decisions``, to be awaited."""

    async def retrieve(self, decision_id: str, **call: Unpack[CallOptions]) -> Decision:
        """Return one decision with its candidates, its features and what came of it."""
        path = path_of("decisions", decision_id)
        return await self._client.get(path, cast_to=Decision, options=request_options(call))
