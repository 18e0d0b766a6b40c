"""The tables of ``bench.paper``: every figure with its interval, beside the paper's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from bench.anticipation import GROUPS
from bench.costs import LATENCY_PREMIUMS, QUERIES
from bench.frontiers import TokenRatio
from bench.layout import Cells, columns, one_below_the_other, table
from bench.paper_results import Results
from bench.recordings import DIRECT, LOW, Arm
from bench.resampling import estimate

ByScope = Mapping[str, Results]

BEYOND = " *"
BEYOND_NOTE = "* sleep is more accurate than anything without it: compared with the best without"


def report(by_scope: ByScope) -> Iterator[str]:
    """All tables of one data set, one after the other; columns are repeated for each scope."""
    for section in (
        _frontier, _area, _token_ratios, _gains, _cost_by_level, _cost_by_queries, _sampling,
        _quintiles, _bands, _coverage,
    ):  # fmt: skip
        yield section(by_scope)


def sizes(results: Results) -> str:
    """How many queries and contexts the two panels have, and how often sleep found nothing."""
    full, low = results.full.panel, results.low.panel
    without = max(low.fallbacks.values(), default=0)
    return (
        f"{results.full.scope}: {len(full)} queries on {len(full.context_ids)} contexts have every "
        f"arm, {len(low)} on {len(low.context_ids)} those of low effort; up to {without} of these "
        "had no notes and were answered without"
    )


def _frontier(by_scope: ByScope) -> str:
    def rows(results: Results) -> dict[str, Cells]:
        at = results.full
        return {
            str(arm): (f"{at.tokens[0, i]:.1f}", estimate(at.quality[:, i]).scaled(100).show(1))
            for i, arm in enumerate(at.panel.arms)
        }

    title = "1. Accuracy (hundredths) and mean test-time output tokens (paper: section 5.1)"
    return columns(title, "arm", ("tokens", "accuracy"), by_scope, rows)


def _area(by_scope: ByScope) -> str:
    def rows(results: Results) -> dict[str, Cells]:
        area = results.area
        return {
            "no sleep": (area.without.show(1), ""),
            **{
                level: (area.by_level[level].show(1), area.differences[level].show(1, sign=True))
                for level in area.by_level
            },
        }

    first = next(iter(by_scope.values())).area
    title = (
        "   Mean accuracy under the frontier (strategies mixed: the concave hull) over log tokens, "
        f"{first.low_tokens:.0f} to {first.high_tokens:.0f}"
    )
    return columns(title, "frontier", ("mean", "difference"), by_scope, rows)


def _ratio_cells(ratio: TokenRatio) -> Cells:
    mark = BEYOND if ratio.beyond else ""
    return f"{ratio.ratio.show(1)}{mark}", f"{100 * ratio.at_quality:.1f}", ratio.largest.show(1)


def _token_ratios(by_scope: ByScope) -> str:
    def rows(results: Results) -> dict[str, Cells]:
        return {
            **{level: _ratio_cells(ratio) for level, ratio in results.ratios.items()},
            "chosen, predictable half": _ratio_cells(results.half),
            "chosen, the other half": _ratio_cells(results.other_half),
        }

    chosen = next(iter(by_scope.values())).level
    title = (
        "2. Times as many test-time tokens without sleep, at the accuracy of learned:low (paper: "
        f"about 5x); level chosen without the held-out contexts: {chosen}"
    )
    shown = columns(title, "level", ("ratio", "at accuracy", "largest"), by_scope, rows)
    return f"{shown}\n    {BEYOND_NOTE}"


def _gains(by_scope: ByScope) -> str:
    def rows(results: Results) -> dict[str, Cells]:
        at = results.low
        none = estimate(at.quality[:, at.panel.at(LOW)]).scaled(100)
        tokens = f"{at.tokens[0, at.panel.at(LOW)]:.1f}"
        found: dict[str, Cells] = {"none (effort:low)": ("0", tokens, none.show(1), "", "")}
        for gain in results.gains:
            found[gain.level] = (
                f"{gain.sleep_tokens:.0f}",
                f"{gain.test_tokens:.1f}",
                gain.quality.show(1),
                gain.over_smallest.show(1, sign=True),
                gain.over_none.show(1, sign=True),
            )
        return found

    title = (
        "3. More sleep at the same test-time effort, learned:low, in points (paper, section 5.2: "
        "up to +13 on GSM-Symbolic, +18 on AIME)"
    )
    heads = ("sleep tokens", "test tokens", "accuracy", "over smallest", "over none")
    return one_below_the_other(title, "level", heads, by_scope, rows)


_COUNTING_NAMES = {
    "paper": "as the paper counts, output tokens only",
    "whole": "counted whole: input at 1/4 of output, cached at 1/10 of input, c' re-read",
    "uncached": "counted whole, and nothing ever cached",
}


def _cost_by_level(by_scope: ByScope) -> str:
    parts = []
    for counting, name in _COUNTING_NAMES.items():

        def rows(results: Results, counting: str = counting) -> dict[str, Cells]:
            costs = results.costs[counting]
            return {
                level: [
                    costs.ratios[level, t, 10].ratio.show()
                    + (BEYOND if costs.ratios[level, t, 10].beyond else "")
                    for t in LATENCY_PREMIUMS
                ]
                for level in results.ratios
            }

        heads = [f"t = {t:.0f}" for t in LATENCY_PREMIUMS]
        parts.append(one_below_the_other(f"   {name}", "level", heads, by_scope, rows))
    title = (
        "4. Times the cost of a query without sleep, at the accuracy of learned:low, 10 queries a "
        "context (paper, section 5.3: 2.5x at t = 10).\n"
        "     10 queries are an extrapolation: three or four a context were recorded"
    )
    return "\n".join([f"  {title}", *parts, f"    {BEYOND_NOTE}"])


def _cost_by_queries(by_scope: ByScope) -> str:
    scope, results = next(iter(by_scope.items()))
    parts = [
        f"     by queries a context, at the level chosen without the held-out contexts ({scope})"
    ]
    for counting in ("paper", "whole"):
        costs = results.costs[counting]
        head = ["queries", *(f"t = {t:.0f} ({costs.level[t]})" for t in LATENCY_PREMIUMS)]
        lines = [
            [str(n), *(costs.chosen(t, n).ratio.show() for t in LATENCY_PREMIUMS)] for n in QUERIES
        ]
        parts.append(f"     {_COUNTING_NAMES[counting]}\n{table(head, lines)}")
    return "\n".join(parts)


def _sampling(by_scope: ByScope) -> str:
    scope, results = next(iter(by_scope.items()))
    found = results.parallel
    title = "5. Sleep against parallel sampling (paper: figures 5 and 6)"
    if found is None:
        return f"  {title}: no samples were recorded"
    at = found.at
    lines = []
    for k in range(found.n_samples):
        shown = [estimate(rows[:, k]).scaled(100).show(1) for rows in (found.vote, found.passed)]
        lines.append([f"k = {k + 1}", f"{found.tokens[0, k]:.1f}", *shown, "", ""])
    for i, arm in enumerate(at.panel.arms):
        against = [found.against(arm, oracle=o).show(1, sign=True) for o in (False, True)]
        quality = estimate(at.quality[:, i]).scaled(100).show(1)
        shown = against if arm.slept else ["", ""]
        lines.append([str(arm), f"{at.tokens[0, i]:.1f}", quality, "", *shown])
    head = ["", "tokens", "vote:k, or accuracy", "pass@k (oracle)", "minus votes", "minus pass@k"]
    size = f"{len(at.panel)} queries on {len(at.panel.context_ids)} contexts, {scope}"
    note = (
        "    minus: at the same test-time tokens (or those of the cheapest without sleep, if these "
        "are more), mixed with every strategy without sleep;\n    the tokens of sleep, which "
        "many queries share, are not in these: see 4"
    )
    return f"  {title}; {size}\n{table(head, lines)}\n{note}"


_ENDS = {0: " (least)", GROUPS - 1: " (most)"}


def _quintiles(by_scope: ByScope) -> str:
    def rows(results: Results) -> dict[str, Cells]:
        of = results.predictable
        found: dict[str, Cells] = {}
        for i, g in enumerate(of.quintiles):
            over = [gain.show(1, sign=True) for gain in (g.over_low, g.over_direct)]
            found[f"{i + 1}{_ENDS.get(i, '')}"] = [str(g.n), *over]
        for label, key in (
            ("Spearman", "all"),
            ("Spearman, shipped predictor", "shipped predictor"),
        ):
            found[label] = ("", of.spearman[key].show(2, sign=True), "")
        return found

    level = next(iter(by_scope.values())).level
    title = (
        f"6. Gain of learned:low {level} by quintile of predictability, in points (paper, section "
        "5.4: grows with predictability)"
    )
    shown = columns(title, "quintile", ("n", "over effort:low", "over direct"), by_scope, rows)
    return f"{shown}\n    the shipped predictor knows the context only, and may be fitted on these"


def _bands(by_scope: ByScope) -> str:
    scope, results = list(by_scope.items())[-1]
    lines = []
    for name, gains in results.predictable.bands.items():
        cells = [f"{g.over_low.value:+.0f} ({g.n})" if g.n else "-" for g in gains]
        rank = results.predictable.spearman[name].show(2, sign=True)
        whole = f"{gains[-1].over_low.show(1, sign=True)} ({gains[-1].n})"
        lines.append([name, *cells[:-1], whole, rank])
    if not lines:
        return "     no bands of difficulty: direct was not recorded"
    head = ["difficulty", *(f"quintile {i + 1}" for i in range(GROUPS)), "whole band", "Spearman"]
    title = f"within bands of difficulty (how often direct is right), over effort:low (n); {scope}"
    return f"     {title}\n{table(head, lines)}"


def _coverage(by_scope: ByScope) -> str:
    def rows(results: Results) -> dict[str, Cells]:
        return {
            c.level: (
                c.covered.show(0), c.right_if_covered.show(0), c.right_if_not.show(0),
                c.without_if_covered.show(0), c.without_if_not.show(0),
                c.misled.show(0), f"{_whole(c.right_if_misled)}% of {c.n_misled}",
            )
            for c in results.coverage
        }  # fmt: skip

    heads = (
        "covered", "right if", "right if not", "no sleep: if", "if not", "misled", "right then",
    )  # fmt: skip
    title = (
        "7. What limits it, in hundredths: covered = the gold answer is among the notes' answers; "
        "misled = a note asks the query's question and has another answer"
    )
    return one_below_the_other(title, "level", heads, by_scope, rows)


def _whole(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"


def summary(name: str, by_dataset: Mapping[str, Results]) -> str:
    """One line a data set for a further model."""
    lines = []
    for dataset, found in by_dataset.items():
        full, level = found.full, found.level
        low = Arm("learned:low", level)
        shown = [
            estimate(full.quality[:, full.panel.at(arm)]).scaled(100).show(0)
            if arm in full.panel.arms else "-"
            for arm in (LOW, DIRECT, low)
        ]  # fmt: skip
        covered = next(c for c in found.coverage if c.level == level)
        ratio = found.ratios[level]
        mark = BEYOND if ratio.beyond else ""
        lines.append([
            dataset, level, str(len(full.panel)), *shown, full.gain(low, LOW).show(0, sign=True),
            f"{ratio.ratio.show(1)}{mark}", found.costs["paper"].chosen(10.0, 10).ratio.show(),
            found.costs["whole"].chosen(2.0, 10).ratio.show(),
            _whole(covered.covered.value), _whole(covered.right_if_covered.value),
        ])  # fmt: skip
    head = [
        "held out", "level", "n", "effort:low", "direct", "learned:low", "gain, points",
        "token ratio", "cost ratio, t = 10, paper", "t = 2, whole", "covered", "right if",
    ]  # fmt: skip
    return f"{name}\n{table(head, lines)}"
