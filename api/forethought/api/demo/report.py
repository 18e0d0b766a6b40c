"""The demo's tables of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from forethought.api.demo.figures import Answer, BreakEven, Sleep, Summary, mean_or_none
from forethought.api.demo.sample import GSM8K, TITLES, DemoContext
from forethought.client import Decision

THOUSAND: Final = 1000.0
ID_WIDTH: Final = 34


def results_table(summaries: Iterable[Summary]) -> Group:
    """Per data set and strategy: how right, how long, how fast, how dear."""
    table = _table(
        "data set",
        "strategy",
        ">n",
        ">right (F1)\n95% interval",
        ">output\ntokens",
        ">input\n(cached)",
        ">latency\np50",
        ">USD per\n1,000",
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
    return _titled("Answers, means a query", table)


def sleep_table(sleeps: Sequence[Sleep]) -> Group:
    """Per data set: what sleep on a context wrote and consumed."""
    table = _table(
        "data set",
        ">contexts",
        ">notes\n(dropped)",
        ">notes'\ntokens",
        ">output\ntokens",
        ">input\n(cached)",
        ">USD per\n1,000",
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
    return _titled("Sleep, means a context", table)


def break_even_table(found: Iterable[BreakEven]) -> Group:
    """Per data set: how many queries on a context pay for its sleep."""
    table = _table(
        "data set",
        ">sleep,\na context",
        ">direct,\na query",
        ">learned:low,\na query",
        ">saved,\na query",
        ">breaks\neven at",
        ">asked,\na context",
        ">a query with\nits sleep",
    )
    for b in found:
        table.add_row(
            TITLES[b.dataset],
            usd_per_thousand(b.sleep_cost_usd),
            usd_per_thousand(b.direct_usd),
            usd_per_thousand(b.learned_usd),
            usd_per_thousand(b.saved_per_query_usd),
            break_even_words(b),
            f"{b.asked:.3g}",
            usd_per_thousand(b.with_sleep_usd),
        )
    title = "Does sleep pay? learned:low and direct on the same questions, USD per 1,000"
    return _titled(title, table)


def plans_table(contexts: Sequence[DemoContext], plans: Mapping[str, Mapping[str, Any]]) -> Group:
    """What the policy makes of each context before anyone slept on it."""
    table = _table(
        "context",
        ">queries\nso far",
        ">predict-\nability",
        ">gain a query,\nUSD per 1,000",
        ">breaks\neven at",
        "sleep?",
    )
    for context in contexts:
        plan = plans.get(context.id)
        if plan is None:
            continue
        even = plan.get("break_even")
        never = "never" if "break_even" in plan else ""
        table.add_row(
            short(context.id),
            str(plan.get("n_queries", "")),
            percent(plan.get("predictability")),
            usd_per_thousand(plan.get("saving_per_query_usd")),
            never if even is None else f"{even:.1f}",
            "[green]buy[/]" if plan.get("buy") else "no",
        )
    return _titled("Plans before any sleep; a gain counts what a right answer is worth", table)


def routed_table(answers: Sequence[Answer]) -> Group:
    """What the router chose for each query, and how probable that was."""
    table = _table(
        "query",
        "strategy",
        "mode",
        ">propensity",
        ">right\n(F1)",
        ">output\ntokens",
        ">USD per\n1,000",
    )
    for a in answers:
        table.add_row(
            short(a.question),
            a.strategy,
            a.mode,
            f"{a.propensity:.3f}",
            f"{a.quality:.2f}",
            str(a.output_tokens),
            usd_per_thousand(a.cost_usd),
        )
    return _titled("Chosen by the router", table)


def decision_table(decision: Decision) -> Group:
    """The candidates of one decision, as predicted before the choice."""
    table = _table(
        "strategy",
        ">right",
        ">output\ntokens",
        ">USD per\n1,000",
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
    return _titled(
        f"One decision explained: {decision.id}, {decision.mode}, by policy "
        f"{decision.policy_version}; predicted",
        table,
    )


def break_even_words(found: BreakEven) -> str:
    """The break-even as a table's cell."""
    if not found.known:
        return "price unknown"
    return "never" if found.queries is None else counted(found.queries, "query", "queries")


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


def counted(n: int, one: str, several: str) -> str:
    """A number with its noun."""
    return f"{n} {one if n == 1 else several}"


def short(identifier: str) -> str:
    """An identifier cut in its middle where it is long: its end tells the query."""
    if len(identifier) <= ID_WIDTH:
        return identifier
    return f"{identifier[: ID_WIDTH - 7]}…{identifier[-6:]}"


def _table(*columns: str) -> Table:
    """A plain table; a column named ``>...`` is aligned to the right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"), justify="right" if right else "left", no_wrap=True
        )
    return table


def _titled(title: str, table: Table) -> Group:
    return Group(Text(title, style="bold"), table)
