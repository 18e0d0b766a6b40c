"""One round of training, from the log to a judged, saved and perhaps promoted policy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from forethought.models.bundle import PolicyBundle
from forethought.models.demand import DemandModel
from forethought.models.features import FEATURE_VERSION
from forethought.router.allocation import Preferences
from forethought.router.candidates import target_probabilities
from forethought.router.errors import ConfigError
from forethought.router.pricing import PriceTable
from forethought.router.records import LoggedDecision
from forethought.router.registry import Registry
from forethought.router.shadow import ShadowSummary, read_shadow
from forethought.training import asking, plots
from forethought.training.dataset import Dataset
from forethought.training.errors import TrainingError
from forethought.training.evaluation import Evaluation, Target, evaluate, summary
from forethought.training.evidence import gather
from forethought.training.fit import fit_bundle
from forethought.training.full_feedback import PricesOf, evaluate_recorded, with_costs
from forethought.training.gate import GateResult, GateRule, judge
from forethought.training.large import EngineName, fit_large
from forethought.training.ledger import Test
from forethought.training.lineage import serving, serving_name, starting_point
from forethought.training.search import Budget, Told
from forethought.training.sources import Source, read
from forethought.training.tracking import Alias, Record, Tracked, track

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What to train on and how, how to judge it, and what to do then.

    ``engine``: ``memory``, or ``stream`` and ``dask`` for an export of any size. ``threads``:
    of ``stream``; more than one loses where the processor is busy, as LightGBM's wait for each
    other.

    ``budget``: how long to search settings. ``force``: promote whatever the gate says.
    ``challenge``: let a policy that is not promoted score live traffic without serving it.
    ``mlflow_url``: None for the local file; ``track`` False for no tracking at all.
    """

    source: Source
    seed: int = 0
    engine: EngineName = "memory"
    scheduler: str | None = None
    threads: int = 1
    budget: Budget = field(default_factory=Budget)
    promote: bool = True
    force: bool = False
    challenge: bool = False
    preferences: Preferences = field(default_factory=Preferences)
    rule: GateRule = field(default_factory=GateRule)
    mlflow_url: str | None = None
    track: bool = True

    @property
    def data_dir(self) -> Path:
        return self.source.data_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a round of training did; ``notes`` are things the reader should know."""

    bundle: PolicyBundle
    folder: Path
    champion: str
    initial: str | None
    gate: GateResult
    evaluation: Evaluation | None
    test: Test | None
    promoted: bool
    forced: bool
    challenges: bool
    tracked: Tracked | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A saved policy judged against the champion."""

    version: str
    champion: str
    gate: GateResult
    evaluation: Evaluation | None
    test: Test | None
    shadow: ShadowSummary | None = None
    """What the version would have chosen on live traffic, if it ever challenged."""


def train(
    settings: TrainSettings, *, say: Callable[[str], None], told: Told | None = None
) -> TrainResult:
    """Fit, judge, save, and promote where the gate or ``force`` says so.

    ``say`` is told what is being done, stage by stage, ``told`` of each trial of the search.
    """
    registry = Registry(settings.data_dir)
    notes: list[str] = []
    champion = serving(registry, notes)
    dataset, bundle, initial = _fitted(settings, registry, champion, notes, say, told)
    say(f"judging on {len(dataset.test)} held-out answers")
    test = asking.ask(registry, dataset, bundle, champion, settings.rule)
    gate, evaluation = compare(
        dataset, bundle, champion, settings.preferences, settings.rule, test, asking.since(registry)
    )
    settled = asking.settle(registry, test, evaluation)
    registry.save(bundle)
    promoted = settings.force or (settings.promote and gate.promote)
    challenges = settings.challenge and not promoted and bundle.version != serving_name(champion)
    if promoted:
        registry.promote(bundle.version)
    elif challenges:
        registry.challenge(bundle.version)
    champion_version = serving_name(champion)
    tracked = None
    if settings.track:
        say("recording the run in MLflow")
        alias: Alias | None = "champion" if promoted else "challenger" if challenges else None
        record = _record(settings, registry, bundle, champion_version, gate, evaluation, alias)
        say("drawing its plots")
        record = replace(record, plots=_plots(settings, dataset, bundle, champion))
        tracked = track(record, data_dir=settings.data_dir, url=settings.mlflow_url)
    return TrainResult(
        bundle=bundle,
        folder=registry.path(bundle.version),
        champion=champion_version,
        initial=None if initial is None else initial.version,
        gate=gate,
        evaluation=evaluation,
        test=settled,
        promoted=promoted,
        forced=promoted and not gate.promote,
        challenges=challenges,
        tracked=tracked,
        notes=tuple(notes),
    )


def _fitted(
    settings: TrainSettings,
    registry: Registry,
    champion: PolicyBundle | None,
    notes: list[str],
    say: Callable[[str], None],
    told: Told | None,
) -> tuple[Dataset, PolicyBundle, PolicyBundle | None]:
    """The data to judge by, the new policy, and the one that it started from."""
    if settings.engine != "memory":
        dataset, bundle = fit_large(
            settings.source,
            engine=settings.engine,
            scheduler=settings.scheduler,
            seed=settings.seed,
            threads=settings.threads,
            demand=DemandModel() if champion is None else champion.demand,
            say=say,
        )
        return dataset, bundle, None
    say("reading the data")
    dataset = read(settings.source)
    if not len(dataset):
        raise TrainingError(
            f"The {dataset.source} has no decision to learn from{_left_out(dataset)}.",
            param=dataset.source,
            remedy="Serve some traffic first, and give feedback on it.",
        )
    if earlier := dataset.n_by_earlier_version:
        notes.append(
            f"{earlier:,} answers were logged with features of an earlier version: those that "
            f"came with version {FEATURE_VERSION} are missing in them"
        )
    initial = None if dataset.recorded else starting_point(registry, champion, dataset, notes)
    say(f"fitting on {len(dataset.train)} answers")
    bundle = fit_bundle(
        dataset, seed=settings.seed, init=initial, budget=settings.budget, told=told
    )
    return dataset, bundle, initial


def compare_saved(
    source: Source,
    *,
    version: str | None,
    preferences: Preferences,
    rule: GateRule,
    spend: bool = True,
) -> Comparison:
    """Judge a saved version (None: the newest) against the champion.

    ``spend``: count it among the gate's tests, as what may be acted upon must be.
    """
    registry = Registry(source.data_dir)
    if version is None:
        saved = registry.versions()
        if not saved:
            raise ConfigError(
                f"There is no policy in {registry.folder}.",
                param="version",
                remedy="Fit one with `forethought train`.",
            )
        version = saved[-1]
    candidate = registry.load(version)
    champion = serving(registry, [])
    dataset = read(source)
    # The champion against itself is no question: there is nothing to be wrong about.
    itself = champion is not None and champion.version == version
    test = None if itself else asking.ask(registry, dataset, candidate, champion, rule)
    since = None if itself else asking.since(registry)
    gate, evaluation = compare(dataset, candidate, champion, preferences, rule, test, since)
    if test is not None and spend:
        test = asking.settle(registry, test, evaluation)
    return Comparison(
        version=version,
        champion=serving_name(champion),
        gate=gate,
        evaluation=evaluation,
        test=test,
        shadow=read_shadow(source.data_dir, version),
    )


def compare(
    dataset: Dataset,
    candidate: PolicyBundle,
    champion: PolicyBundle | None,
    preferences: Preferences,
    rule: GateRule,
    test: Test | None = None,
    since: float | None = None,
) -> tuple[GateResult, Evaluation | None]:
    """Judge a candidate on the held-out rows, whichever kind they are, by explicit judgements.

    ``test``: which question it is (None: the only one). ``since``: decisions up to then do not
    count; recorded outcomes always do.
    """
    level = rule.alpha if test is None else test.level
    prices_of = _prices()
    dataset = dataset.explicit
    if dataset.recorded:
        return judge(
            lambda: evaluate_recorded(
                dataset,
                candidate=candidate,
                champion=champion,
                preferences=preferences,
                prices_of=prices_of,
                confidence=1 - 2 * level,
            ),
            rule,
            test,
        )
    return judge(
        lambda: evaluate(
            dataset,
            candidate=candidate,
            champion=champion,
            preferences=preferences,
            target=serving_target(preferences, prices_of),
            since=since,
            confidence=1 - 2 * level,
        ),
        rule,
        test,
    )


def serving_target(preferences: Preferences, prices_of: PricesOf) -> Target:
    """The choice code that serves, as the evaluation needs it."""

    def target(logged: LoggedDecision, bundle: PolicyBundle) -> dict[str, float]:
        return target_probabilities(logged, bundle, preferences, prices_of(logged.decision.model))

    return target


def _prices() -> PricesOf:
    table: list[PriceTable] = []

    def prices_of(model: str) -> Any:
        if not table:  # 0.3 s to build
            table.append(PriceTable())
        # One of an upstream with a name has that in front: name/model.
        return table[0].lookup(model) or table[0].lookup(model.partition("/")[2])

    return prices_of


def _record(
    settings: TrainSettings,
    registry: Registry,
    bundle: PolicyBundle,
    champion: str,
    gate: GateResult,
    evaluation: Evaluation | None,
    alias: Alias | None,
) -> Record:
    info = bundle.manifest["info"]
    preferences, data = settings.preferences, info["data"]
    return Record(
        version=bundle.version,
        params={
            "seed": settings.seed,
            "initial": info["initial"],
            "champion": champion,
            "source": data["source"],
            "split": settings.source.split,
            "engine": settings.engine,
            "signal": dict(settings.source.weights.by_name),
            "value_usd": preferences.value_usd,
            "latency_usd_per_s": preferences.latency_usd_per_s,
            "exploration": preferences.exploration,
            "gate_margin": settings.rule.margin,
            "gate_bound": settings.rule.bound,
            "gate_alpha": settings.rule.alpha,
            "fit": info["fit"],
            "tuned": {head: one["params"] for head, one in info["tuning"].items() if one["taken"]},
        },
        metrics={
            "data": {k: v for k, v in data.items() if k != "recorded"},
            "held_out": info["held_out"],
            "tuning": info["tuning"],
            "promoted": int(alias == "champion"),
            **({} if evaluation is None else {"evaluation": summary(evaluation)}),
        },
        tags={
            "policy_version": bundle.version,
            "data_fingerprint": data["fingerprint"],
            "gate": gate.reason[:5000],
        },
        data=(data["source"], data["fingerprint"]),
        bundle=registry.path(bundle.version),
        alias=alias,
    )


def _plots(
    settings: TrainSettings,
    dataset: Dataset,
    bundle: PolicyBundle,
    champion: PolicyBundle | None,
) -> dict[str, Any]:
    prices_of = _prices()
    try:
        evidence = gather(
            with_costs(dataset, prices_of) if dataset.recorded else dataset,
            candidate=bundle,
            champion=champion,
            preferences=settings.preferences,
            prices_of=prices_of,
        )
        return dict(plots.draw(evidence))
    except Exception:
        # A picture less is no reason to lose a round of training.
        log.exception("the run's plots could not be drawn")
        return {}


def _left_out(dataset: Dataset) -> str:
    said = ", ".join(f"{count} with {reason}" for reason, count in dataset.left_out.items())
    return f" (left out: {said})" if said else ""
