"""The demo's tables of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from forethought.api.demo.figures import Answer, BreakEven, Sleep, Summary, mean_or_none
from forethought.api.demo.sample import GSM8K, TITLES, DemoContext
from forethought.client import Decision

THOUSAND = 1000.0


def results_table(summaries: Iterable[Summary]) -> Table:
    """Per data set and strategy: how right, how long, how fast, how dear."""
    table = _table(
        "Answers: means a query, with 95% intervals of how right they are",
        "data set",
        "strategy",
        ">n",
        ">right, or F1",
        ">output tokens",
        ">input (cached)",
        ">p50 latency",
        ">USD per 1,000",
    )
    before = None
    for s in summaries:
        if before not in {None, s.dataset}:
            table.add_section()
        table.add_row(
            TITLES[s.dataset] if s.dataset != before else "",
            s.strategy,
            str(s.n),
            right_of(s),
            f"{s.output_tokens:.0f}",
            f"{s.input_tokens:.0f} ({s.cached_tokens:.0f})",
            seconds(s.latency_p50_ms),
            usd_per_thousand(s.cost_usd),
        )
        before = s.dataset
    return table


def sleep_table(sleeps: Sequence[Sleep]) -> Table:
    """Per data set: what sleep on a context wrote and consumed."""
    table = _table(
        "Sleep: means a context",
        "data set",
        ">contexts",
        ">notes (dropped)",
        ">notes' tokens",
        ">output tokens",
        ">input (cached)",
        ">USD per 1,000",
    )
    for dataset in dict.fromkeys(s.dataset for s in sleeps):
        some = [s for s in sleeps if s.dataset == dataset]
        n = len(some)
        table.add_row(
            TITLES[dataset],
            str(n),
            f"{sum(s.n_notes for s in some) / n:.1f} ({sum(s.dropped for s in some) / n:.1f})",
            f"{sum(s.tokens for s in some) / n:.0f}",
            f"{sum(s.output_tokens for s in some) / n:.0f}",
            f"{sum(s.input_tokens for s in some) / n:.0f} "
            f"({sum(s.cached_tokens for s in some) / n:.0f})",
            usd_per_thousand(mean_or_none([s.cost_usd for s in some])),
        )
    return table


def break_even_table(found: Iterable[BreakEven]) -> Table:
    """Per data set: how many queries on a context pay for its sleep."""
    table = _table(
        "Does sleep pay? learned:low against direct on the same questions; USD per 1,000",
        "data set",
        ">sleep, a context",
        ">direct, a query",
        ">learned:low",
        ">saved",
        ">breaks even at",
        ">asked",
        ">with sleep, a query",
    )
    for b in found:
        table.add_row(
            TITLES[b.dataset],
            usd_per_thousand(b.sleep_cost_usd),
            usd_per_thousand(b.direct_usd),
            usd_per_thousand(b.learned_usd),
            usd_per_thousand(b.saved_per_query_usd),
            break_even_words(b),
            f"{b.asked:.3g} a context",
            usd_per_thousand(b.with_sleep_usd),
        )
    return table


def plans_table(
    contexts: Sequence[DemoContext], plans: Mapping[str, Mapping[str, Any]], *, title: str
) -> Table:
    """What the policy makes of each context before anyone slept on it."""
    table = _table(
        title,
        "context",
        ">queries",
        ">predict- ability",
        ">would save, USD per 1,000",
        ">breaks even at",
        "sleep?",
    )
    for context in contexts:
        plan = plans.get(context.id)
        if plan is None:
            continue
        even = plan.get("break_even")
        table.add_row(
            context.id,
            str(plan.get("n_queries", "")),
            percent(plan.get("predictability")),
            usd_per_thousand(plan.get("saving_per_query_usd")),
            "never" if even is None else f"{even:.1f}",
            "[green]buy[/]" if plan.get("buy") else "no",
        )
    return table


def routed_table(answers: Sequence[Answer]) -> Table:
    """What the router chose for each query, and how probable that was."""
    table = _table(
        "Chosen by the router",
        "query",
        "strategy",
        "mode",
        ">propensity",
        ">right, or F1",
        ">output tokens",
        ">USD per 1,000",
    )
    for a in answers:
        table.add_row(
            a.question,
            a.strategy,
            a.mode,
            f"{a.propensity:.3f}",
            f"{a.quality:.2f}",
            str(a.output_tokens),
            usd_per_thousand(a.cost_usd),
        )
    return table


def decision_table(decision: Decision) -> Table:
    """The candidates of one decision."""
    table = _table(
        f"One decision explained: {decision.id}, {decision.mode}, by policy "
        f"{decision.policy_version}",
        "strategy",
        ">right",
        ">output tokens",
        ">USD per 1,000",
        ">latency",
        ">propensity",
    )
    for c in decision.candidates:
        table.add_row(
            f"[bold]{c.strategy}[/]" if c.strategy == decision.strategy else c.strategy,
            percent(c.quality),
            "" if c.output_tokens is None else f"{c.output_tokens:.0f}",
            "" if c.quality is None else usd_per_thousand(c.cost_usd),
            "" if c.latency_ms is None else seconds(c.latency_ms),
            f"{c.propensity:.3f}",
        )
    return table


def break_even_words(found: BreakEven) -> str:
    """The break-even as a table's cell."""
    if not found.known:
        return "price unknown"
    return "never" if found.queries is None else f"{found.queries} queries"


def right_of(summary: Summary) -> str:
    """How right, with its interval."""
    if summary.dataset == GSM8K:
        return f"{summary.quality:.0%} [{summary.low:.0%}, {summary.high:.0%}]"
    return f"{summary.quality:.2f} [{summary.low:.2f}, {summary.high:.2f}]"


def usd_per_thousand(usd: float | None) -> str:
    """A price of one as the price of a thousand; a hyphen where it is unknown."""
    return "-" if usd is None else f"{usd * THOUSAND:.3f}"


def percent(share: float | None) -> str:
    """A share as a percentage; nothing where it is unknown."""
    return "" if share is None else f"{share:.0%}"


def seconds(latency_ms: float) -> str:
    """Milliseconds as seconds."""
    return f"{latency_ms / 1000:.2f} s"


def _table(title: str, *columns: str) -> Table:
    """A plain table; a column named ``>...`` is aligned to the right."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        right = column.startswith(">")
        # Headers may break; figures that do are hard to read.
        table.add_column(
            column.removeprefix(">"), justify="right" if right else "left", no_wrap=not right
        )
    return table
