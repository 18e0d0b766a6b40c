"""One round of training, from the log to a judged, saved and perhaps promoted policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from forethought.models.bundle import PolicyBundle
from forethought.models.demand import DemandModel
from forethought.models.features import FEATURE_VERSION
from forethought.router.allocation import Preferences
from forethought.router.registry import Registry
from forethought.training import asking
from forethought.training.comparison import compare, staged
from forethought.training.dataset import Dataset
from forethought.training.errors import TrainingError
from forethought.training.evaluation import Evaluation
from forethought.training.fit import fit_bundle
from forethought.training.gate import GateResult, GateRule
from forethought.training.large import EngineName, fit_large
from forethought.training.ledger import Test
from forethought.training.lineage import serving, serving_name, starting_point
from forethought.training.run_record import plots_of, record_of
from forethought.training.search import Budget, Told
from forethought.training.sources import Source, read
from forethought.training.tracking import Alias, Tracked, track


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
    say("waiting for the gate")
    with asking.turn(registry):
        # Another round may have promoted while this one was fitting.
        champion = serving(registry, notes)
        say("fitting on parts of the contexts, to judge on the others")
        stages = staged(registry, dataset, bundle, champion)
        say(f"judging on {len(dataset.test)} held-out answers")
        test = asking.ask(registry, dataset, bundle, champion, settings.rule)
        gate, evaluation = compare(
            dataset, bundle, champion, settings.preferences, settings.rule, test,
            asking.since(registry), stages,
        )  # fmt: skip
        settled = asking.settle(registry, test, evaluation)
        registry.save(bundle)
        promoted = settings.force or (settings.promote and gate.promote)
        challenges = (
            settings.challenge and not promoted and bundle.version != serving_name(champion)
        )
        if promoted:
            registry.promote(bundle.version)
        elif challenges:
            registry.challenge(bundle.version)
    champion_version = serving_name(champion)
    tracked = None
    if settings.track:
        say("recording the run in MLflow")
        alias: Alias | None = "champion" if promoted else "challenger" if challenges else None
        record = record_of(settings, registry, bundle, champion_version, gate, evaluation, alias)
        say("drawing its plots")
        record = replace(record, plots=plots_of(settings, dataset, bundle, champion))
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
        notes=tuple(dict.fromkeys(notes)),
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


def _left_out(dataset: Dataset) -> str:
    said = ", ".join(f"{count} with {reason}" for reason, count in dataset.left_out.items())
    return f" (left out: {said})" if said else ""
