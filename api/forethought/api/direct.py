"""Routes for what passes through, where each request's processor time counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

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


class InFront:
    """Finds ``routes`` ahead of the app ``behind``, to which everything else goes.

    FastAPI wraps its app into layers; each costs every request, and every message of a reply, one
    call more. What passes through needs none of them.

    Args:
        routes: Those in front.
        found: Serves a request whose route was found.
        behind: Serves all others.
    """

    def __init__(self, routes: Sequence[DirectRoute], *, found: ASGIApp, behind: ASGIApp) -> None:
        self._routes = routes
        self._found = found
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for route in self._routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    await self._found(scope, receive, send)
                    return
        await self._behind(scope, receive, send)


async def serve_route(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request by the route that was found for it."""
    await scope["route"].app(scope, receive, send)
