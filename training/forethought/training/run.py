"""One round of training, from the log to a judged, saved and perhaps promoted policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from forethought.models.bundle import PolicyBundle
from forethought.router.allocation import Preferences
from forethought.router.candidates import target_probabilities
from forethought.router.errors import ConfigError
from forethought.router.log import LogReader, Store
from forethought.router.pricing import PriceTable
from forethought.router.records import LoggedDecision
from forethought.router.registry import Registry
from forethought.training.dataset import Dataset, from_log
from forethought.training.errors import TrainingError
from forethought.training.evaluation import Evaluation, Target, evaluate, summary
from forethought.training.fit import fit_bundle
from forethought.training.full_feedback import PricesOf, evaluate_recorded
from forethought.training.gate import GateResult, GateRule, judge
from forethought.training.ledger import LEDGER, Ledger, Test
from forethought.training.lineage import serving, starting_point
from forethought.training.recorded import read_recorded
from forethought.training.tracking import Tracked, track

LOG_FILE = "forethought.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What to train on, how to judge it, and what to do then.

    ``store``: the log's URL (None: the file in ``data_dir``). ``recorded``: train on this file
    instead of the log. ``force``: promote whatever the gate says. ``mlflow_url``: None for the
    local file; ``track`` False for no tracking at all.
    """

    data_dir: Path
    store: str | None = None
    recorded: Path | None = None
    seed: int = 0
    promote: bool = True
    force: bool = False
    preferences: Preferences = field(default_factory=Preferences)
    rule: GateRule = field(default_factory=GateRule)
    mlflow_url: str | None = None
    track: bool = True


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


def train(settings: TrainSettings, *, say: Callable[[str], None]) -> TrainResult:
    """Fit, judge, save, and promote where the gate or ``force`` says so.

    ``say`` is told what is being done, stage by stage.
    """
    registry = Registry(settings.data_dir)
    notes: list[str] = []
    say("reading the data")
    dataset = read(settings.data_dir, settings.store, settings.recorded)
    if not len(dataset):
        raise TrainingError(
            f"The {dataset.source} has no decision to learn from{_left_out(dataset)}.",
            param=dataset.source,
            remedy="Serve some traffic first, and give feedback on it.",
        )
    champion = serving(registry, notes)
    initial = None if dataset.recorded else starting_point(registry, champion, dataset, notes)
    say(f"fitting on {len(dataset.train)} answers")
    bundle = fit_bundle(dataset, seed=settings.seed, init=initial)
    say(f"judging on {len(dataset.test)} held-out answers")
    test = ask(registry, dataset, bundle, champion, settings.rule)
    gate, evaluation = compare(
        dataset, bundle, champion, settings.preferences, settings.rule, test, _since(registry)
    )
    settled = _settled(registry, test, evaluation)
    registry.save(bundle)
    promoted = settings.force or (settings.promote and gate.promote)
    if promoted:
        registry.promote(bundle.version)
    champion_version = _name(champion)
    tracked = None
    if settings.track:
        say("recording the run in MLflow")
        tracked = _track(settings, registry, bundle, champion_version, gate, evaluation, promoted)
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
        tracked=tracked,
        notes=tuple(notes),
    )


def compare_saved(
    *,
    data_dir: Path,
    store: str | None,
    recorded: Path | None,
    version: str | None,
    preferences: Preferences,
    rule: GateRule,
) -> Comparison:
    """Judge a saved version (None: the newest) against the champion."""
    registry = Registry(data_dir)
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
    dataset = read(data_dir, store, recorded)
    # The champion against itself is no question: there is nothing to be wrong about.
    itself = champion is not None and champion.version == version
    test = None if itself else ask(registry, dataset, candidate, champion, rule)
    since = None if itself else _since(registry)
    gate, evaluation = compare(dataset, candidate, champion, preferences, rule, test, since)
    if test is not None:
        test = _settled(registry, test, evaluation)
    return Comparison(
        version=version, champion=_name(champion), gate=gate, evaluation=evaluation, test=test
    )


def ask(
    registry: Registry,
    dataset: Dataset,
    candidate: PolicyBundle,
    champion: PolicyBundle | None,
    rule: GateRule,
) -> Test:
    """How much error the gate may spend on this question."""
    since = _since(registry)
    scope = "log" if since is None else f"log since {since:.6f}"
    return Ledger(registry.folder / LEDGER).ask(
        scope=f"recorded {dataset.fingerprint}" if dataset.recorded else scope,
        candidate=candidate.version,
        champion=_name(champion),
        data=dataset.fingerprint,
        alpha=rule.alpha,
        now=time.time(),
    )


def _settled(registry: Registry, test: Test, evaluation: Evaluation | None) -> Test | None:
    """Write the test down if there was one: None where nothing could be, or was to be, judged."""
    if evaluation is None or not evaluation.n_differ:
        return None
    Ledger(registry.folder / LEDGER).record(test)
    return test


def _since(registry: Registry) -> float | None:
    """When the champion began to serve; None where none was promoted."""
    try:
        pointer = registry.pointer()
    except ConfigError:  # a damaged pointer: `serving` notes it
        return None
    return None if pointer is None else pointer.promoted_at


def read(data_dir: Path, store: str | None, recorded: Path | None) -> Dataset:
    """The dataset of a file of recorded outcomes, or of the log."""
    if recorded is not None:
        return read_recorded(recorded)
    url = store or str(data_dir / LOG_FILE)
    missing = _missing_file(url)
    if missing is not None:  # opening would create it
        raise ConfigError(
            f"There is no log at {missing}.",
            param="store",
            remedy="Serve some traffic first, or name another by --data-dir or --store.",
        )
    with Store.open(url) as opened:
        return from_log(LogReader(opened).logged_decisions())


def compare(
    dataset: Dataset,
    candidate: PolicyBundle,
    champion: PolicyBundle | None,
    preferences: Preferences,
    rule: GateRule,
    test: Test | None = None,
    since: float | None = None,
) -> tuple[GateResult, Evaluation | None]:
    """Judge a candidate on the held-out rows, whichever kind they are.

    ``test``: which question it is (None: the only one). ``since``: decisions up to then do not
    count; recorded outcomes always do.
    """
    level = rule.alpha if test is None else test.level
    prices_of = _prices()
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
        return table[0].lookup(model)

    return prices_of


def _track(
    settings: TrainSettings,
    registry: Registry,
    bundle: PolicyBundle,
    champion: str,
    gate: GateResult,
    evaluation: Evaluation | None,
    promoted: bool,
) -> Tracked:
    info = bundle.manifest["info"]
    preferences = settings.preferences
    return track(
        data_dir=settings.data_dir,
        url=settings.mlflow_url,
        name=bundle.version,
        params={
            "seed": settings.seed,
            "initial": info["initial"],
            "champion": champion,
            "source": info["data"]["source"],
            "value_usd": preferences.value_usd,
            "latency_usd_per_s": preferences.latency_usd_per_s,
            "exploration": preferences.exploration,
            "gate_margin": settings.rule.margin,
            "gate_bound": settings.rule.bound,
            "gate_alpha": settings.rule.alpha,
            "fit": info["fit"],
        },
        metrics={
            "data": {k: v for k, v in info["data"].items() if k != "recorded"},
            "held_out": info["held_out"],
            "promoted": int(promoted),
            **({} if evaluation is None else {"evaluation": summary(evaluation)}),
        },
        tags={
            "policy_version": bundle.version,
            "data_fingerprint": info["data"]["fingerprint"],
            "gate": gate.reason[:5000],
        },
        bundle=registry.path(bundle.version),
    )


def _name(champion: PolicyBundle | None) -> str:
    return "direct" if champion is None else champion.version


def _left_out(dataset: Dataset) -> str:
    said = ", ".join(f"{count} with {reason}" for reason, count in dataset.left_out.items())
    return f" (left out: {said})" if said else ""


def _missing_file(url: str) -> Path | None:
    """The SQLite file that ``url`` names, if it does not exist."""
    path = Path(url)
    if "://" in url:
        try:
            parsed = make_url(url)
        except ArgumentError:
            return None  # the store says what is wrong with it
        if parsed.get_backend_name() != "sqlite":
            return None
        path = Path(parsed.database or "")
    path = path.expanduser()
    return None if path.exists() else path
