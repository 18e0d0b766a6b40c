"""``forethought train``, ``evaluate``, ``promote``, ``challenge`` and ``rollback``.

What they need is imported when they run: the command line loads this module at every start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from forethought.training.options import (
    DEFAULT_DATA_DIR,
    Alpha,
    AsJson,
    Bound,
    BoundName,
    DataDir,
    EngineOption,
    Exploration,
    Kind,
    KindName,
    LatencyMargin,
    LatencyUsd,
    Margin,
    MaxLatency,
    Mlflow,
    Origin,
    Signals,
    SplitBy,
    SplitName,
    StoreUrl,
    Temperature,
    ValueUsd,
    make_preferences,
    make_source,
    mlflow_url,
    output,
    progress,
    reported,
)

if TYPE_CHECKING:
    from forethought.router.registry import Registry
    from forethought.training.gate import GateRule

Version = Annotated[
    str,
    typer.Argument(
        help="A saved policy, as `forethought train` names it; @champion or @challenger: what "
        "MLflow's registry calls so."
    ),
]


def train(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    store: StoreUrl = None,
    origin: Origin = None,
    seed: Annotated[int, typer.Option(help="Equal data and seed give an equal policy.")] = 0,
    tune_minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Search better settings for so long (default: not at all)."),
    ] = None,
    tune_trials: Annotated[
        int | None,
        typer.Option(min=0, help="Search so many settings for each predictor; reproducible."),
    ] = None,
    engine: Annotated[
        EngineOption,
        typer.Option(
            help="How an export is fitted: in memory, out of core (stream), or on a Dask cluster."
        ),
    ] = EngineOption.memory,
    scheduler: Annotated[
        str | None, typer.Option(help="Of the Dask cluster, such as tcp://host:8786.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Of --engine stream; more than one wants an idle machine.")
    ] = 1,
    signal: Signals = None,
    split: SplitBy = SplitName.context,
    promote: Annotated[
        bool, typer.Option(help="Let the new policy serve if it is better beyond doubt.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Let it serve whatever the gate says.")
    ] = False,
    challenge: Annotated[
        bool,
        typer.Option(
            "--challenge", help="Let it score live traffic without serving it, if not promoted."
        ),
    ] = False,
    value_usd: ValueUsd = None,
    latency_usd_per_s: LatencyUsd = None,
    exploration: Exploration = None,
    max_latency_ms: MaxLatency = None,
    exploration_kind: Kind = KindName.epsilon,
    exploration_temperature_usd: Temperature = None,
    margin: Margin = 0.02,
    latency_margin_ms: LatencyMargin = None,
    alpha: Alpha = 0.05,
    bound: Bound = BoundName.betting,
    mlflow: Mlflow = "local",
    as_json: AsJson = False,
) -> None:
    """Fit a policy from the log, judge it against the champion, and let it serve if better."""
    with reported():
        from forethought.training import report, run  # noqa: PLC0415 - seconds to import
        from forethought.training.search import Budget  # noqa: PLC0415 - likewise

        settings = run.TrainSettings(
            source=make_source(data_dir, store, origin, signal, split),
            seed=seed,
            engine=engine.value,
            scheduler=scheduler,
            threads=threads,
            budget=Budget(
                trials=tune_trials, seconds=None if tune_minutes is None else 60 * tune_minutes
            ),
            promote=promote,
            force=force,
            challenge=challenge,
            preferences=make_preferences(
                value_usd,
                latency_usd_per_s,
                exploration,
                max_latency_ms,
                exploration_kind,
                exploration_temperature_usd,
            ),
            rule=_rule(margin, latency_margin_ms, alpha, bound),
            mlflow_url=mlflow_url(mlflow),
            track=mlflow != "off",
        )
        with progress() as shown:
            result = run.train(settings, say=shown.say, told=shown.told)
        if result.forced:
            typer.secho(
                f"WARNING: --force lets policy {result.bundle.version} serve although the gate "
                "refused it.",
                fg="red",
                bold=True,
                err=True,
            )
        output(report.train_lines(result), report.train_json(result) if as_json else None)


def evaluate(
    version: Annotated[
        str | None, typer.Argument(help="A saved policy; the newest if none is given.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    store: StoreUrl = None,
    origin: Origin = None,
    split: SplitBy = SplitName.context,
    value_usd: ValueUsd = None,
    latency_usd_per_s: LatencyUsd = None,
    exploration: Exploration = None,
    max_latency_ms: MaxLatency = None,
    exploration_kind: Kind = KindName.epsilon,
    exploration_temperature_usd: Temperature = None,
    margin: Margin = 0.02,
    latency_margin_ms: LatencyMargin = None,
    alpha: Alpha = 0.05,
    bound: Bound = BoundName.betting,
    as_json: AsJson = False,
) -> None:
    """Estimate from the log how a saved policy would do, against the one that serves."""
    with reported():
        from forethought.training import comparison, report  # noqa: PLC0415 - seconds to import

        found = comparison.compare_saved(
            make_source(data_dir, store, origin, None, split),
            version=version,
            preferences=make_preferences(
                value_usd,
                latency_usd_per_s,
                exploration,
                max_latency_ms,
                exploration_kind,
                exploration_temperature_usd,
            ),
            rule=_rule(margin, latency_margin_ms, alpha, bound),
        )
        output(report.comparison_lines(found), report.comparison_json(found) if as_json else None)


def promote(
    version: Version,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what the gate and the shadow say; change nothing."),
    ] = False,
    store: StoreUrl = None,
    origin: Origin = None,
    split: SplitBy = SplitName.context,
    margin: Margin = 0.02,
    latency_margin_ms: LatencyMargin = None,
    alpha: Alpha = 0.05,
    bound: Bound = BoundName.betting,
    value_usd: ValueUsd = None,
    latency_usd_per_s: LatencyUsd = None,
    exploration: Exploration = None,
    max_latency_ms: MaxLatency = None,
    exploration_kind: Kind = KindName.epsilon,
    exploration_temperature_usd: Temperature = None,
    mlflow: Mlflow = "local",
    as_json: AsJson = False,
) -> None:
    """Let a saved policy serve. Running servers take it up by themselves."""
    with reported():
        from forethought.router.registry import Registry  # noqa: PLC0415 - seconds to import

        registry = Registry(data_dir)
        version = _saved(version, registry, mlflow, data_dir)
        if dry_run:
            from forethought.training import comparison, report  # noqa: PLC0415 - likewise

            found = comparison.compare_saved(
                make_source(data_dir, store, origin, None, split),
                version=version,
                preferences=make_preferences(
                    value_usd,
                    latency_usd_per_s,
                    exploration,
                    max_latency_ms,
                    exploration_kind,
                    exploration_temperature_usd,
                ),
                rule=_rule(margin, latency_margin_ms, alpha, bound),
                spend=False,
            )
            output(report.dry_run_lines(found), report.comparison_json(found) if as_json else None)
            return
        pointer = registry.promote(version)
        _told_mlflow("champion", version, mlflow, data_dir)
        previous = pointer.previous or "the one that ships with Forethought"
        line = f"Policy {version} serves now; `forethought rollback` brings back {previous}."
        output([line], {"version": version, "previous": pointer.previous} if as_json else None)


def challenge(
    version: Annotated[
        str | None, typer.Argument(help="A saved policy, or @challenger of MLflow's registry.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    stop: Annotated[
        bool, typer.Option("--stop", help="Let no policy challenge the champion.")
    ] = False,
    mlflow: Mlflow = "local",
    as_json: AsJson = False,
) -> None:
    """Let a saved policy score live traffic without serving it."""
    with reported():
        from forethought.router.errors import ConfigError  # noqa: PLC0415 - seconds to import
        from forethought.router.registry import Registry  # noqa: PLC0415 - likewise

        registry = Registry(data_dir)
        if version is None and not stop:
            raise ConfigError(
                "No policy was named.",
                param="version",
                remedy=f"Saved: {', '.join(registry.versions()) or 'none'}; or give --stop.",
            )
        if version is None or stop:
            registry.dismiss()
            version, line = None, "No policy challenges the champion."
        else:
            version = _saved(version, registry, mlflow, data_dir)
            registry.challenge(version)
            line = (
                f"Policy {version} challenges the champion: running servers let it score live "
                f"traffic without serving it (`forethought promote {version} --dry-run` says how "
                "it does)."
            )
        _told_mlflow("challenger", version, mlflow, data_dir)
        output([line], {"version": version} if as_json else None)


def rollback(
    data_dir: DataDir = DEFAULT_DATA_DIR, mlflow: Mlflow = "local", as_json: AsJson = False
) -> None:
    """Let the policy that served before this one serve again."""
    with reported():
        from forethought.router.registry import Registry  # noqa: PLC0415 - seconds to import

        version = Registry(data_dir).rollback()
        _told_mlflow("champion", version, mlflow, data_dir)
        line = (
            "The policy that ships with Forethought serves again."
            if version is None
            else f"Policy {version} serves again."
        )
        output([line], {"version": version} if as_json else None)


def _saved(version: str, registry: Registry, mlflow: str, data_dir: Path) -> str:
    """The version that is meant, brought from MLflow if it is named by an alias."""
    if not version.startswith("@"):
        return version
    from forethought.training.tracking import fetch_bundle  # noqa: PLC0415 - seconds to import

    bundle = fetch_bundle(version[1:], data_dir=data_dir, url=mlflow_url(mlflow))
    return registry.save(bundle)


def _rule(
    margin: float, latency_margin_ms: float | None, alpha: float, bound: BoundName
) -> GateRule:
    from forethought.training.gate import GateRule  # noqa: PLC0415 - seconds to import

    return GateRule(
        margin=margin, latency_margin_ms=latency_margin_ms, alpha=alpha, bound=bound.value
    )


def _told_mlflow(
    alias: Literal["champion", "challenger"], version: str | None, mlflow: str, data_dir: Path
) -> None:
    if mlflow == "off":
        return
    from forethought.training.tracking import set_alias  # noqa: PLC0415 - seconds to import

    failure = set_alias(alias, version, data_dir=data_dir, url=mlflow_url(mlflow))
    if failure is not None:
        typer.echo(f"MLflow's alias {alias} was not set: {failure}", err=True)
