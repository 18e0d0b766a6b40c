"""What the demo's figures say in plain words, the unwelcome included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape

from forethought.api.demo.figures import Answer, BreakEven, Summary
from forethought.api.demo.report import usd_per_thousand
from forethought.api.demo.sample import GSM8K, TITLES, DemoContext
from forethought.client import Decision, LearnedContext


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
    return (
        f"Sleep read {read} and wrote {written} tokens {price}; of {len(learned.notes) + learned.dropped} notes "
        f"{learned.dropped} failed their checks. Each query reads {learned.tokens} tokens of notes."
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
    """How well the predictability tells the two kinds of context apart."""
    means = ", ".join(
        f"{TITLES[dataset]} {sum(some) / len(some):.0%} on average (n={len(some)})"
        for dataset, some in values.items()
        if some
    )
    return (
        f"Predictability, over these and contexts never asked about: {means}. A GSM8K problem got "
        f"a higher value than a FairytaleQA section in {apart:.0%} of all pairs (50% is a coin)."
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


def verdict(found: BreakEven, summaries: Sequence[Summary]) -> str:
    """What the figures of one data set say about sleep, the unwelcome included."""
    named = {s.strategy: s for s in summaries if s.dataset == found.dataset}
    asked = f"{found.n} questions on {found.contexts} contexts"
    quality = (
        f"learned:low was right in {found.quality_learned:.0%}, direct in "
        f"{found.quality_direct:.0%} of {asked}"
        if found.dataset == GSM8K
        else f"learned:low reached F1 {found.quality_learned:.2f}, direct "
        f"{found.quality_direct:.2f} over {asked}"
    )
    said = [f"[bold]{TITLES[found.dataset]}[/]: {_paid(found)}", f"{_capitalised(quality)}."]
    low = named.get("effort:low")
    if low is not None and low.cost_usd is not None and found.learned_usd is not None:
        gain = found.quality_learned - low.quality
        said.append(
            f"Without any sleep, effort:low cost {usd_per_thousand(low.cost_usd)} at "
            f"{_quality(found.dataset, low.quality)}: "
            + (
                f"what sleep added to it is {100 * gain:+.0f} points."
                if gain > 0
                else "sleep added nothing to it here."
            )
        )
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
    outcome = (
        f"with {found.asked:.3g} asked it has paid"
        if found.paid
        else f"with {found.asked:.3g} asked it had not paid yet"
    )
    worse = found.quality_learned < found.quality_direct
    return (
        f"each query from the notes saves {usd_per_thousand(saved)} USD per 1,000, so sleep "
        f"pays from query {found.queries} on a context; {outcome}."
        + (" Cheaper, but not as good: what a right answer is worth decides." if worse else "")
    )


def _quality(dataset: str, quality: float) -> str:
    return f"{quality:.0%} right" if dataset == GSM8K else f"F1 {quality:.2f}"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
