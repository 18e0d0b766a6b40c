"""Run the demo: fetch the model, start the server, tell the story, stop the server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from forethought.api.commands.models import fetch_with_progress
from forethought.api.demo.asking import Asking
from forethought.api.demo.measured import Measured
from forethought.api.demo.sample import FULL, QUICK
from forethought.api.demo.server import DemoServer, Served
from forethought.api.demo.story import Story

DEFAULT_MODEL: Final = "qwen2.5-coder-1.5b"
QUICK_MODEL: Final = "smollm2-135m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line."""

    quick: bool
    model: str | None
    base_url: str | None
    port: int
    data_dir: Path
    seed: int


def run(options: Options, console: Console) -> Measured:
    """Play the whole story; returns what was measured."""
    embedded = None
    if options.base_url is None:
        embedded = options.model or (QUICK_MODEL if options.quick else DEFAULT_MODEL)
        fetch_with_progress(embedded, console=console if console.stderr else None)
    served = Served(
        model=embedded or options.model,
        base_url=options.base_url,
        data_dir=options.data_dir,
        port=options.port,
    )
    named = options.model if embedded is None else None
    console.print("Starting the server")
    with DemoServer(served) as server, Asking(server.base_url, model=named) as asking:
        story = Story(
            asking,
            console,
            served=served,
            sizes=QUICK if options.quick else FULL,
            seed=options.seed,
        )
        story.tell()
    story.conclude()
    return story.measured
