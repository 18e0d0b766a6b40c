"""What a sleep policy costs on real arrivals: every trace context with every recorded context.

A purchase is a number of seen queries, after which a sleep option is bought; queries that come
before it is ready are answered without. The strategies are chosen by the router's own code from
predictions, those that hold the accuracy of ``direct``; what an answer cost is what was recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.costs import Prices as TokenPrices
from bench.journal import Row
from bench.recorder import NO_SLEEP
from bench.recordings import Arm, Floats, Ints, Panel, Recording
from bench.trace import Trace
from forethought.models.bundle import PolicyBundle
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import FeatureExtractor
from forethought.router.allocation import Preferences, acceptable
from forethought.router.candidates import predict_candidates
from forethought.router.decision import Decider
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import Context, Usage
from forethought.router.sleep.planner import SleepPlanner
from forethought.router.tiers import LEVELS, Offer, Option

AWAKE: Final = (Arm("direct"), Arm("effort:low"), Arm("effort:high"))
PREFERENCES: Final = Preferences(value_usd=0.0, latency_usd_per_s=0.0)
"""The cheapest strategy whose predicted accuracy holds that of direct, to the default margin."""

LEVEL_NAMES: Final = tuple(level.name for level in LEVELS)

_MODEL: Final = "recorded"

Features = Mapping[tuple[str, str], Mapping[str, float]]
"""By query and by the level that had been slept at."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """C recorded contexts as the router meets them: means over their queries, at t = 1.

    ``price`` and ``quality`` (C, 1 + L): of an answer without sleep, and with each of the L
    ``LEVELS``, in output tokens; NaN where that level was not recorded. ``sleep_price`` (C, L).
    ``offers``: what the planner expects of each recorded level.
    """

    datasets: tuple[str, ...]
    price: Floats
    quality: Floats
    sleep_price: Floats
    offers: Sequence[Sequence[Offer]]

    def __len__(self) -> int:
        return len(self.offers)


@dataclass(frozen=True, slots=True)
class Purchase:
    """A sleep that is bought after ``after`` queries."""

    after: int
    option: Option


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a policy got on each of C x I pairs, all of shape (C, I).

    ``answers`` is the cost of all answers of a context at t = 1, ``sleep`` what sleep cost,
    ``quality`` the sum over queries; ``waited`` the queries between purchase and readiness,
    ``bought_after`` the queries seen at the purchase (0: none), ``break_even`` what was expected
    of what was bought (NaN: nothing).
    """

    answers: Floats
    sleep: Floats
    quality: Floats
    waited: Ints
    bought_after: Ints
    break_even: Floats

    def cost(self, t: float) -> Floats:
        """In output tokens at sleep time, each token of an answer at ``t``."""
        return t * self.answers + self.sleep


Buyer = Callable[[int, int], Purchase | None]
"""What is bought for recorded context c where n queries come in all. A policy may only use n to see
whether it still is asked; hindsight and adversaries know it."""


def read_recorded(
    recording: Recording,
    rows: Sequence[Row],
    texts: Mapping[str, str],
    splits: Sequence[str],
    bundle: PolicyBundle,
    prices: TokenPrices,
) -> Recorded:
    """The contexts of ``splits``; ``rows`` are the training rows of every level."""
    features: Features = {
        (row["query_id"], row["seen_at"]): {
            k: math.nan if v is None else v for k, v in row["features"].items()
        }
        for row in rows
    }
    router = _Router(bundle, prices)
    datasets: list[str] = []
    columns: list[list[tuple[float, float, float]]] = []
    offers: list[list[Offer]] = []
    for dataset in recording.datasets():
        arms = [a for a in recording.arms(dataset) if a in AWAKE or a.level in LEVEL_NAMES]
        panel = recording.panel(dataset, arms, splits)
        spent = prices.of(panel.input_tokens, panel.cached_tokens, panel.output_tokens)
        for c, name in enumerate(panel.context_ids):
            own = np.flatnonzero(panel.context == c)
            sleeps = _sleep_prices(recording, name, {a.level for a in arms if a.slept}, prices)
            known = [(NO_SLEEP, 0.0), *(sleeps.get(x, (None, math.nan)) for x in LEVEL_NAMES)]
            of_context = []
            for level, price in known:
                if level is None:
                    of_context.append((math.nan, math.nan, math.nan))
                    continue
                arm = [router.chooses(panel, q, level, features) for q in own.tolist()]
                quality = float(panel.quality[own, arm].mean())
                of_context.append((float(spent[own, arm].mean()), quality, price))
            columns.append(of_context)
            first = features[panel.query_ids[int(own[0])], NO_SLEEP]
            offered = router.offers(name, texts[name], first)
            offers.append([o for o in offered if o.level.name in sleeps])
            datasets.append(dataset)
    found = np.array(columns)
    return Recorded(
        datasets=tuple(datasets),
        price=found[..., 0],
        quality=found[..., 1],
        sleep_price=found[:, 1:, 2],
        offers=offers,
    )


def _sleep_prices(
    recording: Recording, context_id: str, levels: AbstractSet[str], prices: TokenPrices
) -> dict[str, tuple[str, float]]:
    """By level: where it was recorded, and what it cost.

    What is derived from a table is the same at every level, and recorded at one.
    """
    found = {x: (x, float(prices.of(*recording.sleep_usage([context_id], x).T)[0])) for x in levels}
    if any(price for _, price in found.values()):
        return found
    return dict.fromkeys(LEVEL_NAMES, next(iter(found.values())))


def replay(
    trace: Trace,
    recorded: Recorded,
    buyer: Buyer,
    *,
    tier_price: Mapping[str, float],
) -> Replayed:
    """Replay a policy. ``tier_price`` is the price of a sleep token by tier, at sleep time: 1."""
    shape = (len(recorded), len(trace))
    served, waited = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    after = np.zeros(shape, np.int64)
    level, sleep = np.zeros(shape, np.int64), np.zeros(shape)
    break_even = np.full(shape, np.nan)
    place = {x.name: 1 + i for i, x in enumerate(LEVELS)}
    by_count = {int(n): np.flatnonzero(trace.counts == n) for n in np.unique(trace.counts)}
    for c in range(len(recorded)):
        for n, those in by_count.items():
            bought = buyer(c, n)
            if bought is None or bought.after > n:
                continue
            at = trace.arrivals_s[those, bought.after - 1]
            usable = trace.arrivals_s[those] > at[:, None] + bought.option.ready_s
            served[c, those] = (usable & np.isfinite(trace.arrivals_s[those])).sum(axis=1)
            after[c, those] = bought.after
            break_even[c, those] = bought.option.break_even
            waited[c, those] = n - bought.after - served[c, those]
            level[c, those] = place[bought.option.level.name]
            price = recorded.sleep_price[c, place[bought.option.level.name] - 1]
            sleep[c, those] = price * tier_price[bought.option.tier]
    each = np.arange(len(recorded))[:, None]
    counts = trace.counts[None, :]

    def total(of: Floats) -> Floats:
        return np.asarray((counts - served) * of[:, :1] + served * of[each, level])

    return Replayed(
        answers=total(recorded.price),
        sleep=sleep,
        quality=total(recorded.quality),
        waited=waited,
        bought_after=after,
        break_even=break_even,
    )


class _Router:
    """The router's own choice of a strategy and of what sleep is worth, at t = 1."""

    def __init__(self, bundle: PolicyBundle, prices: TokenPrices) -> None:
        self._bundle = bundle
        self._prices = Prices(input=prices.input, cached_input=prices.cached, output=prices.output)
        self._planner = SleepPlanner(
            decider=Decider(
                extractor=FeatureExtractor(WordLlamaEmbedder()),
                bundle=bundle,
                prices=PriceTable(overrides={}),
                preferences=PREFERENCES,
            ),
            reader=None,  # type: ignore[arg-type]  # offers() reads no store
            sleeper=None,
            prices=PriceTable(overrides={_MODEL: self._prices}),
            model=_MODEL,
        )

    def offers(self, name: str, text: str, features: Mapping[str, float]) -> list[Offer]:
        """What the planner expects of each level, from the features of the first query."""
        context = Context(id=name, tenant="", hash=name, messages=(), text=text, created_at=0.0)
        return self._planner.offers(context, features)

    def chooses(self, panel: Panel, q: int, level: str, features: Features) -> int:
        """The column of the arm that answers query ``q`` after a sleep at ``level``."""
        seen = features.get((panel.query_ids[q], level))
        if seen is None:  # sleep found no notes
            level, seen = NO_SLEEP, features[panel.query_ids[q], NO_SLEEP]
        columns = {
            arm.strategy: a for a, arm in enumerate(panel.arms) if arm.level in {NO_SLEEP, level}
        }
        usage = {
            name: Usage(
                input_tokens=int(panel.input_tokens[q, a]),
                cached_tokens=int(panel.cached_tokens[q, a]),
            )
            for name, a in columns.items()
        }
        admissible: dict[str, str | None] = dict.fromkeys(columns)
        candidates = predict_candidates(
            self._bundle, seen, admissible, usage, self._prices, PREFERENCES
        )
        best = max(acceptable(candidates, PREFERENCES), key=lambda c: c.utility or 0.0)
        return columns[best.strategy]
