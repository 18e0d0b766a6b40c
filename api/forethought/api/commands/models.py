"""``forethought models``: the open-weight models that can run embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from forethought.router import catalogue
from forethought.router.catalogue import FetchProgress

app = typer.Typer(name="models", help="Open-weight models that run embedded.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """List the models of the catalogue, and which of them are on this machine."""
    table = Table("model", "size", "licence", "here", "what for", box=None, pad_edge=False)
    for model in catalogue.MODELS.values():
        here = "yes" if catalogue.is_cached(model.name) else "no"
        size = f"{model.size_bytes / 1e6:,.0f} MB"
        table.add_row(model.name, size, model.licence, here, model.summary)
    console = Console()
    console.print(table)
    console.print(f"Kept in {catalogue.cache_dir()}", soft_wrap=True, highlight=False)


@app.command("fetch")
def fetch_models(
    names: Annotated[list[str], typer.Argument(help="Names from: forethought models list")],
) -> None:
    """Download models, verify them and print where they are."""
    for name in names:
        typer.echo(fetch_with_progress(name))


def fetch_with_progress(name_or_path: str, *, console: Console | None = None) -> Path:
    """Return a model's weights file; show a progress bar where it has to be downloaded.

    Takes a name of the catalogue or the path of a .gguf file. The bar goes to standard
    error, so that standard output stays what the caller prints.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as bars:
        current: dict[str, TaskID] = {}

        def show(progress: FetchProgress) -> None:
            label = f"{progress.model}: {progress.stage}"
            if label not in current:  # a new stage, or another source after one that failed
                for shown in current.values():
                    bars.remove_task(shown)
                current.clear()
                current[label] = bars.add_task(label, total=progress.total_bytes)
            bars.update(current[label], completed=progress.done_bytes)

        return catalogue.resolve(name_or_path, progress=show)
