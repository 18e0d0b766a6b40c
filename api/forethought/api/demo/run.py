"""Run the demo: fetch the model, start the server, tell the story, stop the server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openai import APIStatusError, OpenAI, OpenAIError
from rich.console import Console

from forethought.api.commands.models import fetch_with_progress
from forethought.api.demo.asking import Asking
from forethought.api.demo.errors import DemoError
from forethought.api.demo.measured import Measured
from forethought.api.demo.sample import FULL, QUICK
from forethought.api.demo.server import DemoServer, Served
from forethought.api.demo.story import Story

DEFAULT_MODEL: Final = "qwen2.5-coder-1.5b"
QUICK_MODEL: Final = "smollm2-135m"

LISTING_TIMEOUT_S: Final = 10.0


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
    if options.base_url is None:
        model = options.model or (QUICK_MODEL if options.quick else DEFAULT_MODEL)
        fetch_with_progress(model, console=console if console.stderr else None)
    else:
        model = model_at(options.base_url, options.model)
    served = Served(
        model=model,
        base_url=options.base_url,
        data_dir=options.data_dir,
        port=options.port,
        seed=options.seed,
    )
    console.print("Starting the server")
    # An embedded model given as a file is served under another name: the server knows it.
    named = None if options.base_url is None else model
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


def model_at(base_url: str, model: str | None) -> str:
    """The model to ask for at an OpenAI-compatible server: the given one, or its only one."""
    key = os.environ.get("FORETHOUGHT_UPSTREAM_API_KEY", "none")
    client = OpenAI(base_url=base_url, api_key=key, timeout=LISTING_TIMEOUT_S, max_retries=0)
    try:
        served = [found.id for found in client.models.list().data]
    except APIStatusError:
        served = []
    except OpenAIError as error:
        raise DemoError(
            f"No OpenAI-compatible server answers at {base_url} ({error}).",
            param="base_url",
            remedy="Check the address; it usually ends in /v1.",
        ) from error
    if model is not None:
        return model
    if len(served) != 1:
        raise DemoError(
            f"The server at {base_url} lists {len(served) or 'no'} models.",
            param="model",
            remedy=f"Name one by --model: {', '.join(served[:5])}" if served else "Use --model.",
        )
    return served[0]
