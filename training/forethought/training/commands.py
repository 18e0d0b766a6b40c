"""``forethought train``, ``evaluate``, ``promote`` and ``rollback``.

What they need is imported when they run: the command line loads this module at every start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forethought.models.errors import ForethoughtError

if TYPE_CHECKING:
    from forethought.router.allocation import Preferences
    from forethought.training.gate import GateRule


class BoundName(StrEnum):
    """Which interval the gate asks."""

    betting = "betting"
    bernstein = "bernstein"
    bootstrap = "bootstrap"


DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="FORETHOUGHT_DATA_DIR", help="Folder of the log and the policies."
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", help="URL of the log, if it is not the file in the data folder."),
]
Recorded = Annotated[
    Path | None,
    typer.Option("--from", help="Use this JSONL file of recorded outcomes instead of the log."),
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
_DATA_DIR = Path(".forethought")


def train(
    data_dir: DataDir = _DATA_DIR,
    store: StoreUrl = None,
    recorded: Recorded = None,
    seed: Annotated[int, typer.Option(help="Equal data and seed give an equal policy.")] = 0,
    promote: Annotated[
        bool, typer.Option(help="Let the new policy serve if it is better beyond doubt.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Let it serve whatever the gate says.")
    ] = False,
    value_usd: ValueUsd = None,
    latency_usd_per_s: LatencyUsd = None,
    exploration: Exploration = None,
    margin: Margin = 0.02,
    latency_margin_ms: LatencyMargin = None,
    alpha: Alpha = 0.05,
    bound: Bound = BoundName.betting,
    mlflow: Annotated[
        str,
        typer.Option(
            "--mlflow",
            envvar="FORETHOUGHT_MLFLOW",
            help="MLflow server or database to record the run in; local: a file in the data "
            "folder; off: nowhere.",
        ),
    ] = "local",
    as_json: AsJson = False,
) -> None:
    """Fit a policy from the log, judge it against the champion, and let it serve if better."""
    with _reported():
        from forethought.training import report, run  # noqa: PLC0415 - seconds to import

        settings = run.TrainSettings(
            data_dir=data_dir,
            store=store,
            recorded=recorded,
            seed=seed,
            promote=promote,
            force=force,
            preferences=_preferences(value_usd, latency_usd_per_s, exploration),
            rule=_rule(margin, latency_margin_ms, alpha, bound),
            mlflow_url=None if mlflow in {"local", "off"} else mlflow,
            track=mlflow != "off",
        )
        result = run.train(settings, say=_say)
        if result.forced:
            typer.secho(
                f"WARNING: --force lets policy {result.bundle.version} serve although the gate "
                "refused it.",
                fg="red",
                bold=True,
                err=True,
            )
        _print(report.train_lines(result), report.train_json(result) if as_json else None)


def evaluate(
    version: Annotated[
        str | None, typer.Argument(help="A saved policy; the newest if none is given.")
    ] = None,
    data_dir: DataDir = _DATA_DIR,
    store: StoreUrl = None,
    recorded: Recorded = None,
    value_usd: ValueUsd = None,
    latency_usd_per_s: LatencyUsd = None,
    exploration: Exploration = None,
    margin: Margin = 0.02,
    latency_margin_ms: LatencyMargin = None,
    alpha: Alpha = 0.05,
    bound: Bound = BoundName.betting,
    as_json: AsJson = False,
) -> None:
    """Estimate from the log how a saved policy would do, against the one that serves."""
    with _reported():
        from forethought.training import report, run  # noqa: PLC0415 - seconds to import

        found = run.compare_saved(
            data_dir=data_dir,
            store=store,
            recorded=recorded,
            version=version,
            preferences=_preferences(value_usd, latency_usd_per_s, exploration),
            rule=_rule(margin, latency_margin_ms, alpha, bound),
        )
        _print(report.comparison_lines(found), report.comparison_json(found) if as_json else None)


def promote(
    version: Annotated[str, typer.Argument(help="A saved policy, as `forethought train` names.")],
    data_dir: DataDir = _DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Let a saved policy serve. Running servers take it up by themselves."""
    with _reported():
        from forethought.router.registry import Registry  # noqa: PLC0415 - seconds to import

        pointer = Registry(data_dir).promote(version)
        previous = pointer.previous or "the one that ships with Forethought"
        line = f"Policy {version} serves now; `forethought rollback` brings back {previous}."
        _print([line], {"version": version, "previous": pointer.previous} if as_json else None)


def rollback(data_dir: DataDir = _DATA_DIR, as_json: AsJson = False) -> None:
    """Let the policy that served before this one serve again."""
    with _reported():
        from forethought.router.registry import Registry  # noqa: PLC0415 - seconds to import

        version = Registry(data_dir).rollback()
        line = (
            "The policy that ships with Forethought serves again."
            if version is None
            else f"Policy {version} serves again."
        )
        _print([line], {"version": version} if as_json else None)


def _preferences(
    value_usd: float | None, latency_usd_per_s: float | None, exploration: float | None
) -> Preferences:
    from forethought.router.allocation import Preferences  # noqa: PLC0415 - as above

    given = {
        "value_usd": value_usd,
        "latency_usd_per_s": latency_usd_per_s,
        "exploration": exploration,
    }
    return Preferences(**{name: value for name, value in given.items() if value is not None})


def _rule(
    margin: float, latency_margin_ms: float | None, alpha: float, bound: BoundName
) -> GateRule:
    from forethought.training.gate import GateRule  # noqa: PLC0415 - seconds to import

    return GateRule(
        margin=margin, latency_margin_ms=latency_margin_ms, alpha=alpha, bound=bound.value
    )


def _say(stage: str) -> None:
    if sys.stderr.isatty():
        typer.secho(f"{stage} ...", dim=True, err=True)


def _print(lines: Iterable[str], figures: dict[str, Any] | None) -> None:
    for line in lines:
        typer.echo(line)
    if figures is not None:
        typer.echo(json.dumps(figures))


@contextmanager
def _reported() -> Iterator[None]:
    """Errors as one line on standard error, exit status 2."""
    try:
        yield
    except ForethoughtError as error:
        typer.echo(" ".join(f"forethought: {error}".split()), err=True)
        raise typer.Exit(2) from error
