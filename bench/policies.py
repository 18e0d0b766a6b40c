"""What a policy does with recorded contexts: sleep or not, and which strategy for each query.

The router's own code plans the sleep and predicts the candidates; only the number of queries to
come is given, as in the paper's section 5.3 (arXiv 2504.13171), and nothing is explored. What a
policy gets is what was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.costs import Prices as TokenPrices
from bench.journal import Row
from bench.recorder import NO_SLEEP
from bench.recordings import Arm, Floats, Ints, Panel, Recording
from forethought.models.bundle import PolicyBundle
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import FeatureExtractor
from forethought.router.allocation import Preferences, acceptable, utility
from forethought.router.candidates import predict_candidates
from forethought.router.decision import Decider
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import Candidate, Context, SleepLevel, Usage
from forethought.router.sleep.planner import SleepPlanner

LEVEL: Final = SleepLevel()
LEVEL_NAME: Final = LEVEL.name
ARMS: Final = (
    Arm("direct"),
    Arm("effort:low"),
    Arm("effort:high"),
    Arm("learned:low", LEVEL_NAME),
    Arm("learned:high", LEVEL_NAME),
)
N_AWAKE: Final = 3
"""The first arms do without sleep."""

_MODEL: Final = "recorded"


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Q queries on C contexts, of several data sets: what was recorded, in the order of ``ARMS``.

    ``quality`` and ``price`` have shape (Q, A), the price of the answer at sleep-time prices, in
    output tokens; ``context`` (Q,) is each query's place, ``sleep_price`` (C,) what the sleep of
    a context cost. ``awake`` and ``asleep`` (None: sleep found nothing) are the features of each
    query before and after sleep; ``texts`` are those of the contexts.
    """

    query_ids: tuple[str, ...]
    context_ids: tuple[str, ...]
    datasets: tuple[str, ...]
    texts: tuple[str, ...]
    context: Ints
    quality: Floats
    price: Floats
    sleep_price: Floats
    usage: Sequence[Mapping[str, Usage]]
    awake: Sequence[Mapping[str, float]]
    asleep: Sequence[Mapping[str, float] | None]

    def __len__(self) -> int:
        return len(self.query_ids)

    def on(self, kept: NDArray[np.bool_]) -> Cases:
        """The cases on the contexts that ``kept`` (C,) marks."""
        chosen = kept[self.context]
        places, queries = np.flatnonzero(kept).tolist(), np.flatnonzero(chosen).tolist()

        def picked(values: Sequence[Any], these: list[int]) -> Any:
            return [values[i] for i in these]

        return Cases(
            query_ids=tuple(picked(self.query_ids, queries)),
            context_ids=tuple(picked(self.context_ids, places)),
            datasets=tuple(picked(self.datasets, queries)),
            texts=tuple(picked(self.texts, places)),
            context=(np.cumsum(kept) - 1)[self.context[chosen]].astype(np.int64),
            quality=self.quality[chosen],
            price=self.price[chosen],
            sleep_price=self.sleep_price[kept],
            usage=picked(self.usage, queries),
            awake=picked(self.awake, queries),
            asleep=picked(self.asleep, queries),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy got from each query, shape (Q,): quality, and cost with its share of sleep."""

    quality: Floats
    cost: Floats


def outcome(
    cases: Cases, slept: NDArray[np.bool_], chosen: Ints, *, t: float, queries: float
) -> Outcome:
    """Sleep on the contexts that ``slept`` (C,) marks, answer each query by the arm ``chosen``."""
    each = np.arange(len(cases))
    sleep = np.where(slept, cases.sleep_price, 0.0)[cases.context] / queries
    return Outcome(cases.quality[each, chosen], t * cases.price[each, chosen] + sleep)


def read_cases(
    recording: Recording,
    datasets: Sequence[str],
    rows: Sequence[Row],
    texts: Mapping[str, str],
    splits: Sequence[str],
    prices: TokenPrices,
) -> Cases:
    """The queries of ``splits`` that every arm answered; ``rows`` are the training rows."""
    features: dict[tuple[str, str], Mapping[str, float]] = {
        (row["query_id"], row["seen_at"]): {
            k: float("nan") if v is None else v for k, v in row["features"].items()
        }
        for row in rows
    }
    panels = [recording.panel(name, ARMS, splits) for name in datasets]
    places = np.cumsum([0, *(len(panel.context_ids) for panel in panels)])
    ids = tuple(query for panel in panels for query in panel.query_ids)
    contexts = tuple(name for panel in panels for name in panel.context_ids)
    usage = recording.sleep_usage(contexts, LEVEL_NAME)
    return Cases(
        query_ids=ids,
        context_ids=contexts,
        datasets=tuple(name for name, p in zip(datasets, panels, strict=True) for _ in p.query_ids),
        texts=tuple(texts[name] for name in contexts),
        context=np.concatenate(
            [p.context + start for p, start in zip(panels, places[:-1].tolist(), strict=True)]
        ),
        quality=np.vstack([panel.quality for panel in panels]),
        price=np.vstack(
            [prices.of(p.input_tokens, p.cached_tokens, p.output_tokens) for p in panels]
        ),
        sleep_price=prices.of(*usage.T),
        usage=[usage_of for panel in panels for usage_of in _inputs(panel)],
        awake=[features[name, NO_SLEEP] for name in ids],
        asleep=[features.get((name, LEVEL_NAME)) for name in ids],
    )


def _inputs(panel: Panel) -> list[dict[str, Usage]]:
    """What each strategy reads for each query; a router estimates it to a few tokens."""
    return [
        {
            arm.strategy: Usage(
                input_tokens=int(panel.input_tokens[q, a]),
                cached_tokens=int(panel.cached_tokens[q, a]),
            )
            for a, arm in enumerate(panel.arms)
        }
        for q in range(len(panel))
    ]


class Router:
    """The shipped policy at one price: plans sleep and chooses strategies by a bundle.

    Prices are in output tokens at sleep time, so a USD of the router's code is a million of
    these; a token at test time costs ``t`` of them. Waiting is priced by ``t`` alone.
    """

    def __init__(
        self, cases: Cases, bundle: PolicyBundle, prices: TokenPrices, *, t: float
    ) -> None:
        self._cases = cases
        self._bundle = bundle
        self._t = t
        self._prices = Prices(
            input=t * prices.input, cached_input=t * prices.cached, output=t * prices.output
        )
        every: dict[str, str | None] = {arm.strategy: None for arm in ARMS}
        before = {name: None if name in _AWAKE else "no notes" for name in every}
        self._candidates = [
            (
                self._predicted(cases.awake[q], before, cases.usage[q]),
                None if asleep is None else self._predicted(asleep, every, cases.usage[q]),
            )
            for q, asleep in enumerate(cases.asleep)
        ]

    def sleeps(self, value: float, queries: float) -> NDArray[np.bool_]:
        """On which contexts it sleeps (C,), where ``queries`` will come on each of them.

        ``value`` is that of a right answer, in output tokens at sleep time.
        """
        first = np.unique(self._cases.context, return_index=True)[1]
        planner = SleepPlanner(
            decider=Decider(
                extractor=FeatureExtractor(WordLlamaEmbedder()),
                bundle=self._bundle,
                prices=PriceTable(overrides={}),
                preferences=_preferences(value),
            ),
            reader=None,  # type: ignore[arg-type]  # offers() reads no store
            sleeper=None,
            prices=PriceTable(overrides={_MODEL: self._prices}),
            levels=(LEVEL,),
            model=_MODEL,
            price_multiplier=1 / self._t,
        )
        offers = [
            planner.offers(
                Context(id=name, tenant="", hash=name, messages=(), text=text, created_at=0.0),
                self._cases.awake[q],
            )[0]
            for name, text, q in zip(
                self._cases.context_ids, self._cases.texts, first.tolist(), strict=True
            )
        ]
        return np.array([queries * o.saving_per_query_usd > o.cost_usd for o in offers])

    def chooses(self, value: float, slept: NDArray[np.bool_]) -> Ints:
        """The arm for each query (Q,), with the notes where the context slept and found any."""
        preferences = _preferences(value)
        chosen = []
        for q, (awake, asleep) in enumerate(self._candidates):
            notes = asleep if slept[self._cases.context[q]] else None
            valued = [
                c if c.quality is None
                else replace(c, utility=utility(c.quality, cost_usd=c.cost_usd, latency_ms=0.0,
                                                preferences=preferences))
                for c in notes or awake
            ]  # fmt: skip
            best = max(acceptable(valued, preferences), key=lambda c: c.utility or 0.0)
            chosen.append(_PLACE[best.strategy])
        return np.array(chosen, np.int64)

    def _predicted(
        self,
        features: Mapping[str, float],
        excluded: Mapping[str, str | None],
        inputs: Mapping[str, Usage],
    ) -> tuple[Candidate, ...]:
        return predict_candidates(
            self._bundle, features, excluded, inputs, self._prices, _preferences(0.0)
        )


_PLACE: Final = {arm.strategy: i for i, arm in enumerate(ARMS)}
_AWAKE: Final = frozenset(arm.strategy for arm in ARMS[:N_AWAKE])


def _preferences(value: float) -> Preferences:
    # The bound against direct is a floor of quality; here quality has its price.
    return Preferences(value_usd=value / 1e6, latency_usd_per_s=0.0, quality_margin=1.0)


def oracle(cases: Cases, value: float, *, t: float, queries: float) -> Outcome:
    """The best in hindsight: the best arm for every query, and sleep where that pays."""
    worth = value * cases.quality - t * cases.price
    awake, asleep = worth[:, :N_AWAKE], worth
    gain = np.bincount(cases.context, asleep.max(axis=1) - awake.max(axis=1))
    n = np.bincount(cases.context)
    slept = queries * gain / n > cases.sleep_price
    chosen = np.where(slept[cases.context], asleep.argmax(axis=1), awake.argmax(axis=1))
    return outcome(cases, slept, chosen, t=t, queries=queries)


def one_arm_a_context(cases: Cases, value: float, *, t: float, queries: float) -> Outcome:
    """The best in hindsight for who must use one arm for all queries of a context."""
    worth = value * cases.quality - t * cases.price
    n = np.bincount(cases.context)
    each = np.stack([np.bincount(cases.context, column) / n for column in worth.T], axis=1)
    each[:, N_AWAKE:] -= cases.sleep_price[:, None] / queries
    best = each.argmax(axis=1)
    return outcome(cases, best >= N_AWAKE, best[cases.context], t=t, queries=queries)


def fixed(cases: Cases, arm: int, *, t: float, queries: float) -> Outcome:
    """The same arm for every query; every context sleeps for one that reads notes."""
    slept = np.full(len(cases.context_ids), arm >= N_AWAKE)
    return outcome(cases, slept, np.full(len(cases), arm), t=t, queries=queries)
