"""Logged decisions whose truth is known: drawn by a known policy, graded by a known chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from forethought.models.features import DECISION_FEATURES, FEATURE_VERSION
from forethought.router.records import Candidate, Decision, Feedback, LoggedDecision, Outcome, Usage

STRATEGIES = ("direct", "effort:low", "effort:high", "learned:low", "learned:high")
EXPLORING: dict[str, float] = {
    "direct": 0.4,
    "effort:low": 0.15,
    "effort:high": 0.15,
    "learned:low": 0.15,
    "learned:high": 0.15,
}
TOKENS = {"direct": 120, "effort:low": 12, "effort:high": 300, "learned:low": 12}
EQUAL: dict[str, float] = dict.fromkeys(STRATEGIES, 0.5)
LEARNED_HELPS: dict[str, float] = EQUAL | {"direct": 0.1, "learned:low": 0.95}


def make_log(
    n_contexts: int,
    *,
    seed: int,
    right: Mapping[str, float] = LEARNED_HELPS,
    queries_per_context: int = 4,
    propensities: Mapping[str, float] = EXPLORING,
    name: str = "ctx",
) -> list[LoggedDecision]:
    """``right``: how often each strategy is right; contexts differ by up to 0.05."""
    rng = np.random.default_rng(seed)
    names = list(propensities)
    log: list[LoggedDecision] = []
    for context in range(n_contexts):
        shift = float(rng.uniform(-0.05, 0.05))
        for _ in range(queries_per_context):
            strategy = names[int(rng.choice(len(names), p=list(propensities.values())))]
            answered = make_logged(
                len(log),
                context_id=f"{name}_{seed}_{context}",
                strategy=strategy,
                propensities=propensities,
                features={f.name: float(rng.normal()) for f in DECISION_FEATURES},
            )
            quality = float(rng.random() < right[strategy] + shift)
            log.append(judged(answered, quality))
    return log


def make_logged(
    n: int,
    *,
    context_id: str | None = "ctx_0",
    strategy: str = "direct",
    propensities: Mapping[str, float] = EXPLORING,
    features: Mapping[str, float] | None = None,
    **changes: object,
) -> LoggedDecision:
    tokens = TOKENS.get(strategy, 250)
    decision = Decision(
        id=f"dec_{context_id}_{n}",
        created_at=1_000.0 + n,
        tenant="acme",
        context_id=context_id,
        learned_context_id=None,
        query="How many?",
        model="qwen2.5-coder-1.5b",
        strategy=strategy,
        propensity=propensities[strategy],
        mode="explored",
        policy_version="aaaaaaaaaaaa",
        feature_version=FEATURE_VERSION,
        features=dict(features or {"ctx_chars": 100.0}),
        candidates=tuple(
            Candidate(strategy=name, propensity=p, cost_usd=1e-6 * TOKENS.get(name, 250))
            for name, p in propensities.items()
        ),
        predictability=None,
        expected_queries=None,
        reason="",
    )
    outcome = Outcome(
        decision_id=decision.id,
        status="ok",
        http_status=200,
        usage=Usage(input_tokens=200, output_tokens=tokens),
        cost_usd=1e-6 * tokens,
        latency_ms=20.0 * tokens,
    )
    return LoggedDecision(decision=replace(decision, **changes), outcome=outcome)  # type: ignore[arg-type]


def judged(logged: LoggedDecision, quality: float) -> LoggedDecision:
    given = Feedback(
        id=f"fb_{logged.decision.id}",
        decision_id=logged.decision.id,
        created_at=logged.decision.created_at + 1,
        quality=quality,
    )
    return replace(logged, quality=quality, feedback=(given,))


def always(strategy: str, names: Sequence[str] = STRATEGIES) -> dict[str, float]:
    return {name: float(name == strategy) for name in names}
