"""What a query costs when its context's sleep is shared by N queries.

The paper's section 5.3 (arXiv 2504.13171): a token at test time, when someone waits, costs t
times one at sleep time, and the sleep of a context is paid once,

    cost per query = (sleep + t N test) / N.

N is an extrapolation: a context has three or four recorded queries, and N queries are taken to
cost N times their mean. Counted in two ways, see ``AS_PAPER`` and ``WHOLE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench import curves
from bench.frontiers import Study
from bench.recordings import Arm, Floats, Recording
from bench.resampling import Estimate, context_means, estimate, means

QUERIES: Final = (1, 2, 5, 10)
LATENCY_PREMIUMS: Final = (1.0, 2.0, 4.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices of a token relative to an output token."""

    input: float
    cached: float
    output: float = 1.0

    def of(self, input_tokens: Floats, cached_tokens: Floats, output_tokens: Floats) -> Floats:
        """The price of calls; ``input_tokens`` include the cached ones."""
        return (
            self.input * (input_tokens - cached_tokens)
            + self.cached * cached_tokens
            + self.output * output_tokens
        )


AS_PAPER: Final = Prices(input=0.0, cached=0.0)
"""Output tokens only, as the paper counts: reading the context and c' costs nothing."""

WHOLE: Final = Prices(input=0.25, cached=0.025)
"""Assumed, in the order of public price lists: input a quarter of output, cached a tenth of input.

Every query reads the context and c' again; what was cached is what the recording's server said.
"""

UNCACHED: Final = Prices(input=0.25, cached=0.25)
"""As ``WHOLE``, but nothing is ever cached: the least favourable for c'."""


def cost_per_query(sleep: Floats, test: Floats, *, queries: float, t: float) -> Floats:
    """The paper's formula, in prices of a sleep-time output token. ``queries`` may be infinite."""
    return sleep / queries + t * test


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRatio:
    """How many times as much a query costs without sleep, at the accuracy of ``learned:low``.

    ``beyond``: sleep is more accurate than anything without it; the best without is compared.
    """

    ratio: Estimate
    beyond: bool
    with_sleep: float
    without: float


def cost_ratio(
    recording: Recording, at: Study, level: str, prices: Prices, *, queries: float, t: float
) -> CostRatio:
    """No sleep at equal accuracy, the cheapest mixture, against ``learned:low`` of ``level``."""
    panel = at.panel
    price = prices.of(panel.input_tokens, panel.cached_tokens, panel.output_tokens)
    test = means(at.drawn, panel.context, price)
    usage = recording.sleep_usage(panel.context_ids, level)
    sleep = context_means(at.drawn, prices.of(*usage.T))
    low, without = panel.at(Arm("learned:low", level)), at.columns(slept=False)
    slept = cost_per_query(sleep, test[:, low], queries=queries, t=t)
    ratio, beyond = curves.equal_quality_ratio(
        t * test[:, without], at.quality[:, without], slept, at.quality[:, low]
    )
    return CostRatio(
        ratio=estimate(ratio),
        beyond=bool(beyond[0]),
        with_sleep=float(slept[0]),
        without=float(ratio[0] * slept[0]),
    )


def chosen_level(
    recording: Recording, train: Study, prices: Prices, *, queries: float = 10, t: float
) -> str:
    """The level with the largest ratio on the train contexts: the held-out ones choose nothing."""
    ratios = {
        level: cost_ratio(recording, train, level, prices, queries=queries, t=t).ratio.value
        for level in train.levels()
        if Arm("learned:low", level) in train.panel.arms
    }
    return max(ratios, key=lambda level: ratios[level])
