"""What the demo's figures say in plain words, the unwelcome included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from forethought.api.demo.figures import Answer, BreakEven, Summary
from forethought.api.demo.report import counted, usd_per_thousand
from forethought.api.demo.sample import GSM8K, TITLES, DemoContext
from forethought.client import Decision, LearnedContext
from forethought.router.allocation import Preferences


def learned_lines(context: DemoContext, learned: LearnedContext) -> list[str]:
    """One learned context as a person reads it."""
    lines = [f"[dim]{escape(context.text)}[/]", ""]
    for note in learned.notes:
        said = escape(note.text if note.answer is None else f"{note.text} {note.answer}")
        worked = f" [dim]({escape(note.derivation)})[/]" if note.derivation else ""
        lines.append(f"  • {said}{worked}  [dim]{note.confidence:.0%} of the drafts agree[/]")
    if not learned.notes:
        lines.append("  Nothing that passed its checks.")
    lines += ["", f"  {learned_cost(learned)}"]
    return lines


def learned_cost(learned: LearnedContext) -> str:
    """What a sleep consumed and what it left."""
    used = learned.usage
    read, written = (used.input_tokens, used.output_tokens) if used else (0, 0)
    price = "at an unknown price" if learned.cost_usd is None else f"for {learned.cost_usd:.6f} USD"
    tried = len(learned.notes) + learned.dropped
    return (
        f"Sleep read {read} and wrote {written} tokens {price}; {learned.dropped} of {tried} notes "
        f"failed their checks. Each query reads {learned.tokens} tokens of notes."
    )


def excluded_line(decision: Decision) -> str | None:
    """Which strategies could not be chosen, and why."""
    reasons: dict[str, list[str]] = {}
    for c in decision.candidates:
        if c.excluded is not None:
            reasons.setdefault(c.excluded, []).append(c.strategy)
    if not reasons:
        return None
    said = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
    return f"Left out: {said}."


def apart_line(values: Mapping[str, Sequence[float]], apart: float) -> str:
    """How well the saving that sleep is expected to bring tells the two kinds apart."""
    means = ", ".join(
        f"{TITLES[dataset]} {1000 * sum(some) / len(some):+.3f} on average (n={len(some)})"
        for dataset, some in values.items()
        if some
    )
    return (
        f"Saving expected of sleep, in USD per 1,000 queries, over these and contexts never asked "
        f"about: {means}. A GSM8K problem got a higher value than a FairytaleQA section in "
        f"{apart:.0%} of all pairs (50% is a coin)."
    )


def swap_lines(before: Answer, after: Answer) -> str:
    """The same question under the old and the new policy."""
    said = "\n".join(
        f"  {when} {a.strategy} ({a.mode}, propensity {a.propensity:.3f}) by policy "
        f"{a.policy_version}"
        for when, a in (("before:", before), ("after: ", after))
    )
    swapped = (
        "The server was not restarted."
        if before.policy_version != after.policy_version
        else "The server has not taken the new policy."
    )
    return f"The same question, {before.question}:\n{said}\n{swapped}"


def plan_line(
    contexts: Sequence[DemoContext], plans: Mapping[str, Mapping[str, Any]], dataset: str
) -> str:
    """On how many contexts of one kind the policy would buy sleep."""
    some = [plans[c.id] for c in contexts if c.dataset == dataset and c.id in plans]
    bought = sum(1 for plan in some if plan.get("buy"))
    reasons = dict.fromkeys(str(plan.get("reason")) for plan in some if not plan.get("buy"))
    why = f" ({'; '.join(reasons)})" if len(reasons) == 1 else ""
    return f"{TITLES[dataset]}: sleep would be bought on {bought} of {len(some)} contexts{why}."


def verdict(
    found: BreakEven,
    summaries: Sequence[Summary],
    *,
    planned: str | None = None,
    value_usd: float = Preferences().value_usd,
) -> str:
    """What the figures of one data set say about sleep, the unwelcome included.

    ``planned`` is what the router had planned, ``value_usd`` the worth of a right answer to it.
    """
    asked = (
        f"{counted(found.n, 'question', 'questions')} on "
        f"{counted(found.contexts, 'context', 'contexts')}"
    )
    qualities = (
        f"On {asked}, direct had {_quality(found.dataset, found.quality_direct)} and "
        f"learned:low {_quality(found.dataset, found.quality_learned)}."
    )
    said = [f"[bold]{TITLES[found.dataset]}[/]: {_paid(found)}", qualities]
    lost = found.quality_direct - found.quality_learned
    saved = found.saved_per_query_usd
    if lost > 0 and saved is not None and saved > 0:
        outweighs = value_usd * lost > saved
        said.append(
            "Cheaper, then, but not as good"
            + (
                f": at {value_usd} USD for a right answer the loss outweighs the saving."
                if outweighs
                else f", though at {value_usd} USD for a right answer the saving outweighs it."
            )
        )
    low = next(
        (s for s in summaries if (s.dataset, s.strategy) == (found.dataset, "effort:low")), None
    )
    if low is not None and low.cost_usd is not None:
        gain = found.quality_learned - low.quality
        said.append(
            f"Without any sleep, effort:low had {_quality(found.dataset, low.quality)} for "
            f"{usd_per_thousand(low.cost_usd)} USD per 1,000: "
            + (f"the notes add {100 * gain:.0f} points." if gain > 0 else "the notes add nothing.")
        )
    if planned is not None:
        said.append(f"The router's own plan before it: {planned.partition(': ')[2]}")
    return " ".join(said)


def caveats(summaries: Sequence[Summary]) -> str:
    """How far these figures carry."""
    total = sum(s.n for s in summaries)
    return (
        f"{total} answers in all: enough to see how it works, not to measure it. The intervals "
        "(Wilson's for right or wrong, bootstrap for F1) take the questions as independent, "
        "though those on one context are alike. Latency is that of several requests at a time. "
        "`router` was asked other questions than the fixed strategies."
    )


def _paid(found: BreakEven) -> str:
    if not found.known:
        return "whether sleep pays cannot be said, since the model has no known price."
    saved = found.saved_per_query_usd or 0.0
    if found.queries is None:
        return (
            "sleep did not pay. A query from the notes cost "
            f"{usd_per_thousand(-saved)} USD per 1,000 more than direct, so no number of queries "
            "pays for it."
        )
    outcome = "it has paid" if found.paid else "it had not paid yet"
    return (
        f"each query from the notes saved {usd_per_thousand(saved)} USD per 1,000, so sleep "
        f"pays from query {found.queries} on a context; with {found.asked:.3g} asked on each, "
        f"{outcome}."
    )


def _quality(dataset: str, quality: float) -> str:
    return f"{quality:.0%} right" if dataset == GSM8K else f"F1 {quality:.2f}"
