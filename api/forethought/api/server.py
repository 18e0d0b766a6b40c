"""Run the application on a socket until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Final

import typer
import uvicorn
from fastapi import FastAPI

from forethought.api.app import create_app, lifespan
from forethought.api.services import Services
from forethought.api.settings import Settings
from forethought.router.errors import ConfigError

GRACE_S: Final = 5
"""Answers under way have this long to end when the server is stopped."""

BACKLOG: Final = 2048
"""Connections that may wait to be accepted; uvicorn's own default."""


def run(settings: Settings, *, log_level: str) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        ForethoughtError: The server cannot start; the error names what is in the way.
    """
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level=log_level,
        access_log=log_level == "debug",
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
    )
    with (
        listen(settings.host, settings.port) as listening,
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(_serve(app, config, listening))


async def _serve(app: FastAPI, config: uvicorn.Config, listening: socket.socket) -> None:
    # Entered here and not by uvicorn, which would turn a clear error into a traceback.
    async with lifespan(app):
        _say(app.state.services, listening.getsockname())
        await _Server(config).serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Stops on a signal and returns. uvicorn's own would then end the process by that signal,
    before the services are closed.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def listen(host: str, port: int) -> socket.socket:
    """Take the port. Done first: that it is in use is to be known before a model is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        # Named as TCP, as asyncio sets TCP_NODELAY on no other: without it a reply waits 40 ms.
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {host}:{port} ({error.strerror or error}).",
            param="port",
            remedy="Another server may run there; name another with --port.",
        ) from error
    return listening


def _say(services: Services, address: tuple[str, int]) -> None:
    settings, policy = services.settings, services.policy.serving
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    asked = [settings.upstream_base_url] if settings.upstream_base_url else []
    asked += [f"{name}: {one.base_url}" for name, one in settings.upstreams.items()]
    upstreams = ", ".join(asked) or "embedded"
    typer.echo(f"Forethought serves {services.serving.model or 'the models'} ({upstreams})")
    typer.echo(f"  at      http://{host}:{address[1]}/v1")
    typer.echo(f"  log     {settings.shown_store}")
    typer.echo(f"  policy  {policy.version} ({policy.problem or policy.source})")
