"""What the training commands share: options, errors, progress, output.

What the commands need is imported when they run: the command line loads these modules at every
start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from forethought.models.errors import ForethoughtError

if TYPE_CHECKING:
    from forethought.router.allocation import Preferences
    from forethought.training.sources import Source

DEFAULT_DATA_DIR: Final = Path(".forethought")


class BoundName(StrEnum):
    """Which interval the gate asks."""

    betting = "betting"
    bernstein = "bernstein"
    bootstrap = "bootstrap"


class SplitName(StrEnum):
    """Which contexts are held out."""

    context = "context"
    time = "time"


class KindName(StrEnum):
    """How a policy explores, beside the evenly drawn share."""

    epsilon = "epsilon"
    softmax = "softmax"
    thompson = "thompson"


class EngineOption(StrEnum):
    """How a policy is fitted."""

    memory = "memory"
    stream = "stream"
    dask = "dask"


DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="FORETHOUGHT_DATA_DIR", help="Folder of the log and the policies."
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="FORETHOUGHT_DATABASE_URL",
        show_envvar=True,
        help="URL of the log, if it is not the file in the data folder.",
    ),
]
Origin = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="store|PATH",
        help="Learn from the log (store), from an export (a folder of Parquet), or from a JSONL "
        "file of recorded outcomes.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
ValueUsd = Annotated[
    float | None,
    typer.Option(
        "--value-usd", envvar="FORETHOUGHT_VALUE_USD", min=0, help="Worth of a right answer in USD."
    ),
]
LatencyUsd = Annotated[
    float | None,
    typer.Option(
        "--latency-usd-per-s",
        envvar="FORETHOUGHT_LATENCY_USD_PER_S",
        min=0,
        help="Price of a second's wait in USD.",
    ),
]
Exploration = Annotated[
    float | None,
    typer.Option(
        "--exploration",
        envvar="FORETHOUGHT_EXPLORATION",
        min=0,
        max=1,
        help="Probability of exploring with which the policies would serve.",
    ),
]
MaxLatency = Annotated[
    float | None,
    typer.Option(
        "--max-latency-ms",
        envvar="FORETHOUGHT_MAX_LATENCY_MS",
        min=0,
        help="Latency limit with which the policies would serve.",
    ),
]
Kind = Annotated[
    KindName,
    typer.Option(
        "--exploration-kind",
        envvar="FORETHOUGHT_EXPLORATION_KIND",
        help="How the policies would explore beyond that.",
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--exploration-temperature-usd",
        envvar="FORETHOUGHT_EXPLORATION_TEMPERATURE_USD",
        help="Of softmax, in USD of utility.",
    ),
]
Margin = Annotated[
    float,
    typer.Option("--margin", min=0, max=1, help="How much quality (0 to 1) may be lost."),
]
LatencyMargin = Annotated[
    float | None,
    typer.Option(
        "--latency-margin-ms",
        min=0,
        help="How much slower an answer may get on average; no limit if not given.",
    ),
]
Alpha = Annotated[
    float,
    typer.Option(
        "--alpha",
        min=1e-6,
        max=0.5,
        help="Chance of promoting something worthless, over all tests since the last promotion.",
    ),
]
Bound = Annotated[
    BoundName,
    typer.Option(
        "--bound",
        help="Interval that the gate asks: betting and bernstein hold at any sample size and over "
        "repeated training, bootstrap is approximate and for one look.",
    ),
]
Signals = Annotated[
    list[str] | None,
    typer.Option(
        "--signal",
        envvar="FORETHOUGHT_SIGNALS",
        metavar="NAME=WEIGHT",
        help="How far a source of quality is believed, 0 to 1: retry, rephrase, abandon, continue, "
        "or a source of feedback. Repeatable.",
    ),
]
SplitBy = Annotated[
    SplitName,
    typer.Option(
        "--split", help="Which contexts are held out: by their id, or those that came last."
    ),
]
Mlflow = Annotated[
    str,
    typer.Option(
        "--mlflow",
        envvar="FORETHOUGHT_MLFLOW",
        help="MLflow server or database to record the run in; local: a file in the data "
        "folder; off: nowhere.",
    ),
]


@dataclass(frozen=True, slots=True)
class Shown:
    """Told what goes on: ``say`` of stages, ``told`` of the search's trials."""

    say: Callable[[str], None]
    told: Callable[[str, int, int | None], None]


@contextmanager
def progress() -> Iterator[Shown]:
    """Show progress on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield Shown(lambda _: None, lambda *_: None)
        return
    from rich.console import Console  # noqa: PLC0415 - only where it is seen
    from rich.progress import (  # noqa: PLC0415 - likewise
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        stage = bars.add_task("starting", total=None)

        def say(text: str) -> None:
            bars.update(stage, description=text, total=None, completed=0)

        def told(head: str, trial: int, trials: int | None) -> None:
            bars.update(
                stage, description=f"tuning {head}: trial {trial}", total=trials, completed=trial
            )

        yield Shown(say, told)


def make_source(
    data_dir: Path,
    store: str | None,
    origin: Path | None,
    signals: list[str] | None,
    split: SplitName,
) -> Source:
    """Where to read from, out of the options."""
    from forethought.training.signals import Weights  # noqa: PLC0415 - seconds to import
    from forethought.training.sources import Source  # noqa: PLC0415 - likewise

    return Source(
        data_dir=data_dir,
        store=store,
        origin=origin,
        weights=Weights.parse(signals or ()),
        split=split.value,
    )


def make_preferences(
    value_usd: float | None,
    latency_usd_per_s: float | None,
    exploration: float | None,
    max_latency_ms: float | None,
    kind: KindName,
    temperature_usd: float | None,
) -> Preferences:
    """What an answer is worth, out of the options."""
    from forethought.router.allocation import Preferences  # noqa: PLC0415 - seconds to import

    given: dict[str, Any] = {
        "value_usd": value_usd,
        "latency_usd_per_s": latency_usd_per_s,
        "exploration": exploration,
        "max_latency_ms": max_latency_ms,
        "exploration_kind": kind.value,
        "temperature_usd": temperature_usd,
    }
    return Preferences(**{name: value for name, value in given.items() if value is not None})


def mlflow_url(given: str) -> str | None:
    """The URL that an option names; None for the local file."""
    return None if given in {"local", "off"} else given


def output(lines: Iterable[str], figures: dict[str, Any] | None) -> None:
    """Print lines, and figures as one JSON object if there are any."""
    for line in lines:
        typer.echo(line)
    if figures is not None:
        typer.echo(json.dumps(figures))


@contextmanager
def reported() -> Iterator[None]:
    """Errors as one line on standard error, exit status 2."""
    try:
        yield
    except ForethoughtError as error:
        typer.echo(" ".join(f"forethought: {error}".split()), err=True)
        raise typer.Exit(2) from error
