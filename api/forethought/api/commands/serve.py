"""``forethought serve``: the proxy."""

from __future__ import annotations

import asyncio
import logging
import socket
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
import uvicorn
from fastapi import FastAPI

from forethought.api.app import create_app, lifespan
from forethought.api.commands.models import fetch_with_progress
from forethought.api.services import Services
from forethought.api.settings import DEFAULT_MODEL, load_settings
from forethought.router import catalogue
from forethought.router.errors import ConfigError

GRACE_S: Final = 5
"""Answers under way have this long to end when the server is stopped."""

BACKLOG: Final = 2048
"""Connections that may wait to be accepted; uvicorn's own default."""


class Sleep(StrEnum):
    """When to sleep."""

    auto = "auto"
    off = "off"
    always = "always"


class LogLevel(StrEnum):
    """How much the server says on standard error."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def serve(
    config: Annotated[
        Path | None, typer.Option(envvar="FORETHOUGHT_CONFIG", help="A TOML file of settings.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0: a free one. [8300]")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the log and the policies. [.forethought]")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="The log's database, such as postgresql://... ")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Embedded: a model of the catalogue or a .gguf file "
            f"[{DEFAULT_MODEL}]. With --base-url: the model that forethought/auto stands for."
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            help="Serve the models of this OpenAI-compatible server. Its key is read from "
            "FORETHOUGHT_UPSTREAM_API_KEY."
        ),
    ] = None,
    sleep: Annotated[
        Sleep | None, typer.Option(help="Whether to sleep: where it pays, never or always. [auto]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds exploration.")] = None,
    log_level: Annotated[LogLevel, typer.Option(help="What to say.")] = LogLevel.warning,
) -> None:
    """Serve OpenAI's API, and decide for each request how much to think.

    Every setting can also be given as FORETHOUGHT_NAME in the environment or in --config.
    """
    settings = load_settings(
        config,
        host=host,
        port=port,
        data_dir=data_dir,
        database_url=database_url,
        model=model,
        upstream_base_url=base_url,
        sleep=None if sleep is None else sleep.value,
        seed=seed,
    )
    logging.basicConfig(level=log_level.value.upper(), format="%(levelname)s %(name)s: %(message)s")
    if settings.embedded:
        name = settings.model or DEFAULT_MODEL
        if name in catalogue.MODELS and not catalogue.is_cached(name):
            fetch_with_progress(name)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level=log_level.value,
        access_log=log_level is LogLevel.debug,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
    )
    with (
        _listen(settings.host, settings.port) as listening,
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(_serve(app, config, listening))


async def _serve(app: FastAPI, config: uvicorn.Config, listening: socket.socket) -> None:
    # Entered here and not by uvicorn, which would turn a clear error into a traceback.
    async with lifespan(app):
        _say(app.state.services, listening.getsockname())
        await uvicorn.Server(config).serve(sockets=[listening])


def _say(services: Services, address: tuple[str, int]) -> None:
    settings, policy = services.settings, services.policy.serving
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    upstream = settings.upstream_base_url or "embedded"
    typer.echo(f"Forethought serves {services.serving.model or 'the models'} ({upstream})")
    typer.echo(f"  at      http://{host}:{address[1]}/v1")
    typer.echo(f"  log     {settings.shown_store}")
    typer.echo(f"  policy  {policy.version} ({policy.problem or policy.source})")


def _listen(host: str, port: int) -> socket.socket:
    """Take the port at once: a port in use is to be known before a model is loaded."""
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
