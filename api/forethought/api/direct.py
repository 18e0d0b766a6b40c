"""Routes for what passes through, where each request's processor time counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from forethought.api.requests import services, tenant
from forethought.api.services import Services

Endpoint = Callable[[Request, Services, str], Awaitable[Response]]


class DirectRoute(Route):
    """A route of Starlette's own: it asks who asks, as FastAPI's dependency does, and nothing else.

    FastAPI would solve the same dependencies anew for each request.

    Args:
        path: As Starlette writes it.
        endpoint: Takes the request, the services and the tenant.
        methods: It is served for these alone.
        tag: What the description groups it by.
    """

    def __init__(
        self, path: str, endpoint: Endpoint, *, methods: Collection[str] = ("POST",), tag: str = ""
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.methods: set[str] = set(methods)  # without HEAD, which Starlette adds to GET
        self.tag = tag
        self.app = self._answer

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self  # for the metrics
        return match, found

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        answer = await self.endpoint(request, await services(request), await tenant(request))
        await answer(scope, receive, send)
