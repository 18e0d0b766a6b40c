"""``forethought export`` and ``drift``: what is done to a log beside training on it.

What they need is imported when they run: the command line loads this module at every start.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from forethought.training.options import (
    DEFAULT_DATA_DIR,
    AsJson,
    DataDir,
    StoreUrl,
    output,
    progress,
    reported,
)


def export(
    folder: Annotated[Path, typer.Argument(help="Where the days' folders are made.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    store: StoreUrl = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The first day (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day (UTC).")
    ] = None,
    with_text: Annotated[
        bool,
        typer.Option(
            "--with-text", help="Queries, answers, errors and comments too: as users wrote them."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the log as Parquet, a folder a day, to train on elsewhere; without texts.

    A day that is there is replaced: exported again, it has what was judged late.
    """
    with reported():
        from forethought.training.parquet import write_parquet  # noqa: PLC0415 - seconds to import
        from forethought.training.sources import (  # noqa: PLC0415 - likewise
            log_of_days,
            opened_log,
        )

        with progress() as shown, opened_log(data_dir, store) as reader:
            shown.say("exporting")
            pairs = log_of_days(
                reader,
                since=None if since is None else since.date(),
                until=None if until is None else until.date(),
                seen=lambda n: shown.say(f"exporting: {n:,} decisions"),
            )
            done = write_parquet(pairs, folder, with_text=with_text)
        texts = "without texts" if done.redacted else "WITH the texts of users and models"
        line = (
            f"{done.n_decisions:,} decisions of {len(done.days):,} days in {folder}, {texts}. "
            f"Train on them with `forethought train --from {folder}`."
        )
        figures = {"folder": str(folder), "redacted": done.redacted, "days": done.days}
        output([line], figures if as_json else None)


def drift(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    store: StoreUrl = None,
    window: Annotated[
        int, typer.Option(min=1, help="How many of the newest decisions are looked at.")
    ] = 2_000,
    psi_limit: Annotated[
        float, typer.Option(min=0, help="Population stability index that is an alarm.")
    ] = 0.25,
    calibration_limit: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="How far the mean prediction may be from the mean judgement."
        ),
    ] = 0.1,
    demote: Annotated[
        bool,
        typer.Option("--demote", help="Take a policy back that is wrong about its own answers."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Has the traffic, or what the policy says of it, moved away from what it was fitted on?

    The exit status is 1 where there is an alarm.
    """
    with reported():
        from forethought.training import monitor  # noqa: PLC0415 - seconds to import
        from forethought.training.drift import DriftRule  # noqa: PLC0415 - likewise

        rule = DriftRule(psi_limit=psi_limit, calibration_limit=calibration_limit, window=window)
        found = monitor.check(data_dir, store, rule, demote=demote)
        figures = {**asdict(found), "alarm": found.alarm}
        output(monitor.lines(found), figures if as_json else None)
    if found.alarm:
        raise typer.Exit(1)
