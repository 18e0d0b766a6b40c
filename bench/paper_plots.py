"""The plots of ``bench.paper``, PNG files: one a question, one panel a data set."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.anticipation import GROUPS
from bench.costs import LATENCY_PREMIUMS, QUERIES
from bench.curves import frontier
from bench.paper_results import Results
from bench.recordings import LOW, Arm, Floats
from bench.resampling import Estimate, estimate

NAMES: Final = {"gsm8k": "GSM8K", "fairytaleqa": "FairytaleQA", "tatqa": "TAT-QA"}
UNITS: Final = {
    "gsm8k": "right answers, %",
    "fairytaleqa": "token F1, hundredths",
    "tatqa": "exact matches, %",
}
GREY, BLUE, RED = "#555555", "#1f6fb4", "#c8452c"
# Dark enough to read on white, and told apart when printed grey.
SHADES: Final = ("#9ecae1", "#4a98c9", "#1764ab", "#08306b", "#041633")


def draw_all(found: Mapping[str, Results], model: str, folder: Path) -> list[Path]:
    """Write every plot of the results by data set; returns the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, tuple[Callable[[Any, Results], None], str]] = {
        "frontier": (_frontier, "Accuracy and test-time tokens, with sleep and without"),
        "scaling": (_scaling, "More sleep at the same test-time effort"),
        "cost": (_cost, "Cost per query: without sleep, as a multiple of with sleep"),
        "sampling": (_sampling, "Sleep and parallel sampling"),
        "predictability": (_predictability, "Gain of sleep by predictability of the query"),
        "coverage": (_coverage, "What limits it: is the answer among the notes?"),
    }
    return [
        _figure(found, draw, f"{title} ({model}, held out)", folder / f"{name}.png")
        for name, (draw, title) in plots.items()
    ]


def _figure(
    found: Mapping[str, Results], draw: Callable[[Any, Results], None], title: str, path: Path
) -> Path:
    from matplotlib.figure import Figure

    # Not pyplot: it keeps figures, and state that others share.
    figure = Figure(figsize=(max(7.5, 5.2 * len(found)), 4.9), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (dataset, results) in zip(panels, found.items(), strict=True):
        draw(axes, results)
        # These two need the lowest effort only, and so have more queries.
        panel = (results.low if draw in {_scaling, _coverage} else results.full).panel
        size = f"{len(panel)} queries, {len(panel.context_ids)} contexts"
        axes.set_title(f"{NAMES.get(dataset, dataset)}: {size}", fontsize=10)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    named: dict[str, Any] = {}
    for axes in panels:
        named |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside lower center",
        ncols=5,
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(f"{title}; bars: 95% by context", fontsize=11)
    figure.savefig(path, dpi=130)
    return path


def _bar(axes: Any, x: float, y: Estimate, color: str, marker: str = "o", **more: Any) -> None:
    """A point with its interval. A bootstrap's interval can leave its own point outside."""
    if np.isfinite(y.value):
        error = [[max(0.0, y.value - y.low)], [max(0.0, y.high - y.value)]]
        axes.errorbar(
            x,
            y.value,
            yerr=error,
            color=color,
            marker=marker,
            ms=5,
            capsize=2.5,
            lw=1.1,
            ls="",
            **more,
        )


def _mixed(axes: Any, cost: Floats, quality: Floats, color: str, **more: Any) -> None:
    """A frontier: its corners are joined through mixtures, which are no straight lines in log."""
    x, y = frontier(cost, quality)
    through = np.unique(np.concatenate([x, np.geomspace(x[0], x[-1], 60)]))
    axes.plot(through, np.interp(through, x, y), color=color, lw=1.4, **more)


def _marker(arm: Arm) -> str:
    return {"low": "v", "high": "^"}.get(arm.strategy.rpartition(":")[2], "o")


def _shade(level: str) -> str:
    """One colour a level, the same in every panel: the darker, the more calls sleep makes."""
    drafts, rounds = level.removeprefix("k").split("r")
    return SHADES[bisect_left((1, 3, 6, 10), int(drafts) * int(rounds))]


def _frontier(axes: Any, results: Results) -> None:
    at = results.full
    sides = [("no sleep", at.columns(slept=False), RED)]
    sides += [
        (f"after sleep {level}", at.columns(slept=True, level=level), _shade(level))
        for level in at.levels()
    ]
    for name, columns, color in sides:
        _mixed(axes, at.tokens[0, columns], 100 * at.quality[0, columns], color, label=name)
        for i in columns:
            quality = estimate(at.quality[:, i]).scaled(100)
            _bar(axes, at.tokens[0, i], quality, color, _marker(at.panel.arms[i]))
    axes.set_xscale("log")
    axes.set_xlabel("mean test-time output tokens (log)   ▼ low effort  ● direct  ▲ high")
    axes.set_ylabel(UNITS.get(at.dataset, "quality, hundredths"))


def _scaling(axes: Any, results: Results) -> None:
    base = results.low
    none = estimate(base.quality[:, base.panel.at(LOW)]).scaled(100)
    _bar(axes, 0, none, RED, label="effort:low, no sleep")
    axes.axhline(none.value, color=RED, lw=0.8, ls=":")
    for i, gain in enumerate(results.gains):
        _bar(axes, gain.sleep_tokens, gain.quality, BLUE, label="learned:low" if i == 0 else None)
        axes.annotate(
            gain.level,
            (gain.sleep_tokens, gain.quality.value),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8,
        )
    axes.plot(
        [g.sleep_tokens for g in results.gains],
        [g.quality.value for g in results.gains],
        color=BLUE,
        lw=1,
    )
    axes.set_xlabel("sleep-time output tokens a context")
    axes.set_ylabel(UNITS.get(base.dataset, "quality, hundredths"))


def _cost(axes: Any, results: Results) -> None:
    from matplotlib.ticker import LogLocator

    for counting, style, shift in (("paper", "-", 0.97), ("whole", "--", 1.03)):
        costs = results.costs[counting]
        for i, t in enumerate(LATENCY_PREMIUMS):
            ratios = [costs.chosen(t, n).ratio for n in QUERIES]
            name = f"t = {t:.0f}, {'output only' if counting == 'paper' else 'counted whole'}"
            axes.plot(
                QUERIES,
                [r.value for r in ratios],
                style,
                color=SHADES[i],
                lw=1.4,
                marker="o",
                ms=3,
                label=name,
            )
            # The two headlines; bars on all eight lines would hide each other.
            if (counting, t) in {("paper", 10.0), ("whole", 2.0)}:
                _bar(axes, QUERIES[-1] * shift, ratios[-1], SHADES[i], marker="")
    axes.axhline(1, color=RED, lw=0.9)
    axes.axhline(2.5, color=GREY, lw=0.9, ls=":")
    axes.annotate(
        "paper, t = 10, 10 queries",
        (1, 2.5),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=7.5,
        color=GREY,
    )
    axes.set(xscale="log", yscale="log", xticks=QUERIES, xticklabels=[str(n) for n in QUERIES])
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_xlabel("queries a context (extrapolated from 3-4 recorded)")
    axes.set_ylabel("cost without sleep / with, equal accuracy")


def _sampling(axes: Any, results: Results) -> None:
    found = results.parallel
    if found is None:
        axes.text(0.5, 0.5, "no samples recorded", ha="center", transform=axes.transAxes)
        return
    for rows, name, color, marker in (
        (found.vote, "vote:k", RED, "s"),
        (found.passed, "pass@k (oracle)", GREY, "D"),
    ):
        axes.plot(found.tokens[0], 100 * rows[0], color=color, lw=1)
        for k in range(found.n_samples):
            _bar(
                axes,
                found.tokens[0, k],
                estimate(rows[:, k]).scaled(100),
                color,
                marker,
                label=name if k == 0 else None,
            )
    at = found.at
    for i, arm in enumerate(at.panel.arms):
        if arm.level in {"none", at.level}:
            color = BLUE if arm.slept else "#e6a38f"
            quality = estimate(at.quality[:, i]).scaled(100)
            _bar(axes, at.tokens[0, i], quality, color, _marker(arm), label=arm.strategy)
    axes.set_xscale("log")
    axes.set_xlabel("mean test-time output tokens (log)")
    axes.set_ylabel(UNITS.get(at.dataset, "quality, hundredths"))


def _predictability(axes: Any, results: Results) -> None:
    for i, gain in enumerate(results.predictable.quintiles):
        first = i == 0
        _bar(
            axes, i + 0.93, gain.over_low, BLUE, label="learned:low - effort:low" if first else None
        )
        _bar(
            axes,
            i + 1.07,
            gain.over_direct,
            RED,
            "s",
            label="learned:low - direct" if first else None,
        )
    axes.axhline(0, color=GREY, lw=0.9)
    axes.set_xticks(range(1, GROUPS + 1))
    axes.set_xlabel("quintile of nearness to what sleep anticipated (5: nearest)")
    axes.set_ylabel("gain, points")


def _coverage(axes: Any, results: Results) -> None:
    series = (
        ("answer among the notes", "covered", GREY, "D"),
        ("learned:low if it is", "right_if_covered", BLUE, "o"),
        ("learned:low if not", "right_if_not", BLUE, "x"),
        ("effort:low if it is", "without_if_covered", RED, "o"),
        ("effort:low if not", "without_if_not", RED, "x"),
    )
    for j, (name, field, color, marker) in enumerate(series):
        for i, coverage in enumerate(results.coverage):
            _bar(
                axes,
                i + (j - 2) * 0.12,
                getattr(coverage, field),
                color,
                marker,
                label=name if i == 0 else None,
            )
    axes.set_xticks(range(len(results.coverage)), [c.level for c in results.coverage])
    axes.set_ylim(-3, 103)
    axes.set_xlabel("sleep level")
    axes.set_ylabel("share, or quality, hundredths")
