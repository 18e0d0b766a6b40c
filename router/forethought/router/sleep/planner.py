"""Decide when to sleep on a context, how much, and at which price tier.

Before sleep nobody knows what will be learned. So the saving of each level is forecast with the
learned context that contexts of this kind got so far (``typical``), and with the predictability
model for how often the cheapest learned strategy will be right. What to buy, and when, is then
ski rental with the forecast of the queries to come (``tiers``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from forethought.router import catalogue, tiers
from forethought.router.allocation import acceptable, quality_bound, utility
from forethought.router.candidates import predict_candidates
from forethought.router.decision import Decider
from forethought.router.log import LogReader
from forethought.router.pricing import STANDARD_TIERS, Prices, PriceTable, cost
from forethought.router.records import Candidate, Context, LearnedContext, SleepLevel, Usage
from forethought.router.sleep.plan_explanation import Planning
from forethought.router.sleep.starting import Sleeps
from forethought.router.sleep.typical import Typical, road_of, typical_of, usage_of
from forethought.router.sleep.writer import estimated_tokens
from forethought.router.strategies import STRATEGIES
from forethought.router.tiers import LEVELS, STANDARD, Offer, Tier, TieredPlan

if TYPE_CHECKING:
    from forethought.models.bundle import PolicyBundle

log = logging.getLogger(__name__)

_UNDER_WAY: Final = frozenset({"queued", "running"})

_QUERY_TOKENS: Final = 30

_QUALITY_SPREAD: Final = 0.09
"""Of the quality predicted for learned:low once the notes are there, less direct's, around what is
predicted before: its standard deviation was 0.07 to 0.11 by data set and level on the validation
contexts of bench/recorded."""

_HOSTED_TOKENS_PER_S: Final = 50.0
"""Output speed of a model that is not in the catalogue: the order of hosted ones; assumed."""


class SleepPlanner:
    """Plans sleep per context, and queues it where the plan says so.

    It chooses from ``levels``, and from the standard price tier and those of ``tier_waits_s``: by
    how many seconds later a sleep is ready at each. A tier without a known price is left out.
    ``price_multiplier`` is what a sleep token costs against the list price.
    """

    def __init__(
        self,
        *,
        decider: Decider,
        reader: LogReader,
        sleeper: Sleeps | None,
        prices: PriceTable,
        model: str,
        levels: Sequence[SleepLevel] = LEVELS,
        tier_waits_s: Mapping[str, float] | None = None,
        provider_url: str | None = None,
        price_multiplier: float = 1.0,
    ) -> None:
        self._decider = decider
        self._reader = reader
        self._sleeper = sleeper
        self._prices = prices
        self._model = model
        self._levels = tuple(levels)
        self._tier_waits_s = dict(tier_waits_s or {})
        self._provider_url = provider_url
        self._price_multiplier = price_multiplier
        known = catalogue.MODELS.get(model)
        self._tokens_per_s = known.decode_tokens_per_s if known else _HOSTED_TOKENS_PER_S

    def plan(
        self,
        context: Context,
        features: Mapping[str, float],
        *,
        learned: LearnedContext | None = None,
        idle_s: float = 0.0,
    ) -> TieredPlan:
        """Whether to sleep on ``context`` now; ``features`` are those of its latest query.

        Where it was ``learned`` before, whether to sleep more: only what a higher level saves
        beyond that counts. ``idle_s`` is how long ago the latest query was. Pure: reads no store
        and queues nothing. Raises ValueError without a policy or a price.
        """
        return self.planning(context, features, learned=learned, idle_s=idle_s).plan()

    def planning(
        self,
        context: Context,
        features: Mapping[str, float],
        *,
        learned: LearnedContext | None = None,
        idle_s: float = 0.0,
    ) -> Planning:
        """All that ``plan`` follows from, of which it can be explained; arguments as there."""
        bundle, prices = self._policy()
        offers = self.offers(context, features, learned=learned)
        return Planning(
            options=tuple(tiers.options(offers, self._price_tiers(prices))),
            forecast=bundle.demand,
            n_queries=context.n_queries,
            trust=self._decider.preferences.trust,
            idle_s=idle_s,
        )

    def offers(
        self,
        context: Context,
        features: Mapping[str, float],
        *,
        learned: LearnedContext | None = None,
    ) -> list[Offer]:
        """What each level costs at the standard tier and saves, beyond what was ``learned``.

        Raises ValueError without a policy or a price.
        """
        bundle, prices = self._policy()
        road, tokens = road_of(context.text), estimated_tokens(context.text)
        # A table's notes are derived, not thought: every level writes the same.
        levels = self._levels[:1] if road == "tables" else self._levels
        had = None if learned is None else SleepLevel.named(learned.level)
        if learned is not None and had is not None:
            # Sleep that found nothing would find little more.
            levels = tuple(x for x in levels if _is_more(x, had)) if learned.notes else ()
        predictability = float(bundle.predictability.predict([features]).mean[0])

        def saving(level: SleepLevel) -> float:
            typical = typical_of(road, level)
            return self._saving(bundle, prices, features, predictability, typical, tokens)

        now = 0.0 if had is None or not levels else saving(had)
        found = []
        for level in levels:
            spent = usage_of(road, level, tokens)
            found.append(
                Offer(
                    level=level,
                    cost_usd=(cost(spent, prices) or 0.0) * self._price_multiplier,
                    saving_per_query_usd=saving(level) - now,
                    duration_s=spent.output_tokens / self._tokens_per_s,
                )
            )
        return found

    def after_reply(self, context: Context, features: Mapping[str, float]) -> TieredPlan | None:
        """Re-plan after a query and queue a sleep where it is bought. Never raises."""
        if self._sleeper is None:
            return None
        try:
            if self._sleeper.status(context.id) in _UNDER_WAY:
                return None
            learned = self._reader.latest_learned(context.id)
            plan = self.plan(context, features, learned=learned)
            if plan.buy and plan.level is not None:
                self._sleeper.enqueue(context, SleepLevel.named(plan.level), tier=plan.tier)
        except Exception:
            log.exception("sleep could not be planned for %s", context.id)
            return None
        return plan

    def _policy(self) -> tuple[PolicyBundle, Prices]:
        bundle = self._decider.bundle
        prices = self._prices.lookup(self._model, self._provider_url)
        if bundle is None or prices is None:
            what = "policy" if bundle is None else f"price of {self._model}"
            message = f"sleep cannot be planned without a {what}"
            raise ValueError(message)
        return bundle, prices

    def _price_tiers(self, standard: Prices) -> list[Tier]:
        found = [STANDARD]
        for name, wait_s in self._tier_waits_s.items():
            prices = self._prices.lookup(self._model, self._provider_url, name)
            if name in STANDARD_TIERS or prices is None:
                continue
            multiplier = prices.output / standard.output if standard.output else 1.0
            found.append(Tier(name=name, price_multiplier=multiplier, wait_s=wait_s))
        return found

    def _saving(
        self,
        bundle: PolicyBundle,
        prices: Prices,
        features: Mapping[str, float],
        predictability: float,
        typical: Typical,
        context_tokens: int,
    ) -> float:
        """How much better a query is answered with such a learned context, in dollars spent.

        The sleep's cost is in dollars too: both stand under the same multiplier.
        """
        preferences = self._decider.preferences
        admissible: dict[str, str | None] = dict.fromkeys(STRATEGIES)
        asleep = {**features, **typical.features()}
        inputs = _inputs(context_tokens, typical)
        candidates = predict_candidates(bundle, asleep, admissible, inputs, prices, preferences)
        low = next(c for c in candidates if c.strategy == "learned:low")
        rest = [c for c in candidates if c is not low]
        awake = [c for c in rest if not c.strategy.startswith("learned")]
        # Whether it will be taken is the outcome model's say, once the notes are there.
        bound = quality_bound(candidates, preferences)
        chance = _normal_cdf(((low.quality or 0.0) - bound) / _QUALITY_SPREAD)
        # How often it will be right then, the predictability model knows best.
        right = min(1.0, max(0.0, predictability + typical.quality_gain))
        otherwise = self._best(rest)
        taken = max(otherwise, _with_quality(low, right, self._decider).utility or 0.0)
        better = chance * taken + (1.0 - chance) * otherwise - self._best(awake)
        return better / preferences.cost_multiplier

    def _best(self, candidates: Sequence[Candidate]) -> float:
        held = acceptable(candidates, self._decider.preferences)
        return max(c.utility or 0.0 for c in held)


def _inputs(context_tokens: int, typical: Typical) -> dict[str, Usage]:
    """Input of a later query by strategy: the prefix is cached by then."""
    plain = Usage(input_tokens=context_tokens + _QUERY_TOKENS, cached_tokens=context_tokens)
    notes = round(typical.tokens)
    reading = Usage(
        input_tokens=context_tokens + notes + _QUERY_TOKENS, cached_tokens=context_tokens + notes
    )
    return {name: reading if name.startswith("learned") else plain for name in STRATEGIES}


def _with_quality(candidate: Candidate, quality: float, decider: Decider) -> Candidate:
    return replace(
        candidate,
        quality=quality,
        utility=utility(
            quality,
            cost_usd=candidate.cost_usd,
            latency_ms=candidate.latency_ms or 0.0,
            preferences=decider.preferences,
        ),
    )


def _is_more(level: SleepLevel, than: SleepLevel) -> bool:
    return level != than and level.drafts >= than.drafts and level.rounds >= than.rounds


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))
