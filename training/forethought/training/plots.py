"""A run's plots, for MLflow's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from forethought.training.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS: Final = 10
_BLUE: Final = "#2a6f97"
_ORANGE: Final = "#d1761f"
_GREY: Final = "#8a8a8a"


def draw(evidence: Evidence) -> dict[str, Figure]:
    """The figures by file name; those without data are left out."""
    found = {"importance.png": _importance(evidence)}
    if len(evidence.judged):
        found["calibration.png"] = _calibration(evidence)
    if evidence.weights:
        found["weights.png"] = _weights(evidence.weights)
    if evidence.frontier or evidence.others:
        found["pareto.png"] = _pareto(evidence)
    return found


def _calibration(evidence: Evidence) -> Figure:
    p, y = evidence.predicted, evidence.judged
    figure, (above, below) = _figure(2, heights=(3, 1))
    # Bins of about equal size: of equal width, most would be empty.
    order = np.array_split(np.argsort(p, kind="stable"), min(_BINS, len(p)))
    mean_p = [float(p[i].mean()) for i in order]
    mean_y = np.array([float(y[i].mean()) for i in order])
    error = [1.645 * float(y[i].std()) / np.sqrt(len(i)) for i in order]
    above.plot([0, 1], [0, 1], color=_GREY, linewidth=1, label="perfect")
    above.errorbar(mean_p, mean_y, yerr=error, color=_BLUE, marker="o", label="held out, 90%")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="judged quality")
    above.set_title(f"Calibration of quality on {len(p):,} held-out answers")
    above.legend(frameon=False)
    below.hist(p, bins=np.linspace(0, 1, 21).tolist(), color=_BLUE)
    below.set(xlim=(0, 1), xlabel="predicted quality", ylabel="answers")
    return figure


def _importance(evidence: Evidence) -> Figure:
    figure, axes = _figure(len(evidence.importance), heights=(1,) * len(evidence.importance))
    figure.set_size_inches(7, 2.8 * len(evidence.importance))
    for axis, (head, gains) in zip(axes, evidence.importance.items(), strict=True):
        names = [name for name, _ in gains[:10]][::-1]
        axis.barh(names, [gain for _, gain in gains[:10]][::-1], color=_BLUE)
        axis.set_title(head)
    axes[-1].set_xlabel("total gain of the feature's splits")
    return figure


def _weights(weights: Mapping[str, Any]) -> Figure:
    figure, (axis,) = _figure(1)
    most = max(float(w.max()) for w in weights.values())
    bins = np.linspace(0, max(most, 1e-9), 41).tolist()
    for (name, values), colour in zip(weights.items(), (_BLUE, _ORANGE), strict=False):
        effective = values.sum() ** 2 / max((values**2).sum(), 1e-300)
        label = f"{name}: largest {values.max():.1f}, effective sample {effective:.0f}"
        axis.hist(values, bins=bins, histtype="step", color=colour, label=label, linewidth=1.5)
    axis.set_yscale("log")
    axis.set(xlabel="importance weight", ylabel="decisions")
    axis.set_title(f"Importance weights of {len(next(iter(weights.values()))):,} decisions")
    axis.legend(frameon=False)
    return figure


def _pareto(evidence: Evidence) -> Figure:
    figure, (axis,) = _figure(1)
    if evidence.frontier:
        axis.plot(
            [one.cost_usd for one in evidence.frontier],
            [one.quality for one in evidence.frontier],
            color=_BLUE, marker="o", markersize=4, label="candidate, by the value of an answer",
        )  # fmt: skip
    for one in evidence.others:
        colour = _ORANGE if one.label == "champion" else _GREY
        axis.plot(one.cost_usd, one.quality, color=colour, marker="s", linestyle="none")
        axis.annotate(
            one.label, (one.cost_usd, one.quality), xytext=(4, 4), textcoords="offset points"
        )
    axis.set(xlabel="cost, USD an answer", ylabel="quality")
    axis.set_title("Quality and cost on held-out contexts (SNIPS where off-policy)")
    if evidence.frontier:
        axis.legend(frameon=False)
    return figure


def _figure(rows: int, heights: tuple[int, ...] = (1,)) -> tuple[Figure, list[Any]]:
    # Not pyplot: it keeps its figures, and asks for a display.
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second to import

    figure = Figure(figsize=(7, 5), layout="constrained", dpi=110)
    axes = figure.subplots(rows, 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    found = [axes[i, 0] for i in range(rows)]
    for axis in found:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, found
