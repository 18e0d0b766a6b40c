"""Does a period end at its budget? Spending over budget by pattern of arrivals, beside other ways.

Five periods of simulated traffic, of which the first only teaches: the number of queries varies by
a fifth from one to the next, and each query has four strategies whose cost rises thirtyfold and
whose quality is concave in it; the cost that comes differs from the one predicted. The multiplier
is moved by ``forethought.router.pacing``, with the hard cap of ``forethought.router.budget``.
Beside it: the cap alone (the best answers until nothing is left), the multiplier that was right for
all of the first period, and the one that is right for each period in hindsight, which nobody can
know. Given ``--trace``, also the real arrivals and lengths of Mooncake's public trace, by periods
of six minutes.

Needs: nothing; --trace takes mooncake_conversation_trace.jsonl (github.com/kvcache-ai/Mooncake).
Takes: a minute.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.layout import table
from forethought.router.budget import Budget
from forethought.router.errors import BudgetSpent
from forethought.router.knapsack import Floats
from forethought.router.pacing import DAY_S, multiplier_for
from forethought.router.records import Outcome, Usage

PERIODS: Final = 5
QUERIES: Final = 4_000
VALUE: Final = 0.02
SHARE: Final = 0.3
"""Where the budget lies between what the cheapest and what the best answers cost."""

RESERVE: Final = 4.0
"""What is held back for a request, as a multiple of its predicted cost."""

Arrivals = Callable[[int, np.random.Generator], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Queries of one period: ``at`` (n,) in [0, 1), what is predicted of each strategy (n, k), and
    what it then costs.
    """

    at: Floats
    quality: Floats
    predicted_usd: Floats
    cost_usd: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one period came to, as shares of its budget, of its queries, and on average."""

    spent: float
    refused: float
    quality: float


def even(n: int, rng: np.random.Generator) -> Floats:
    return rng.uniform(0, 1, n)


def by_day(n: int, rng: np.random.Generator) -> Floats:
    """Nineteen times as many at the peak as at night."""
    clock = np.linspace(0, 1, 1001)
    rate = np.cumsum(1 + 0.9 * np.sin(2 * np.pi * (clock - 0.35)))
    return np.asarray(np.interp(rng.uniform(rate[0], rate[-1], n), rate, clock))


def office(n: int, rng: np.random.Generator) -> Floats:
    return np.clip(rng.normal(0.58, 0.1, n), 0, 1 - 1e-9)


def front(n: int, rng: np.random.Generator) -> Floats:
    return rng.beta(1, 3, n)


def back(n: int, rng: np.random.Generator) -> Floats:
    return rng.beta(3, 1, n)


def spike(n: int, rng: np.random.Generator) -> Floats:
    """Half of all within minutes of an hour that is never the same."""
    centre = rng.uniform(0.2, 0.9)
    return np.where(rng.uniform(size=n) < 0.5, even(n, rng), rng.normal(centre, 0.005, n)).clip(
        0, 1 - 1e-9
    )


def bursts(n: int, rng: np.random.Generator) -> Floats:
    """Sessions of twenty queries on average, seconds apart."""
    sizes = rng.geometric(1 / 20, n // 20)
    starts = rng.uniform(0, 1, len(sizes))
    found = [
        start + np.cumsum(rng.exponential(20 / DAY_S, size))
        for start, size in zip(starts, sizes, strict=True)
    ]
    return np.asarray(np.minimum(np.concatenate(found), 1 - 1e-9))


PATTERNS: Final[Mapping[str, Arrivals]] = {
    "even": even, "day and night": by_day, "office hours": office, "early": front, "late": back,
    "one spike": spike, "bursts": bursts,
}  # fmt: skip


def queries(at: Floats, rng: np.random.Generator, drift: float = 1.0) -> Period:
    """Queries that come ``at``; from the middle of the period all cost ``drift`` times as much."""
    n = len(at)
    at = np.sort(at)
    easy = rng.uniform(0, 1, (n, 1))
    # An answer of 300 to 8,000 tokens at a dollar a million; contexts differ in length.
    predicted = np.array([0.3, 1.0, 3.0, 8.0]) * 1e-3 * rng.lognormal(0, 0.8, (n, 1))
    cost = predicted * rng.lognormal(-0.08, 0.4, (n, 4)) * np.where(at < 0.5, 1.0, drift)[:, None]
    quality = 1 - easy * np.array([0.8, 0.6, 0.45, 0.38])
    return Period(at=at, quality=quality, predicted_usd=predicted, cost_usd=cost)


def traced(path: Path, periods: int, rng: np.random.Generator) -> list[Period]:
    """The trace's arrivals; a strategy writes a share or a multiple of the recorded output."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    at = np.array([row["timestamp"] for row in rows], float)
    at = at / (at.max() + 1) * periods
    read, written = (
        np.array([[r[k]] for r in rows], float) for k in ("input_length", "output_length")
    )
    # USD a token: a tenth for input of what output costs, and half of it cached.
    predicted = 1e-6 * (0.05 * read + np.array([0.3, 1.0, 3.0, 8.0]) * written)
    cost = predicted * rng.lognormal(-0.08, 0.4, predicted.shape)
    quality = 1 - rng.uniform(0, 1, (len(rows), 1)) * np.array([0.8, 0.6, 0.45, 0.38])
    own = [np.flatnonzero(at // 1 == i) for i in range(periods)]
    return [
        Period(at=at[i] % 1, quality=quality[i], predicted_usd=predicted[i], cost_usd=cost[i])
        for i in own
    ]  # fmt: skip


def budget_of(periods: Sequence[Period], share: float = SHARE) -> float:
    """Between what the cheapest and what the best answers cost in a period, on average."""
    cheapest = np.mean([p.cost_usd.min(axis=1).sum() for p in periods])
    best = np.mean([_take(p, 0.0)[0].sum() for p in periods])
    return float(cheapest + share * (best - cheapest))


def _take(period: Period, multiplier: float) -> tuple[Floats, Floats]:
    """Cost and quality of each query at one multiplier."""
    chosen = (VALUE * period.quality - multiplier * period.predicted_usd).argmax(axis=1)
    each = np.arange(len(chosen))
    return period.cost_usd[each, chosen], period.quality[each, chosen]


def unpaced(
    periods: Sequence[Period], usd: float, multipliers: Sequence[float], *, cap: bool
) -> list[Result]:
    """One multiplier a period; with a cap what does not fit any more is refused."""
    results = []
    for period, multiplier in zip(periods, multipliers, strict=True):
        cost, quality = _take(period, multiplier)
        served = np.cumsum(cost) <= usd if cap else np.full(len(cost), fill_value=True)
        results.append(
            Result(
                spent=float(cost[served].sum()) / usd,
                refused=1 - float(served.mean()),
                quality=float((quality * served).mean()),
            )
        )
    return results


def paced(periods: Sequence[Period], usd: float, *, hard: bool = True) -> list[Result]:
    """The real budget, on a clock of its own."""
    now, steered = [0.0], [1.0]
    budget = Budget(
        budget_usd=usd, hard=hard, on_multiplier=lambda m: steered.__setitem__(0, m),
        clock=lambda: now[0],
    )  # fmt: skip
    results = []
    for i, period in enumerate(periods):
        spent, right, refused = 0.0, 0.0, 0
        worth = VALUE * period.quality
        for j, at in enumerate(period.at.tolist()):
            now[0] = (i + at) * DAY_S
            budget.arrived()
            chosen = int((worth[j] - steered[0] * period.predicted_usd[j]).argmax())
            cost = float(period.cost_usd[j, chosen])
            try:
                budget.reserve("q", max(cost, RESERVE * float(period.predicted_usd[j, chosen])))
            except BudgetSpent:
                refused += 1
                continue
            budget.settle(
                Outcome(
                    decision_id="q", status="ok", http_status=200, usage=Usage(), cost_usd=cost,
                    latency_ms=0.0, finished_at=now[0],
                )
            )  # fmt: skip
            spent, right = spent + cost, right + float(period.quality[j, chosen])
        n = len(period.at)
        results.append(Result(spent=spent / usd, refused=refused / n, quality=right / n))
    return results


def compared(periods: Sequence[Period]) -> dict[str, list[Result]]:
    """Every way to spend the same budget, period by period, the first left out."""
    usd = budget_of(periods)

    def right_for(period: Period) -> float:
        worth = VALUE * period.quality
        return multiplier_for(usd, worth=worth, cost_usd=period.predicted_usd)

    first = [right_for(periods[0])] * len(periods)
    found = {
        "paced": paced(periods, usd),
        "cap alone": unpaced(periods, usd, [0.0] * len(periods), cap=True),
        "fixed": unpaced(periods, usd, first, cap=False),
        "hindsight": unpaced(periods, usd, [right_for(p) for p in periods], cap=False),
    }
    return {name: results[1:] for name, results in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pacing", description=(__doc__ or "").split("\n\n")[0]
    )
    trace = os.environ.get("FORETHOUGHT_MOONCAKE_TRACE")
    parser.add_argument("--trace", type=Path, default=trace and Path(trace))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()

    def drawn(arrivals: Arrivals, seed: int, drift: float = 1.0) -> list[Period]:
        rng = np.random.default_rng(seed)
        sizes = QUERIES * rng.lognormal(0, 0.2, PERIODS)
        return [queries(arrivals(round(n), rng), rng, drift) for n in sizes]

    cases: dict[str, list[list[Period]]] = {
        name: [drawn(arrivals, seed) for seed in range(args.seeds)]
        for name, arrivals in PATTERNS.items()
    }
    for name, drift in {"costs double at noon": 2.0, "costs halve at noon": 0.5}.items():
        cases[name] = [drawn(by_day, seed, drift) for seed in range(args.seeds)]
    if args.trace:
        cases["Mooncake"] = [
            traced(args.trace, 10, np.random.default_rng(seed)) for seed in range(args.seeds)
        ]
    lines, ends, over = [], [], 0.0
    for name, runs in cases.items():
        found = [compared(periods) for periods in runs]
        by_way = {way: [r for one in found for r in one[way]] for way in found[0]}
        own = [r.spent for r in by_way["paced"]]
        ends += own
        over = max(over, *own)
        fixed = [r.spent for r in by_way["fixed"]]
        lines.append([
            name, f"{np.mean(own):.3f}", f"{min(own):.3f}", f"{max(own):.3f}",
            f"{np.mean([r.refused for r in by_way['paced']]):.2%}",
            f"{np.mean([r.refused for r in by_way['cap alone']]):.1%}",
            f"{min(fixed):.2f}-{max(fixed):.2f}",
            *(f"{100 * np.mean([r.quality for r in by_way[way]]):.1f}"
              for way in ("paced", "cap alone", "hindsight")),
        ])  # fmt: skip
    head = ["spent, of the budget", "paced", "least", "most", "refused", "refused, cap alone",
            "fixed multiplier", "right: paced", "cap alone", "hindsight"]  # fmt: skip
    print(table(head, lines))
    near = np.abs(1 - np.array(ends))
    figures = {
        "share_within_2pct": round(float((near <= 0.02).mean()), 4),
        "mean_distance": round(float(near.mean()), 4),
        "worst_distance": round(float(near.max()), 4),
        "most_spent": round(over, 6),
    }
    print(
        json.dumps(
            {
                "bench": "pacing",
                "figures": figures,
                "targets": {"mean_distance": 0.02, "most_spent": 1.0},
            }
        )
    )


if __name__ == "__main__":
    main()
