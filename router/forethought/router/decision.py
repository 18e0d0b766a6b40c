"""Choose a strategy for a query, and say why.

``Decider.decide`` is the whole path: features, one prediction for all strategies, utilities,
propensities, a draw, a record. It fails open: whatever goes wrong in prediction, the answer
is ``direct``, and the record says so.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, Literal

from forethought.models.features import (
    FEATURE_VERSION,
    FeatureExtractor,
)
from forethought.router.allocation import Preferences, preferred, propensities
from forethought.router.blending import Blending
from forethought.router.candidates import candidates_of
from forethought.router.experience import Experience
from forethought.router.pricing import PriceTable
from forethought.router.records import (
    Candidate,
    Decision,
    new_decision_id,
)
from forethought.router.situation import Situation, SituationFeatures, expected_inputs
from forethought.router.strategies import BY_NAME, RECALL, STRATEGIES, Request
from forethought.router.strategies.effort import unasked_reason

if TYPE_CHECKING:
    from forethought.models.bundle import PolicyBundle

log = logging.getLogger(__name__)

Mode = Literal["greedy", "explored", "forced", "recalled", "fallback"]

_PREFERENCES: Final = tuple(field.name for field in fields(Preferences))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Predicted:
    """What a policy foresees for a situation."""

    policy_version: str
    candidates: tuple[Candidate, ...]
    predictability: float | None
    predictability_low: float | None
    predictability_high: float | None
    expected_queries: float | None


class Decider:
    """Chooses strategies by a policy. ``bundle`` may be replaced between two decisions.

    ``blending`` moves its predictions by what tenants' own answers say; None: nothing does.
    """

    def __init__(
        self,
        *,
        extractor: FeatureExtractor,
        bundle: PolicyBundle | None,
        prices: PriceTable,
        preferences: Preferences,
        rng: random.Random | None = None,
        experience: Experience | None = None,
        blending: Blending | None = None,
    ) -> None:
        self.bundle = bundle
        self.blending = blending
        self.preferences = preferences
        self._features = SituationFeatures(extractor, experience)
        self._prices = prices
        self._rng = rng or random.Random()

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
                _left_to_the_client(situation.request, excluded),
                features,
                mode="recalled",
                reason="recall: a checked note that all drafts agree on asks this very question.",
            )
        excluded = _left_to_the_client(situation.request, excluded)
        if not features:
            return self._fallback(situation, features, "the features could not be computed")
        bundle, preferences = self.bundle, self.preferences
        if bundle is None:
            return self._fallback(situation, features, "no policy is loaded")
        try:
            foreseen = self._predict(bundle, situation, features, excluded, preferences)
            candidates = foreseen.candidates
            for candidate, p in zip(candidates, propensities(candidates, preferences), strict=True):
                candidate.settle(p)
            own = preferred(candidates, preferences)
        except Exception:
            log.exception("prediction failed; falling back to direct")
            return self._fallback(
                situation, features, "the prediction failed", version=bundle.version
            )
        chosen = self._rng.choices(candidates, [c.propensity for c in candidates])[0]
        greedy = next(c for c in candidates if c.strategy == own)
        return self._record(
            situation,
            chosen=chosen,
            candidates=candidates,
            features=features,
            mode="greedy" if chosen is greedy else "explored",
            preferences=preferences,
            reason=_why(chosen, greedy, candidates),
            foreseen=foreseen,
        )

    def fall_back(self, situation: Situation, why: str) -> Decision:
        """``direct``, because of a failure outside the decision; ``why`` goes into the record."""
        return self._certain(
            situation,
            "direct",
            _left_to_the_client(situation.request, _excluded(situation.request)),
            self._features_if_any(situation),
            mode="fallback",
            reason=f"direct, because {why}.",
        )

    def features(self, situation: Situation) -> dict[str, float]:
        """The features of a situation by name, without the strategy's own."""
        return self._features.of(situation)

    def _features_if_any(self, situation: Situation) -> dict[str, float]:
        try:
            return self._features.of(situation)
        except Exception:
            log.exception("the features could not be computed")
            return {}

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
            _left_to_the_client(situation.request, excluded),
            features,
            mode="forced",
            reason=f"The request asked for {name}.",
        )

    def _fallback(
        self,
        situation: Situation,
        features: dict[str, float],
        why: str,
        *,
        version: str | None = None,
    ) -> Decision:
        unpredicted = tuple(
            Candidate(strategy=n, propensity=float(n == "direct"), excluded=reason)
            for n, reason in _excluded(situation.request).items()
        )
        return self._record(
            situation,
            chosen=next(c for c in unpredicted if c.strategy == "direct"),
            candidates=unpredicted,
            features=features,
            mode="fallback",
            preferences=self.preferences,
            reason=f"direct, because {why}.",
            policy_version=version or self.policy_version,
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
        """``name`` without a draw, and what the policy foresees, as far as it can be had.

        ``excluded`` says what the policy itself could not have chosen.
        """
        bundle, preferences = self.bundle, self.preferences
        foreseen = None
        if bundle is not None and features:
            try:
                foreseen = self._predict(
                    bundle, situation, features, {**excluded, name: None}, preferences
                )
            except Exception:
                log.exception("prediction failed; %s is served all the same", name)
        known = {} if foreseen is None else {c.strategy: c for c in foreseen.candidates}
        candidates = {
            n: replace(
                found := known.get(n, Candidate(strategy=n)),
                propensity=0.0,
                excluded=why or found.excluded,
            )
            for n, why in excluded.items()
        }
        chosen = candidates.get(name, Candidate(strategy=name))
        if chosen.excluded is not None:  # it serves, but no policy could have chosen it
            chosen = replace(chosen, excluded=None, utility=None)
        chosen = candidates[name] = replace(chosen, propensity=1.0)
        return self._record(
            situation,
            chosen=chosen,
            candidates=tuple(candidates.values()),
            features=features,
            mode=mode,
            preferences=preferences,
            reason=reason,
            foreseen=foreseen,
            policy_version="none" if bundle is None else bundle.version,
        )

    def _predict(
        self,
        bundle: PolicyBundle,
        situation: Situation,
        features: dict[str, float],
        excluded: Mapping[str, str | None],
        preferences: Preferences,
    ) -> _Predicted:
        """Predict what can be predicted: strategies that only a client asks for cannot."""
        prices = self._prices.lookup(situation.model, situation.provider_url)
        predictable = {n: why for n, why in excluded.items() if n in STRATEGIES}
        offsets = None
        if self.blending is not None:
            offsets = self.blending.of(bundle.version, situation.tenant, situation.model)
        foresight = bundle.foresee(features)
        candidates = candidates_of(
            foresight.outcome, predictable, expected_inputs(situation), prices, preferences, offsets
        )
        found = foresight.predictability
        context = situation.context
        seen = 0 if context is None else context.n_queries
        expected = seen + 1 + bundle.demand.expected_more(seen + 1)
        return _Predicted(
            policy_version=bundle.version,
            candidates=candidates,
            predictability=None if context is None else float(found.mean[0]),
            predictability_low=None if context is None else float(found.low[0]),
            predictability_high=None if context is None else float(found.high[0]),
            expected_queries=None if context is None else expected,
        )

    def _record(
        self,
        situation: Situation,
        *,
        chosen: Candidate,
        candidates: tuple[Candidate, ...],
        features: dict[str, float],
        mode: Mode,
        preferences: Preferences,
        reason: str,
        foreseen: _Predicted | None = None,
        policy_version: str = "none",
    ) -> Decision:
        learned = situation.request.learned
        return Decision(
            id=new_decision_id(situation.now),
            created_at=situation.now,
            tenant=situation.tenant,
            context_id=situation.context.id if situation.context else None,
            learned_context_id=learned.id if learned else None,
            query=situation.request.split.query,
            model=situation.model,
            strategy=chosen.strategy,
            propensity=chosen.propensity,
            mode=mode,
            policy_version=policy_version if foreseen is None else foreseen.policy_version,
            feature_version=FEATURE_VERSION,
            features=features,
            candidates=candidates,
            predictability=None if foreseen is None else foreseen.predictability,
            predictability_low=None if foreseen is None else foreseen.predictability_low,
            predictability_high=None if foreseen is None else foreseen.predictability_high,
            expected_queries=None if foreseen is None else foreseen.expected_queries,
            reason=reason,
            preferences={name: getattr(preferences, name) for name in _PREFERENCES},
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
