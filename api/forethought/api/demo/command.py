"""The command line of the demo."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from forethought.api.demo.errors import DemoError
from forethought.models.errors import ForethoughtError

EXIT_INTERRUPTED = 130
"""What a shell reports for Ctrl-C."""

PLAIN_WIDTH = 110
"""Columns where the output goes to a file or a log: all tables fit."""


def command(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="The smallest model, a minute: it shows the parts, not what they gain."
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of the catalogue or a .gguf file; with --base-url, its model's name."
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Ask this OpenAI-compatible server instead of the embedded model."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the demo's server; 0: a free one.")
    ] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the log and what was learned.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="A new or empty folder for them; implies --keep.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the contexts.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object.")
    ] = False,
) -> None:
    """Show what Forethought does, on real questions and a real model, measured as it runs."""
    # The story's modules load the server's libraries, which listing the commands does not need.
    from forethought.api.demo.run import Options, run  # noqa: PLC0415

    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    try:
        with _terminable(), _data_folder(data_dir, keep=keep, console=console) as folder:
            options = Options(
                quick=quick, model=model, base_url=base_url, port=port, data_dir=folder, seed=seed
            )
            measured = run(options, console)
            if as_json:
                typer.echo(json.dumps(measured.as_json()))
    except ForethoughtError as error:
        typer.echo(" ".join(f"forethought: {error}".split()), err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        typer.echo("forethought: stopped; the server is down.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@contextlib.contextmanager
def _data_folder(given: Path | None, *, keep: bool, console: Console) -> Iterator[Path]:
    """The folder for the demo's log: the given one, or one that is removed afterwards."""
    if given is not None:
        try:
            given.mkdir(parents=True, exist_ok=True)
            used = any(given.iterdir())
        except OSError as error:
            raise DemoError(
                f"The folder {given} cannot be used: {error.strerror}.", param="data_dir"
            ) from error
        if used:
            raise DemoError(
                f"The folder {given} is not empty.",
                param="data_dir",
                remedy="Name a new one: the demo begins with an empty log.",
            )
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="forethought-demo-"))
    try:
        yield folder
    finally:
        if keep:
            console.print(f"Kept in {folder}", highlight=False, soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, with the server stopped."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
