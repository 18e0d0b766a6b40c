"""Records as JSON: the shapes that ``forethought.client`` reads."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from forethought.router.explanation import Explanation
from forethought.router.records import (
    Context,
    Decision,
    Feedback,
    LearnedContext,
    LoggedDecision,
)


def context_json(
    context: Context, learned: LearnedContext | None, sleep_status: str
) -> dict[str, Any]:
    """A context with its newest learned context in short."""
    return {
        "id": context.id,
        "object": "context",
        "hash": context.hash,
        "created_at": context.created_at,
        "n_queries": context.n_queries,
        "last_query_at": context.last_query_at,
        "registered": context.registered,
        "learned": None if learned is None else _learned_in_short(learned),
        "sleep": {"status": sleep_status},
    }


def learned_json(learned: LearnedContext) -> dict[str, Any]:
    """One version of a learned context, with its notes."""
    return {"object": "learned_context", **asdict(learned)}


def feedback_json(feedback: Feedback) -> dict[str, Any]:
    """A judgement."""
    return {"object": "feedback", **asdict(feedback)}


def decision_fields(decision: Decision) -> dict[str, Any]:
    """A decision without its tenant. Features that did not apply are left out."""
    fields = asdict(decision)
    del fields["tenant"]
    fields["features"] = {
        name: value for name, value in decision.features.items() if math.isfinite(value)
    }
    for repeated in ("preferences", "predictability_low", "predictability_high"):
        del fields[repeated]  # the explanation has them
    return fields


def decision_json(logged: LoggedDecision, explanation: Explanation) -> dict[str, Any]:
    """A decision with what came of it, and its explanation."""
    outcome = None if logged.outcome is None else asdict(logged.outcome)
    if outcome is not None:
        del outcome["decision_id"]
    return {
        "object": "decision",
        **decision_fields(logged.decision),
        "outcome": outcome,
        "quality": logged.quality,
        "feedback": [feedback_json(one) for one in logged.feedback],
        "explanation": asdict(explanation),
    }


def _learned_in_short(learned: LearnedContext) -> dict[str, Any]:
    return {
        "id": learned.id,
        "version": learned.version,
        "level": learned.level,
        "tokens": learned.tokens,
        "cost_usd": learned.cost_usd,
        "n_notes": len(learned.notes),
        "status": "ok" if learned.notes else "empty",
    }
