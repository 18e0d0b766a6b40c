"""Choose a strategy for a query, and say why.

``Decider.decide`` is the whole path: features, one prediction for all strategies, utilities,
propensities, a draw, a record. It fails open: whatever goes wrong in prediction, the answer
is ``direct``, and the record says so.
"""

from __future__ import annotations

import logging
import math
import random
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from forethought.models.features import (
    FEATURE_VERSION,
    ArtefactFacts,
    ArtefactVector,
    ContextVector,
    FeatureExtractor,
    HistoryFacts,
    RequestFacts,
    matrix,
)
from forethought.router.allocation import Preferences, utility, with_propensities
from forethought.router.pricing import Prices, PriceTable, cost
from forethought.router.records import (
    Candidate,
    Context,
    Decision,
    LearnedContext,
    LoggedDecision,
    Usage,
)
from forethought.router.strategies import BY_NAME, RECALL, STRATEGIES, Request
from forethought.router.strategies.effort import unasked_reason

if TYPE_CHECKING:
    from forethought.models.bundle import PolicyBundle

log = logging.getLogger(__name__)

CHARS_PER_TOKEN: Final = 4.0
"""Length of a token before the upstream has counted it (English; GPT and Qwen vocabularies)."""

_CACHED: Final = 4096

V = TypeVar("V")
Mode = Literal["greedy", "explored", "forced", "recalled", "fallback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that is known when a strategy is chosen."""

    tenant: str
    model: str
    request: Request
    context: Context | None
    now: float
    forced: str | None = None
    provider_url: str | None = None


class _Cache(Generic[V]):
    """Least recently used values by key."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, V] = OrderedDict()

    def get(self, key: str, make: Callable[[], V]) -> V:
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = make()
            if len(self._values) > self._limit:
                self._values.popitem(last=False)
        else:
            self._values.move_to_end(key)
        return value


class Decider:
    """Chooses strategies by a policy. ``bundle`` may be replaced between two decisions."""

    def __init__(
        self,
        *,
        extractor: FeatureExtractor,
        bundle: PolicyBundle | None,
        prices: PriceTable,
        preferences: Preferences,
        rng: random.Random | None = None,
    ) -> None:
        self.bundle = bundle
        self.preferences = preferences
        self._extractor = extractor
        self._prices = prices
        self._rng = rng or random.Random()
        self._contexts: _Cache[ContextVector] = _Cache(_CACHED)
        self._artefacts: _Cache[ArtefactVector] = _Cache(_CACHED)

    @property
    def policy_version(self) -> str:
        return "none" if self.bundle is None else self.bundle.version

    def decide(self, situation: Situation) -> Decision:
        """Choose a strategy for ``situation``; never raises for a prediction's sake.

        Raises:
            ValueError: ``situation.forced`` is no strategy, or one that cannot serve the request.
        """
        excluded = _excluded(situation.request)
        features = self._features_if_any(situation)
        if situation.forced is not None:
            return self._forced(situation, situation.forced, excluded, features)
        if _recalls(situation.request):
            return self._certain(
                situation,
                RECALL.name,
                {**excluded, RECALL.name: None},
                features,
                mode="recalled",
                reason="recall: a checked note that all drafts agree on asks this very question.",
            )
        excluded = _left_to_the_client(situation.request, excluded)
        if not features:
            return self._fallback(situation, features, "the features could not be computed")
        bundle = self.bundle
        if bundle is None:
            return self._fallback(situation, features, "no policy is loaded")
        try:
            prices = self._prices.lookup(situation.model, situation.provider_url)
            candidates = predict_candidates(
                bundle, features, excluded, self._inputs(situation), prices, self.preferences
            )
            candidates = with_propensities(candidates, self.preferences)
            predictability = float(bundle.predictability.predict([features]).mean[0])
            seen = situation.context.n_queries if situation.context else 0
            expected = seen + 1 + bundle.demand.expected_more(seen + 1)
        except Exception:
            log.exception("prediction failed; falling back to direct")
            return self._fallback(situation, features, "the prediction failed")
        chosen = self._rng.choices(candidates, [c.propensity for c in candidates])[0]
        greedy = max(candidates, key=lambda c: c.propensity)
        return self._record(
            situation,
            chosen=chosen,
            candidates=candidates,
            features=features,
            mode="greedy" if chosen is greedy else "explored",
            policy_version=bundle.version,
            reason=_why(chosen, greedy, candidates),
            predictability=predictability if situation.context else None,
            expected_queries=expected if situation.context else None,
        )

    def fall_back(self, situation: Situation, why: str) -> Decision:
        """``direct``, because of a failure outside the decision; ``why`` goes into the record."""
        return self._fallback(situation, self._features_if_any(situation), why)

    def features(self, situation: Situation) -> dict[str, float]:
        """The features of a situation by name, without the strategy's own."""
        split, context = situation.request.split, situation.context
        vector = None
        if split.boundary is not None:
            vector = self._contexts.get(
                split.boundary.hash, lambda: self._extractor.context(split.context_text)
            )
        learned = situation.request.learned
        artefact = None
        if learned is not None:
            artefact = self._artefacts.get(
                learned.id, lambda: self._extractor.artefact(artefact_facts(learned))
            )
        body = situation.request.body
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        history = HistoryFacts()
        if context is not None:
            since = {}
            if context.last_query_at is not None:
                since = {"seconds_since_last": max(0.0, situation.now - context.last_query_at)}
            history = HistoryFacts(
                n_queries=context.n_queries,
                age_s=max(0.0, situation.now - context.created_at),
                **since,
            )
        return self._extractor.decision(
            vector,
            split.query,
            artefact,
            history,
            RequestFacts(
                max_tokens=limit if isinstance(limit, int) else None,
                n_messages=len(body["messages"]),
                stream=bool(body.get("stream")),
            ),
        )

    def _features_if_any(self, situation: Situation) -> dict[str, float]:
        try:
            return self.features(situation)
        except Exception:
            log.exception("the features could not be computed")
            return {}

    def _inputs(self, situation: Situation) -> dict[str, Usage]:
        """Input tokens by strategy, before the upstream has counted them."""
        split, learned = situation.request.split, situation.request.learned
        prefix = 0 if split.boundary is None else round(split.boundary.size / CHARS_PER_TOKEN)
        query = round(len(split.query) / CHARS_PER_TOKEN) + 8
        again = situation.context is not None and situation.context.n_queries > 0
        notes = learned.tokens if learned is not None else 0
        plain = Usage(input_tokens=prefix + query, cached_tokens=prefix if again else 0)
        reading = Usage(
            input_tokens=prefix + notes + query, cached_tokens=prefix + notes if again else 0
        )
        return {n: reading if n.startswith("learned") else plain for n in STRATEGIES}

    def _forced(
        self,
        situation: Situation,
        name: str,
        excluded: Mapping[str, str | None],
        features: dict[str, float],
    ) -> Decision:
        strategy = BY_NAME.get(name)
        why_not = strategy.excluded(situation.request) if strategy else "there is no such strategy"
        if why_not is not None:
            message = f"{name} cannot be forced: {why_not}"
            raise ValueError(message)
        return self._certain(
            situation,
            name,
            {**excluded, name: None},
            features,
            mode="forced",
            reason=f"The request asked for {name}.",
        )

    def _fallback(self, situation: Situation, features: dict[str, float], why: str) -> Decision:
        return self._certain(
            situation,
            "direct",
            _excluded(situation.request),
            features,
            mode="fallback",
            reason=f"direct, because {why}.",
        )

    def _certain(
        self,
        situation: Situation,
        name: str,
        excluded: Mapping[str, str | None],
        features: dict[str, float],
        *,
        mode: Mode,
        reason: str,
    ) -> Decision:
        candidates = tuple(
            Candidate(strategy=n, propensity=float(n == name), excluded=why)
            for n, why in excluded.items()
        )
        return self._record(
            situation,
            chosen=next(c for c in candidates if c.strategy == name),
            candidates=candidates,
            features=features,
            mode=mode,
            policy_version=self.policy_version,
            reason=reason,
        )

    def _record(
        self,
        situation: Situation,
        *,
        chosen: Candidate,
        candidates: tuple[Candidate, ...],
        features: dict[str, float],
        mode: Mode,
        policy_version: str,
        reason: str,
        predictability: float | None = None,
        expected_queries: float | None = None,
    ) -> Decision:
        learned = situation.request.learned
        return Decision(
            id=f"dec_{secrets.token_hex(12)}",
            created_at=situation.now,
            tenant=situation.tenant,
            context_id=situation.context.id if situation.context else None,
            learned_context_id=learned.id if learned else None,
            query=situation.request.split.query,
            model=situation.model,
            strategy=chosen.strategy,
            propensity=chosen.propensity,
            mode=mode,
            policy_version=policy_version,
            feature_version=FEATURE_VERSION,
            features=features,
            candidates=candidates,
            predictability=predictability,
            expected_queries=expected_queries,
            reason=reason,
        )


def _excluded(request: Request) -> dict[str, str | None]:
    return {name: strategy.excluded(request) for name, strategy in STRATEGIES.items()}


def _recalls(request: Request) -> bool:
    try:
        return RECALL.excluded(request) is None
    except Exception:
        log.exception("the notes could not be searched; asking the model")
        return False


def _left_to_the_client(
    request: Request, excluded: Mapping[str, str | None]
) -> dict[str, str | None]:
    """``excluded`` and the strategies that only the client itself may ask for here."""
    why = unasked_reason(request)
    return {n: reason or (None if n == "direct" else why) for n, reason in excluded.items()}


def artefact_facts(learned: LearnedContext) -> ArtefactFacts:
    """What the features need of a learned context."""
    notes = learned.notes
    return ArtefactFacts(
        n_notes=len(notes),
        n_questions=sum(1 for n in notes if n.answer is not None),
        mean_confidence=sum(n.confidence for n in notes) / len(notes) if notes else 0.0,
        verified_share=len(notes) / (len(notes) + learned.dropped) if notes else 0.0,
        tokens=learned.tokens,
        questions=tuple(n.text for n in notes if n.answer is not None),
    )


def predict_candidates(
    bundle: PolicyBundle,
    features: Mapping[str, float],
    excluded: Mapping[str, str | None],
    inputs: Mapping[str, Usage],
    prices: Prices | None,
    preferences: Preferences,
) -> tuple[Candidate, ...]:
    """Predict every admissible strategy's outcome and utility, in one call a head.

    Raises ValueError where a prediction is not finite.
    """
    names = [n for n, why in excluded.items() if why is None]
    predicted = bundle.outcome.predict(matrix([features] * len(names), names))
    found: dict[str, Candidate] = {}
    for i, name in enumerate(names):
        quality, tokens = float(predicted.quality[i]), float(predicted.tokens[i])
        latency_ms = float(predicted.latency_ms[i])
        if not math.isfinite(quality + tokens + latency_ms):
            message = f"the prediction for {name} is not finite"
            raise ValueError(message)
        spent = cost(replace(inputs[name], output_tokens=round(tokens)), prices)
        found[name] = Candidate(
            strategy=name,
            quality=quality,
            output_tokens=tokens,
            cost_usd=spent,
            latency_ms=latency_ms,
            utility=utility(
                quality, cost_usd=spent, latency_ms=latency_ms, preferences=preferences
            ),
        )
    return tuple(
        found.get(name) or Candidate(strategy=name, excluded=why) for name, why in excluded.items()
    )


def target_probabilities(
    logged: LoggedDecision,
    bundle: PolicyBundle,
    preferences: Preferences,
    prices: Prices | None,
) -> dict[str, float]:
    """With which probability ``bundle`` would have chosen each strategy for a logged decision.

    The input tokens are those of the logged candidates; only what the bundle predicts changes.
    """
    decision = logged.decision
    excluded = {c.strategy: c.excluded for c in decision.candidates}
    repriced = predict_candidates(
        bundle, decision.features, excluded, {n: Usage() for n in excluded}, prices, preferences
    )
    before = {c.strategy: c for c in decision.candidates}
    with_input = [
        replace(c, utility=c.utility - _input_cost(before[c.strategy], prices))
        if c.utility is not None
        else c
        for c in repriced
    ]
    return {c.strategy: c.propensity for c in with_propensities(with_input, preferences)}


def _input_cost(candidate: Candidate, prices: Prices | None) -> float:
    if candidate.cost_usd is None or candidate.output_tokens is None or prices is None:
        return 0.0
    output = cost(Usage(output_tokens=round(candidate.output_tokens)), prices) or 0.0
    return max(0.0, candidate.cost_usd - output)


def _why(chosen: Candidate, greedy: Candidate, candidates: Sequence[Candidate]) -> str:
    said = f"{chosen.strategy}: {_predicted(chosen)}"
    if chosen is not greedy:
        return (
            f"{said}. Drawn to explore, with propensity {chosen.propensity:.3f}; "
            f"the policy's own choice was {greedy.strategy} ({_predicted(greedy)})."
        )
    direct = next(c for c in candidates if c.strategy == "direct")
    against = "" if chosen is direct else f", against {_predicted(direct)} for direct"
    left = [f"{c.strategy}: {c.excluded}" for c in candidates if c.excluded is not None]
    out = f" Left out: {'; '.join(left)}." if left else ""
    return f"{said}{against}; the best utility within the quality bound.{out}"


def _predicted(candidate: Candidate) -> str:
    if candidate.quality is None:
        return "nothing predicted"
    spent = "unknown cost" if candidate.cost_usd is None else f"{candidate.cost_usd:.6f} USD"
    return (
        f"{candidate.quality:.0%} right expected at {candidate.output_tokens:.0f} output tokens, "
        f"{spent}, {(candidate.latency_ms or 0) / 1000:.1f} s"
    )
