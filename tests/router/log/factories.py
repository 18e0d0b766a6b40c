"""Records with every field set, so that a column that is lost or swapped shows."""

from __future__ import annotations

from typing import Any

from forethought.router.records import (
    Candidate,
    Context,
    Decision,
    Feedback,
    LearnedContext,
    Note,
    Outcome,
    Usage,
)

TENANT = "acme"

_USAGE = Usage(
    input_tokens=120,
    cached_tokens=80,
    cache_write_tokens=20,
    cache_write_1h_tokens=5,
    output_tokens=12,
    reasoning_tokens=3,
)


def make_context(n: int = 0, **changes: Any) -> Context:
    values: dict[str, Any] = {
        "id": f"ctx_{n}",
        "tenant": TENANT,
        "hash": f"hash_{n}",
        "messages": ({"role": "system", "content": f"Ann has {n} apples.", "x_unknown": [1]},),
        "text": f"Ann has {n} apples.",
        "created_at": 1_000.0 + n,
    }
    return Context(**(values | changes))


def make_learned(n: int = 0, **changes: Any) -> LearnedContext:
    values: dict[str, Any] = {
        "id": f"lc_{n}",
        "context_id": "ctx_0",
        "version": n + 1,
        "level": "k2r1",
        "model": "small",
        "notes": (
            Note(kind="computed", text="apples", answer="7", derivation="3 + 4", confidence=0.5),
            Note(kind="inference", text="Ann likes apples.", verified=True),
        ),
        "text": "apples = 7",
        "tokens": 5,
        "usage": _USAGE,
        "cost_usd": None,
        "created_at": 2_000.0 + n,
        "dropped": 2,
    }
    return LearnedContext(**(values | changes))


def make_decision(n: int = 0, **changes: Any) -> Decision:
    values: dict[str, Any] = {
        "id": f"dec_{n}",
        "created_at": 3_000.0 + n,
        "tenant": TENANT,
        "context_id": "ctx_0",
        "learned_context_id": "lc_0",
        "query": "How many apples?",
        "model": "small",
        "strategy": "direct",
        "propensity": 0.9,
        "mode": "greedy",
        "policy_version": "a1b2",
        "feature_version": "1",
        "features": {"query_words": 3.0, "context_words": 4.25},
        "candidates": (
            Candidate(strategy="direct", quality=0.5, cost_usd=0.1, utility=0.2, propensity=0.9),
            Candidate(strategy="learned:low", excluded="nothing is learned yet"),
        ),
        "predictability": 0.25,
        "expected_queries": 1.5,
        "reason": "the cheapest that holds the floor",
        "changes": ("temperature",),
        "preferences": {"value_usd": 0.002, "exploration": 0.05},
        "predictability_low": 0.125,
        "predictability_high": 0.5,
    }
    return Decision(**(values | changes))


def make_outcome(n: int = 0, **changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "decision_id": f"dec_{n}",
        "status": "ok",
        "http_status": 200,
        "usage": _USAGE,
        "cost_usd": 0.002,
        "latency_ms": 150.5,
        "ttft_ms": 20.25,
        "finish_reason": "stop",
        "error": "none to speak of",
        "finished_at": 3_001.0 + n,
        "answer": "Seven.",
        "calls": 3,
        "model": "large",
    }
    return Outcome(**(values | changes))


def make_feedback(n: int = 0, **changes: Any) -> Feedback:
    values: dict[str, Any] = {
        "id": f"fb_{n}",
        "decision_id": "dec_0",
        "created_at": 4_000.0 + n,
        "quality": 1.0,
        "source": "grader",
        "comment": "right",
    }
    return Feedback(**(values | changes))
