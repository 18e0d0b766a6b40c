"""A candidate judged against the champion, on whatever data there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forethought.models.bundle import PolicyBundle
from forethought.router.allocation import Preferences
from forethought.router.candidates import target_probabilities
from forethought.router.errors import ConfigError
from forethought.router.pricing import PriceTable
from forethought.router.records import LoggedDecision
from forethought.router.registry import Registry
from forethought.router.shadow import ShadowSummary, read_shadow
from forethought.training import asking, progressive
from forethought.training.dataset import Dataset
from forethought.training.evaluation import Evaluation, evaluate
from forethought.training.fit import fit_bundle
from forethought.training.full_feedback import PricesOf, evaluate_recorded
from forethought.training.gate import GateResult, GateRule, judge
from forethought.training.judged import Target
from forethought.training.ledger import Test
from forethought.training.lineage import serving, serving_name, starting_version
from forethought.training.progressive import Stage
from forethought.training.sources import Source, read


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
    dataset = read(source)
    with asking.turn(registry):
        champion = serving(registry, [])
        # The champion against itself is no question: there is nothing to be wrong about.
        itself = champion is not None and champion.version == version
        test = None if itself else asking.ask(registry, dataset, candidate, champion, rule)
        since = None if itself else asking.since(registry)
        stages = [] if itself else staged(registry, dataset, candidate, champion)
        gate, evaluation = compare(
            dataset, candidate, champion, preferences, rule, test, since, stages
        )
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


def staged(
    registry: Registry, dataset: Dataset, candidate: PolicyBundle, champion: PolicyBundle | None
) -> list[Stage]:
    """Policies fitted as the candidate was, on fewer contexts, to judge on the others.

    None for recorded outcomes, for fits that are not in memory, and for a candidate that was fitted
    on other data than these. The same candidate and data always give the same stages, so that
    asking again is the same question.
    """
    info = candidate.manifest["info"]
    if dataset.recorded or "engine" in info or info["data"]["fingerprint"] != dataset.fingerprint:
        return []
    initial = starting_version(registry, info["initial"])

    def fit(part: Dataset) -> PolicyBundle:
        return fit_bundle(part, seed=info["seed"], init=initial)

    return progressive.stages(dataset, fit, champion)


def compare(
    dataset: Dataset,
    candidate: PolicyBundle,
    champion: PolicyBundle | None,
    preferences: Preferences,
    rule: GateRule,
    test: Test | None = None,
    since: float | None = None,
    stages: Sequence[Stage] = (),
) -> tuple[GateResult, Evaluation | None]:
    """Judge a candidate on the held-out rows, whichever kind they are, by explicit judgements.

    ``test``: which question it is (None: the only one). ``since``: decisions up to then do not
    count; recorded outcomes always do. ``stages``: of ``staged``.
    """
    level = rule.alpha if test is None else test.level
    prices_of = prices_by_model()
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
            stages=stages,
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


def prices_by_model() -> PricesOf:
    """Looks prices up; the table is made when the first one is asked for."""
    table: list[PriceTable] = []

    def prices_of(model: str) -> Any:
        if not table:  # 0.3 s to build
            table.append(PriceTable())
        # One of an upstream with a name has that in front: name/model.
        return table[0].lookup(model) or table[0].lookup(model.partition("/")[2])

    return prices_of
