"""The application: routes over the services that its lifespan owns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forethought.api import errors
from forethought.api.description import describe
from forethought.api.direct import InFront, serve_route
from forethought.api.memory import settle
from forethought.api.metrics import Metrics
from forethought.api.requests import request_identity
from forethought.api.routes import (
    budget,
    chat,
    contexts,
    decisions,
    feedback,
    health,
    messages,
    models,
    passing,
    responses,
)
from forethought.api.routes import metrics as metrics_route
from forethought.api.routes import route as route_route
from forethought.api.routes.forwarding import forwarding
from forethought.api.services import opened
from forethought.api.settings import Settings

_DIRECT = tuple(
    route for noun in (chat, messages, responses, passing) for route in noun.ROUTES
)  # fmt: skip
"""What passes through: served by Starlette's own routes, without FastAPI's in between."""

_ROUTES = (
    route_route,
    models,
    contexts,
    feedback,
    decisions,
    budget,
    health,
    metrics_route,
)


def create_app(settings: Settings) -> FastAPI:
    """Build the application. Nothing is opened before its lifespan begins."""
    app = Application(
        title="Forethought",
        version=version("forethought"),
        description="An OpenAI-compatible proxy that decides how much to think, and when.",
        lifespan=lifespan,
        routes=list(_DIRECT),  # first: most requests' own
    )
    app.state.settings = settings
    app.state.tenants = settings.tenants
    app.state.metrics = Metrics()
    errors.install(app)
    for routes in _ROUTES:
        app.include_router(routes.router)
    app.router.routes.extend(forwarding(settings.upstream_paths))  # after ours, which come first
    describe(app)
    app.add_middleware(Counted, metrics=app.state.metrics)
    return app


class Application(FastAPI):
    """FastAPI's, with the routes of what passes through in front of its layers."""

    def build_middleware_stack(self) -> ASGIApp:
        return InFront(
            _DIRECT,
            found=Counted(serve_route, metrics=self.state.metrics),
            behind=super().build_middleware_stack(),
        )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Own the services while the application serves."""
    async with opened(app.state.settings, app.state.metrics) as services:
        app.state.services = services
        settle()
        yield


class Counted:
    """Counts every answer, gives it an ``x-request-id``, and answers what the app raised."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def counting(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._complete(scope, message)
            await send(message)

        try:
            await self._app(scope, receive, counting)
        except Exception as error:
            if started:
                raise
            await errors.reply_to(scope, error)(scope, receive, counting)

    def _complete(self, scope: Scope, start: Message) -> None:
        sent = start["headers"] = list(start.get("headers", ()))
        names = {name.lower(): value for name, value in sent}
        if b"x-request-id" not in names:
            names[b"x-request-id"] = request_identity(scope).encode()
            sent.append((b"x-request-id", names[b"x-request-id"]))
        if errors.speaks_anthropic(scope) and b"request-id" not in names:
            sent.append((b"request-id", names[b"x-request-id"]))
        strategy = names.get(b"x-forethought-strategy", b"").decode()
        # The route's own path: the client's would make metrics without end.
        path = getattr(scope.get("route"), "path", "none")
        self._metrics.answered(path, start["status"], strategy)
