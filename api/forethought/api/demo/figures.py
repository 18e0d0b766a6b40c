"""What the demo measured, and the arithmetic on it: means, intervals, break-even."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from forethought.api.demo.sample import GSM8K

Z95: Final = 1.959964
"""The normal distribution's 97.5% quantile: two-sided 95% intervals."""

RESAMPLES: Final = 2000

Phase = Literal["forced", "routed", "new policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One graded answer. ``quality``: 0 or 1 by exact number, token F1 for FairytaleQA."""

    phase: Phase
    dataset: str
    context: str
    question: str
    strategy: str
    mode: str
    propensity: float
    policy_version: str
    decision_id: str
    quality: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """What sleep on one context consumed, and what came of it."""

    dataset: str
    context: str
    context_id: str
    n_notes: int
    dropped: int
    tokens: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The answers of one strategy on one data set. ``low`` and ``high``: 95% interval."""

    dataset: str
    strategy: str
    n: int
    quality: float
    low: float
    high: float
    output_tokens: float
    input_tokens: float
    cached_tokens: float
    latency_p50_ms: float
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """When sleep paid on one data set, on the questions that both strategies answered.

    ``queries`` a context from which on sleep and ``learned:low`` cost less than ``direct``
    (None: never, or unknown where ``sleep_cost_usd`` is None). ``asked`` is how many the
    demo asked per context, ``with_sleep_usd`` the cost of each of them, its share of the
    sleep included.
    """

    dataset: str
    n: int
    contexts: int
    asked: float
    quality_direct: float
    quality_learned: float
    direct_usd: float | None
    learned_usd: float | None
    sleep_cost_usd: float | None
    saved_per_query_usd: float | None
    queries: int | None
    with_sleep_usd: float | None

    @property
    def known(self) -> bool:
        """Whether the model has a price."""
        return self.saved_per_query_usd is not None

    @property
    def paid(self) -> bool:
        """Whether sleep had paid for itself within the demo."""
        return self.queries is not None and self.asked >= self.queries


def break_even_queries(sleep_cost: float, saved_per_query: float) -> int | None:
    """The number of queries from which on sleep pays; None where nothing is saved."""
    if saved_per_query <= 0:
        return None
    # The small allowance keeps 3.0000000000000004 from costing a fourth query.
    return max(1, math.ceil(sleep_cost / saved_per_query - 1e-9))


def cost_with_sleep(sleep_cost: float, per_query: float, queries: float) -> float:
    """Cost of each of ``queries`` on a context, its share of the sleep included."""
    return per_query + sleep_cost / queries


def wilson(right: int, n: int) -> tuple[float, float]:
    """95% interval of a share (Wilson, 1927): sensible for few trials, and for none right."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = right / n, Z95 * Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of a mean, by resampling ``values``."""
    if not values:
        return 0.0, 1.0
    rng = random.Random(seed)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return means[round(0.025 * (RESAMPLES - 1))], means[round(0.975 * (RESAMPLES - 1))]


def summarise(answers: Iterable[Answer]) -> list[Summary]:
    """One summary a data set and strategy, in the order of first appearance.

    What the router chose is summed up as the strategy ``router``.
    """
    groups: dict[tuple[str, str], list[Answer]] = {}
    for answer in answers:
        if answer.phase != "new policy":
            name = "router" if answer.phase == "routed" else answer.strategy
            groups.setdefault((answer.dataset, name), []).append(answer)
    return [_summary(*key, group) for key, group in groups.items()]


def break_even(
    dataset: str, answers: Sequence[Answer], sleeps: Sequence[Sleep]
) -> BreakEven | None:
    """When sleep paid on ``dataset``; None where no question was answered both ways."""
    forced = [a for a in answers if a.dataset == dataset and a.phase == "forced"]
    direct = {a.question: a for a in forced if a.strategy == "direct"}
    learned = {a.question: a for a in forced if a.strategy == "learned:low"}
    both = [q for q in learned if q in direct]
    if not both:
        return None
    contexts = {learned[q].context for q in both}
    asked = sum(a.context in contexts for a in learned.values()) / len(contexts)
    direct_usd = mean_or_none([direct[q].cost_usd for q in both])
    learned_usd = mean_or_none([learned[q].cost_usd for q in both])
    sleep_usd = mean_or_none([s.cost_usd for s in sleeps if s.context in contexts])
    saved = queries = with_sleep = None
    if direct_usd is not None and learned_usd is not None and sleep_usd is not None:
        saved = direct_usd - learned_usd
        queries = break_even_queries(sleep_usd, saved)
        with_sleep = cost_with_sleep(sleep_usd, learned_usd, asked)
    return BreakEven(
        dataset=dataset,
        n=len(both),
        contexts=len(contexts),
        asked=asked,
        quality_direct=statistics.fmean(direct[q].quality for q in both),
        quality_learned=statistics.fmean(learned[q].quality for q in both),
        direct_usd=direct_usd,
        learned_usd=learned_usd,
        sleep_cost_usd=sleep_usd,
        saved_per_query_usd=saved,
        queries=queries,
        with_sleep_usd=with_sleep,
    )


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean; None where there is no value, or where one of them is unknown."""
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def told_apart(values: Mapping[str, Sequence[float]], high: str, low: str) -> float | None:
    """How often a context of kind ``high`` gets the higher value than one of kind ``low``.

    The area under the ROC curve: 1 tells them apart without fail, 0.5 is a coin.
    """
    above, below = values.get(high, ()), values.get(low, ())
    if not above or not below:
        return None
    wins = sum((a > b) + 0.5 * (a == b) for a in above for b in below)
    return wins / (len(above) * len(below))


def _summary(dataset: str, strategy: str, answers: Sequence[Answer]) -> Summary:
    qualities = [a.quality for a in answers]
    if dataset == GSM8K:
        low, high = wilson(round(sum(qualities)), len(qualities))
    else:
        low, high = bootstrap(qualities)
    return Summary(
        dataset=dataset,
        strategy=strategy,
        n=len(answers),
        quality=statistics.fmean(qualities),
        low=low,
        high=high,
        output_tokens=statistics.fmean(a.output_tokens for a in answers),
        input_tokens=statistics.fmean(a.input_tokens for a in answers),
        cached_tokens=statistics.fmean(a.cached_tokens for a in answers),
        latency_p50_ms=statistics.median(a.latency_ms for a in answers),
        cost_usd=mean_or_none([a.cost_usd for a in answers]),
    )
