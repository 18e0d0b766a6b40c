"""What does sleep cost on real arrivals? The router's rule against simple ones and hindsight.

The contexts of the second half of the Mooncake trace (an hour of a production chat service) come
as they came; each is given every recorded held-out context in turn, so that no draw adds noise.
The demand model is fitted on the trace's first half, the policy on the recorded train contexts.
Every policy answers by the router's choice of a strategy, the cheapest that holds the predicted
accuracy of ``direct``, with the notes as soon as they are ready; they differ in when they sleep
on which context, and how much. Costs are in output tokens at sleep time, with what is read counted
(``WHOLE``); a token of an answer costs t. Intervals resample trace contexts and recorded contexts
(Owen, "The pigeonhole bootstrap", 2007).

Needs: bench/recorded/*.parquet and bench/traces/mooncake.parquet (ship with the repository).
Takes: three minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from bench.calibration import calibration
from bench.costs import LATENCY_PREMIUMS, WHOLE
from bench.forecasts import algorithm_2, at_once, by_forecast, by_noise, foreseeing, plain
from bench.layout import table
from bench.publish import DATASETS, RECORDED, golds
from bench.recorder import context_messages
from bench.recordings import HELD_OUT, Floats, read_recordings
from bench.replay import PREFERENCES, Buyer, Recorded, Replayed, read_recorded, replay
from bench.resampling import Estimate, draws, estimate
from bench.trace import TRACE, Trace, read_trace
from bench.training_rows import MAIN_LEVEL, read_training
from forethought.models.demand import DemandModel
from forethought.router.tiers import STANDARD, Option, Tier, options
from forethought.training.fit import fit_bundle

REPEATS: Final = 1000
SHOWN_T: Final = 2.0
TRUST: Final = PREFERENCES.trust
OURS: Final = "router"

FLEX: Final = tuple(
    Tier(name=f"flex, {wait_s:.0f} s later", price_multiplier=1 / SHOWN_T, wait_s=wait_s)
    for wait_s in (60.0, 600.0)
)
"""Half price, as flex and batches are sold. How much later they are ready is assumed."""

NAMES: Final = {
    "never": "never sleep",
    "always": "always sleep (k3r1)",
    "plain": "plain ski rental (k3r1)",
    "paper": "Purohit et al., our forecast (k3r1)",
    "one": "router, k3r1 only",
    OURS: "router",
    "right": "router, right forecast",
    "inverted": "router, inverted forecast",
    "random": "router, random forecast",
    "hindsight": "hindsight",
}


@dataclass(frozen=True, kw_only=True)
class Market:
    """One price of an answer's token, and what every policy got at it."""

    t: float
    trace: Trace
    found: Mapping[str, Replayed]
    costs: Mapping[str, Floats]
    least: Floats
    """The least break-even of each recorded context, shape (C,): infinite where none saves."""


class Resampled:
    """Sums over C x I pairs in every repeat, row 0 for the data themselves."""

    def __init__(self, n_recorded: int, n_trace: int, seed: int) -> None:
        self._recorded = draws(n_recorded, repeats=REPEATS, seed=seed)
        self._trace = draws(n_trace, repeats=REPEATS, seed=seed + 1)

    def total(self, pairs: Floats) -> Floats:
        """Shape (1 + REPEATS,) of ``pairs``, shape (C, I)."""
        return np.asarray(((self._recorded @ pairs) * self._trace).sum(axis=1))


def market(trace: Trace, recorded: Recorded, demand: DemandModel, *, t: float, seed: int) -> Market:
    """Every policy where a token of an answer costs ``t`` of a token of sleep."""
    every = priced(recorded, t, (STANDARD,))
    main = [[o for o in offered if o.level.name == MAIN_LEVEL] or offered for offered in every]
    buyers: dict[str, Buyer] = {
        "never": lambda _c, _n: None,
        "always": at_once(main),
        "plain": plain(main),
        "paper": algorithm_2(main, demand, TRUST),
        "one": by_forecast(main, demand, TRUST),
        OURS: by_forecast(every, demand, TRUST),
        "right": foreseeing(every, TRUST, inverted=False),
        "inverted": foreseeing(every, TRUST, inverted=True),
        "random": by_noise(every, TRUST, seed),
    }
    found = {
        name: replay(trace, recorded, buyer, tier_price={STANDARD.name: 1.0})
        for name, buyer in buyers.items()
    }
    costs = {name: got.cost(t) for name, got in found.items()}
    found["hindsight"], costs["hindsight"] = hindsight(trace, recorded, found["never"], every, t)
    least = np.array([min((o.break_even for o in offered), default=np.inf) for offered in every])
    return Market(t=t, trace=trace, found=found, costs=costs, least=least)


def priced(recorded: Recorded, t: float, tiers: Sequence[Tier]) -> list[list[Option]]:
    """What can be bought for each recorded context, where answers cost ``t``."""
    return [
        options(
            [replace(o, saving_per_query_usd=t * o.saving_per_query_usd) for o in offered], tiers
        )
        for offered in recorded.offers
    ]


def hindsight(
    trace: Trace, recorded: Recorded, never: Replayed, every: Sequence[Sequence[Option]], t: float
) -> tuple[Replayed, Floats]:
    """The cheapest for each pair: nothing, or one of the levels after the first query."""
    best, cost = never, never.cost(t)
    for place in range(max(map(len, every))):
        got = replay(
            trace,
            recorded,
            at_once([offered[place : place + 1] for offered in every]),
            tier_price={STANDARD.name: 1.0},
        )
        better = got.cost(t) < cost
        cost = np.where(better, got.cost(t), cost)
        best = Replayed(
            **{
                name: np.where(better, getattr(got, name), getattr(best, name))
                for name in Replayed.__dataclass_fields__
            }
        )
    return best, cost


def show(of: Market, resampled: Resampled) -> tuple[str, dict[str, dict[str, Estimate]]]:
    """The table of one price, and the figures by policy."""
    total = {name: resampled.total(cost) for name, cost in of.costs.items()}
    single = np.broadcast_to(of.trace.counts == 1, of.costs["never"].shape)
    queries = resampled.total(np.broadcast_to(of.trace.counts.astype(float), single.shape))
    on_single = {name: resampled.total(got.sleep * single) for name, got in of.found.items()}
    pairs = resampled.total(np.ones(single.shape))
    figures: dict[str, dict[str, Estimate]] = {}
    for name, got in of.found.items():
        figures[name] = {
            "cost": estimate(total[name] / queries),
            "never": estimate(total[name] / total["never"]),
            "always": estimate(total[name] / total["always"]),
            "hindsight": estimate(total[name] / total["hindsight"]),
            "right": estimate(resampled.total(got.quality) / queries).scaled(100),
            "gain": estimate(
                resampled.total(got.quality - of.found["never"].quality) / queries
            ).scaled(100),
            "slept": estimate(
                resampled.total((got.bought_after > 0).astype(np.float64)) / pairs
            ).scaled(100),
            "single": estimate(on_single[name] / on_single["always"]).scaled(100),
        }
    head = [
        f"t = {of.t:g}", "cost a query", "of never", "of always", "of hindsight", "points right",
        "slept, %", "on single, % of always",
    ]  # fmt: skip
    lines = [
        [NAMES[name], f["cost"].show(0), f["never"].show(3), f["always"].show(3),
         f["hindsight"].show(3), f["gain"].show(1, sign=True), f["slept"].show(0),
         f["single"].show(1)]
        for name, f in figures.items()
    ]  # fmt: skip
    return table(head, lines), figures


def worst(of: Market) -> tuple[str, int]:
    """How near the guarantee comes to breaking, in what the rule itself expected."""
    n = np.broadcast_to(of.trace.counts, of.costs["never"].shape)
    lines, broken = [], 0
    for name in (OURS, "right", "inverted", "random"):
        got = of.found[name]
        bought = got.bought_after > 0
        even = np.where(bought, got.break_even, of.least[:, None])
        spent = np.where(bought, got.bought_after + got.break_even + got.waited, n)
        against_never = spent / n
        # One query before anything is known; two where a single one would pay for the sleep.
        unseen = np.where(even < TRUST, 2, 1)
        against_best = (spent - unseen - got.waited) / np.maximum(np.minimum(n, even), 1e-12)
        over = (against_never > 1 + 1 / TRUST + 1e-9) | (
            spent > (1 + 1 / TRUST) * np.minimum(n, even) + unseen + got.waited + 1e-9
        )
        broken += int(over.sum())
        lines.append(
            [NAMES[name], f"{against_never.max():.3f}", f"{against_best[even > 0].max():.3f}",
             f"{over.sum()} of {over.size:,}"]
        )  # fmt: skip
    head = ["worst pair, in savings", "of never", "of hindsight", "beyond the bound"]
    return table(head, lines), broken


def tier_lines(
    trace: Trace, recorded: Recorded, demand: DemandModel, of: Market, resampled: Resampled
) -> str:
    """What the choice of a tier gains at list prices: the standard tier is as dear as answers.

    Replayed over the whole hour: to wait for ten minutes is dearer where the watching ends soon.
    """
    tier_price = {STANDARD.name: SHOWN_T, **{tier.name: 1.0 for tier in FLEX}}
    sets: dict[str, Sequence[Tier]] = {
        "standard": (STANDARD,),
        **{tier.name: (tier,) for tier in FLEX},
        **{f"standard or {tier.name}": (STANDARD, tier) for tier in FLEX},
    }
    never = resampled.total(of.costs["never"])
    lines = []
    for name, tiers in sets.items():
        # An offer's cost is at the price of sleep, that of the cheaper tiers.
        dear = [Tier(name=x.name, price_multiplier=SHOWN_T * x.price_multiplier, wait_s=x.wait_s)
                for x in tiers]  # fmt: skip
        bought = priced(recorded, SHOWN_T, dear)
        got = replay(trace, recorded, by_forecast(bought, demand, TRUST), tier_price=tier_price)
        total = resampled.total(got.cost(SHOWN_T)) / never
        slept = float((got.bought_after > 0).mean())
        single = float(got.sleep[:, trace.counts == 1].sum() / got.sleep.sum())
        lines.append(
            [name, estimate(total).show(3), f"{100 * slept:.0f}", f"{got.waited.mean():.3f}",
             f"{100 * single:.0f}"]
        )  # fmt: skip
    head = [f"router, t = {SHOWN_T:g}", "cost of never", "slept, %", "queries while it sleeps",
            "spent on single, %"]  # fmt: skip
    return table(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.traffic", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    whole = read_trace(args.trace)
    dataset, rows = read_training(args.recorded, DATASETS, model=args.model)
    held_out = np.array([row["split"] != "train" for row in rows])
    bundle = fit_bundle(replace(dataset, held_out=held_out), seed=args.seed, init=None)
    contexts = golds(DATASETS)
    texts = {name: context_messages(row)[0]["content"] for name, (row, _) in contexts.items()}
    recording = read_recordings(args.recorded)[args.model]
    recorded = read_recorded(recording, rows, texts, HELD_OUT, bundle, WHOLE)

    half_s = whole.end_s / 2
    seen, trace = whole.until(half_s), whole.first_seen_from(half_s)
    demand = seen.fit()
    print(_setting("by time", seen, trace, recorded))
    checked = calibration(demand, trace)
    print(f"\nThe forecast on the contexts replayed\n{checked.text}")
    resampled = Resampled(len(recorded), len(trace), args.seed)
    printed: dict[str, float] = dict(checked.figures)
    broken = 0
    for t in LATENCY_PREMIUMS:
        of = market(trace, recorded, demand, t=t, seed=args.seed)
        text, figures = show(of, resampled)
        bound, beyond = worst(of)
        broken += beyond
        print(f"\n{text}\n\n{bound}")
        printed |= _printed(figures, "" if t == SHOWN_T else f"_t{t:g}")

    order = np.random.default_rng(args.seed).permutation(len(whole))
    seen, trace = (whole.take(np.sort(part)) for part in np.array_split(order, 2))
    print(f"\n{_setting('by context', seen, trace, recorded)}")
    demand, resampled = seen.fit(), Resampled(len(recorded), len(trace), args.seed)
    of = market(trace, recorded, demand, t=SHOWN_T, seed=args.seed)
    text, figures = show(of, resampled)
    print(f"{text}\n\n{tier_lines(trace, recorded, demand, of, resampled)}")
    printed |= _printed(figures, "_by_context") | {"bound_broken": broken + worst(of)[1]}
    rounded = {name: round(value, 4) for name, value in printed.items()}
    targets = {"single_query_sleep_share": 0.05, "bound_broken": 0, "coverage_90": 0.9}
    print(json.dumps({"bench": "traffic", "figures": rounded, "targets": targets}))


def _setting(split: str, seen: Trace, trace: Trace, recorded: Recorded) -> str:
    single = 100 * (trace.counts == 1).mean()
    return (
        f"Split {split}: demand fitted on {len(seen)} trace contexts; {len(trace)} others with "
        f"{trace.counts.sum()} queries replayed ({single:.0f}% with one), each on {len(recorded)} "
        "recorded contexts"
    )


def _printed(figures: Mapping[str, Mapping[str, Estimate]], suffix: str) -> dict[str, float]:
    ours = figures[OURS]
    return {
        f"cost_vs_never{suffix}": ours["never"].value,
        f"cost_vs_always{suffix}": ours["always"].value,
        f"cost_vs_hindsight{suffix}": ours["hindsight"].value,
        f"single_query_sleep_share{suffix}": ours["single"].value / 100,
        f"points_vs_never{suffix}": ours["gain"].value,
        f"inverted_vs_never{suffix}": figures["inverted"]["never"].value,
    }


if __name__ == "__main__":
    main()
