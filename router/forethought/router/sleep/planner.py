"""Decide when to sleep on a context: forecast, saving, break-even, ski rental.

Before sleep nobody knows what will be learned. So the saving is forecast with the learned
context that contexts of this kind got so far (``Typical``), and with the predictability model
for how often the cheapest learned strategy will be right.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from forethought.router.allocation import SleepPlan, acceptable, plan_sleep, utility
from forethought.router.candidates import predict_candidates
from forethought.router.decision import Decider
from forethought.router.log import LogReader
from forethought.router.pricing import PriceTable, cost
from forethought.router.records import Candidate, Context, SleepLevel, Usage
from forethought.router.sleep import tables
from forethought.router.sleep.workflow import Sleeper
from forethought.router.sleep.writer import estimated_tokens, is_quantitative
from forethought.router.strategies import STRATEGIES

log = logging.getLogger(__name__)

_QUERY_TOKENS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """What sleep at the standard level (three drafts) writes and consumes on one kind of context.

    Medians of bench/recorded without the test split (81 contexts with programs, 58 with
    questions, 28 with tables). Input is ``fixed_input + input_per_context_token * tokens of the
    context``, a draft.
    """

    notes: float
    confidence: float
    verified: float
    tokens: float
    similarity_max: float
    similarity_top3: float
    fixed_input: float
    input_per_context_token: float
    output: float

    def features(self) -> dict[str, float]:
        return {
            "art_notes": self.notes,
            "art_questions": self.notes,
            "art_confidence": self.confidence,
            "art_verified": self.verified,
            "art_tokens": self.tokens,
            "art_similarity_max": self.similarity_max,
            "art_similarity_top3": self.similarity_top3,
        }

    def usage(self, context_tokens: int, level: SleepLevel) -> Usage:
        """Forecast of what a sleep consumes. The drafts of a context share their prompt."""
        scale = level.drafts / 3 + (level.rounds - 1)
        first = self.fixed_input + self.input_per_context_token * context_tokens
        return Usage(
            input_tokens=round(first * scale * 3),
            cached_tokens=round(first * (scale * 3 - 1)) if scale * 3 > 1 else 0,
            output_tokens=round(self.output * scale),
        )


QUANTITIES: Final = Typical(
    notes=9, confidence=0.70, verified=1.0, tokens=280, similarity_max=0.81,
    similarity_top3=0.75, fixed_input=976, input_per_context_token=0.67, output=473,
)  # fmt: skip
QUESTIONS: Final = Typical(
    notes=2, confidence=1.0, verified=0.50, tokens=56, similarity_max=0.42,
    similarity_top3=0.35, fixed_input=115, input_per_context_token=0.60, output=155,
)  # fmt: skip
TABLES: Final = Typical(
    notes=5, confidence=0.91, verified=1.0, tokens=222, similarity_max=0.63,
    similarity_top3=0.37, fixed_input=0, input_per_context_token=0.0, output=0,
)  # fmt: skip


def typical_of(text: str) -> Typical:
    """What is typical of the road that the sleep writer takes on ``text``."""
    if tables.derive(text):
        return TABLES
    return QUANTITIES if is_quantitative(text) else QUESTIONS


class SleepPlanner:
    """Plans sleep per context, and queues it where the plan says so."""

    def __init__(
        self,
        *,
        decider: Decider,
        reader: LogReader,
        sleeper: Sleeper | None,
        prices: PriceTable,
        level: SleepLevel,
        model: str,
        provider_url: str | None = None,
        price_multiplier: float = 1.0,
    ) -> None:
        self._decider = decider
        self._reader = reader
        self._sleeper = sleeper
        self._prices = prices
        self._level = level
        self._model = model
        self._provider_url = provider_url
        self._price_multiplier = price_multiplier

    def plan(self, context: Context, features: Mapping[str, float]) -> SleepPlan:
        """Whether to sleep on ``context`` now; ``features`` are those of its latest query.

        Pure: reads no store and queues nothing. Raises ValueError without a policy or a price.
        """
        bundle, preferences = self._decider.bundle, self._decider.preferences
        prices = self._prices.lookup(self._model, self._provider_url)
        if bundle is None or prices is None:
            what = "policy" if bundle is None else f"price of {self._model}"
            message = f"sleep cannot be planned without a {what}"
            raise ValueError(message)
        typical = typical_of(context.text)
        tokens = estimated_tokens(context.text)
        asleep = {**features, **typical.features()}
        inputs = _inputs(tokens, typical)
        admissible: dict[str, str | None] = dict.fromkeys(STRATEGIES)
        candidates = predict_candidates(bundle, asleep, admissible, inputs, prices, preferences)
        predictability = float(bundle.predictability.predict([features]).mean[0])
        candidates = tuple(
            _with_quality(c, predictability, self._decider) if c.strategy == "learned:low" else c
            for c in candidates
        )
        awake = [c for c in candidates if not c.strategy.startswith("learned")]
        sleep_cost = cost(typical.usage(tokens, self._level), prices) or 0.0
        n = max(1, context.n_queries)
        return plan_sleep(
            n_queries=context.n_queries,
            expected_more=bundle.demand.expected_more(n),
            # In dollars spent, as the sleep's cost is: both stand under the same multiplier.
            saving_per_query_usd=(self._best(candidates) - self._best(awake))
            / preferences.cost_multiplier,
            sleep_cost_usd=sleep_cost * self._price_multiplier,
            trust=preferences.trust,
        )

    def after_reply(self, context: Context, features: Mapping[str, float]) -> SleepPlan | None:
        """Re-plan after a query and queue a sleep where it is bought. Never raises."""
        if self._sleeper is None:
            return None
        try:
            if self._reader.latest_learned(context.id) is not None:
                return None
            plan = self.plan(context, features)
            if plan.buy:
                self._sleeper.enqueue(context, self._level)
        except Exception:
            log.exception("sleep could not be planned for %s", context.id)
            return None
        return plan

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
