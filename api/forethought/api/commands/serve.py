"""``forethought serve``: the proxy."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from forethought.api import memory
from forethought.router import catalogue


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
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0: a free one (default 8300).")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the log and the policies (default .forethought).")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="The log's database, such as postgresql://...")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Embedded: a model of the catalogue or a .gguf file "
            "(default qwen2.5-coder-1.5b). With --base-url: what forethought/auto stands for."
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
        Sleep | None,
        typer.Option(help="Whether to sleep: where it pays, never or always (default auto)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds exploration.")] = None,
    log_level: Annotated[LogLevel, typer.Option(help="What to say.")] = LogLevel.warning,
) -> None:
    """Serve OpenAI's API, and decide for each request how much to think.

    Every setting can also be given as FORETHOUGHT_NAME in the environment or in --config.
    """
    memory.start()
    # The server's libraries take seconds to load; listing the commands does not need them.
    from forethought.api.server import run  # noqa: PLC0415
    from forethought.api.settings import DEFAULT_MODEL  # noqa: PLC0415
    from forethought.api.settings_sources import load_settings  # noqa: PLC0415

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
            from forethought.api.commands.models import fetch_with_progress  # noqa: PLC0415

            fetch_with_progress(name)
    run(settings, log_level=log_level.value)
