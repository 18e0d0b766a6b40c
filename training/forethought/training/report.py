"""What training and evaluation found, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from forethought.training.comparison import Comparison
from forethought.training.evaluation import Evaluation, summary
from forethought.training.run import TrainResult

_HEADS = {
    "quality": "quality",
    "predictability": "predictability",
    "tokens": "output tokens",
    "latency_ms": "latency",
    "demand": "demand",
}


def train_lines(result: TrainResult) -> Iterator[str]:
    """The report of one round of training, line by line."""
    info = result.bundle.manifest["info"]
    data = info["data"]
    start = "from nothing" if result.initial is None else f"from policy {result.initial}"
    yield (
        f"Policy {result.bundle.version}: fitted {start} on {data['train_rows']:,} answers in "
        f"{data['train_contexts']:,} contexts; {data['held_out_rows']:,} answers in "
        f"{data['held_out_contexts']:,} contexts held out."
    )
    for reason, count in data["left_out"].items():
        yield f"  left out: {count:,} with {reason}"
    yield from _judgements(data["judged_by"])
    for head, tuned in info["tuning"].items():
        kept = "taken" if tuned["taken"] else "not clearly better: defaults kept"
        yield (
            f"  tuned {_HEADS.get(head, head)}: {tuned['trials']} trials, cross-validated loss "
            f"{tuned['default_loss']:.4f} -> {tuned['best_loss']:.4f} ({kept})"
        )
    for note in result.notes:
        yield f"  note: {note}"
    yield ""
    before = "" if result.initial is None else " (before: the policy they started from)"
    yield f"Predictors on held-out contexts{before}"
    yield from _predictors(info)
    yield ""
    yield from _evaluation(result.evaluation)
    yield result.gate.reason
    if result.forced:
        yield (
            f"FORCED: policy {result.bundle.version} serves all the same, because of --force. "
            "Take it back with `forethought rollback`."
        )
    elif result.promoted:
        yield f"Policy {result.bundle.version} serves now, instead of {result.champion}."
    elif result.gate.promote:
        yield (
            f"It does not serve, as asked by --no-promote: `forethought promote "
            f"{result.bundle.version}` would change that."
        )
    else:
        yield f"Policy {result.champion} goes on serving; the new one is kept."
    if result.challenges:
        yield (
            f"Policy {result.bundle.version} challenges it: running servers let it score live "
            "traffic without serving it."
        )
    yield f"Saved in {result.folder}"
    tracked = result.tracked
    if tracked is not None and tracked.run_id is not None:
        yield f"MLflow run {tracked.run_id} in {tracked.url}"
    elif tracked is not None:
        yield f"Not recorded in MLflow ({tracked.url}): {tracked.failure}"


def train_json(result: TrainResult) -> dict[str, Any]:
    """The same as figures."""
    info = result.bundle.manifest["info"]
    return {
        "version": result.bundle.version,
        "champion": result.champion,
        "initial": result.initial,
        "promoted": result.promoted,
        "forced": result.forced,
        "challenges": result.challenges,
        "gate": _gate(result),
        "evaluation": None if result.evaluation is None else summary(result.evaluation),
        "data": info["data"],
        "fit": info["fit"],
        "tuning": info["tuning"],
        "held_out": info["held_out"],
        "mlflow_run": None if result.tracked is None else result.tracked.run_id,
        "notes": list(result.notes),
        "folder": str(result.folder),
    }


def comparison_lines(found: Comparison) -> Iterator[str]:
    """The report of a saved policy against the champion."""
    yield f"Policy {found.version} against {found.champion}, which serves."
    yield from _evaluation(found.evaluation)
    verdict = found.gate.reason
    if found.gate.promote:
        verdict = verdict.replace("Promoted:", "Worth promoting:", 1)
    yield verdict.replace("Not promoted:", "Not worth promoting:", 1)


def dry_run_lines(found: Comparison) -> Iterator[str]:
    """The same, and what promoting it would do."""
    yield from comparison_lines(found)
    yield from _shadow(found)
    would = "would be" if found.gate.promote else "would not be"
    yield (
        f"Dry run: nothing was changed. By the gate {found.version} {would} promoted; `forethought "
        f"promote {found.version}` does it all the same."
    )


def comparison_json(found: Comparison) -> dict[str, Any]:
    """The same as figures."""
    return {
        "version": found.version,
        "champion": found.champion,
        "gate": _gate(found),
        "evaluation": None if found.evaluation is None else summary(found.evaluation),
        "shadow": None if found.shadow is None else asdict(found.shadow),
    }


def _shadow(found: Comparison) -> Iterator[str]:
    shadow = found.shadow
    if shadow is None:
        yield "  shadow: it scored no live traffic (`forethought challenge` lets it)"
        return
    yield (
        f"  shadow: it scored {shadow.n_decisions:,} live decisions in {shadow.mean_ms:.2f} ms "
        f"each, {shadow.n_failed:,} failed; it would have chosen as the policy that served in "
        f"{shadow.agreement:.0%}"
    )
    for (served, own), count in shadow.swaps:
        yield f"    {count:,} times {own} instead of {served}"


def _judgements(counts: Mapping[str, int]) -> Iterator[str]:
    said = ", ".join(
        f"{count:,} by the sign {who.removeprefix('sign:')}"
        if who.startswith("sign:")
        else f"{count:,} by {who}"
        for who, count in counts.items()
    )
    if said:
        yield f"  judged: {said}"


def _gate(found: TrainResult | Comparison) -> dict[str, Any]:
    gate = found.gate
    return {
        "promote": gate.promote,
        "reason": gate.reason,
        "more_decisions": gate.more_decisions,
        "test": None if found.test is None else found.test.model_dump(),
    }


def _predictors(info: Mapping[str, Any]) -> Iterator[str]:
    fitted = info["held_out"]["fitted"]
    before = info["held_out"].get("initial", {})
    for head, said in info["fit"].items():
        scores = fitted.get(head)
        line = f"  {_HEADS.get(head, head):<15} {said}"
        if scores:
            figures = ", ".join(
                f"{name} {_number(scores[name])}"
                + (f" (before {_number(before[head][name])})" if head in before else "")
                for name in ("brier", "log_loss", "ece", "auroc", "mae_log")
                if name in scores
            )
            line += f"; on {scores['rows']} held out: {figures}"
        yield line


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _evaluation(found: Evaluation | None) -> Iterator[str]:
    if found is None:
        return
    yield (
        f"Judged on {found.n_decisions:,} held-out decisions in {found.n_contexts:,} contexts; "
        f"the two policies differ on {found.n_differ:,}. Of the {found.n_held_out:,} that are held "
        f"out from the candidate, {found.n_new:,} show what it would newly do."
    )
    if found.n_stages:
        yield (
            f"  the other {found.n_decisions - found.n_held_out:,} judged {found.n_stages} "
            "policies that were fitted like it on fewer contexts, each on contexts new to it"
        )
    for reason, count in found.left_out.items():
        yield f"  not judged: {count:,} {reason}"
    if not found.cost_known:
        yield "  the prices are unknown: cost is left out"
    for name, policy in (("candidate", found.candidate), ("champion", found.champion)):
        values = ", ".join(f"{k} {v:+.6f}" for k, v in policy.utility_usd.items())
        yield (
            f"  {name:<10} {policy.version}: quality {policy.quality:.3f}, utility in USD a "
            f"decision: {values}; effective sample {policy.effective_sample_size:.0f}"
        )
    if found.propensity_error is not None:
        yield (
            f"  strategies were drawn as often as logged, up to {found.propensity_error:.3f}; "
            f"largest possible weight {found.candidate.largest_weight:.1f}"
        )
    differences = [("utility", found.utility, 6, ""), ("quality", found.quality, 3, "")]
    if found.latency is not None:
        differences.append(("latency", found.latency, 0, " ms"))
    for name, all_of, digits, unit in differences:
        ends = "; ".join(
            f"{one.low:+.{digits}f} to {one.high:+.{digits}f}{unit} ({one.confidence:.1%}, "
            f"{one.method})"
            for one in (all_of.betting, all_of.bootstrap, all_of.bernstein)
        )
        yield f"  {name} gained {all_of.betting.value:+.{digits}f}{unit}, interval {ends}"
    yield ""
