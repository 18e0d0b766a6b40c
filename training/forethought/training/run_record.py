"""What MLflow is told of a round of training: parameters, metrics, plots."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from forethought.models.bundle import PolicyBundle
from forethought.router.registry import Registry
from forethought.training import plots
from forethought.training.comparison import prices_by_model
from forethought.training.dataset import Dataset
from forethought.training.evaluation import Evaluation, summary
from forethought.training.evidence import gather
from forethought.training.full_feedback import with_costs
from forethought.training.gate import GateResult
from forethought.training.tracking import Alias, Record

if TYPE_CHECKING:
    from forethought.training.run import TrainSettings

log = logging.getLogger(__name__)


def record_of(
    settings: TrainSettings,
    registry: Registry,
    bundle: PolicyBundle,
    champion: str,
    gate: GateResult,
    evaluation: Evaluation | None,
    alias: Alias | None,
) -> Record:
    """Parameters, metrics and tags of one run; its plots are drawn later."""
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


def plots_of(
    settings: TrainSettings,
    dataset: Dataset,
    bundle: PolicyBundle,
    champion: PolicyBundle | None,
) -> dict[str, Any]:
    """Pictures by name; none where they cannot be drawn."""
    prices_of = prices_by_model()
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
