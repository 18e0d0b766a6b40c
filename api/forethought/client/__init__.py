"""The Python client: the openai SDK's clients, plus contexts, feedback and decisions.

    from forethought.client import Forethought, decision_id

    client = Forethought()
    reply = client.chat.completions.with_raw_response.create(model="auto", messages=[...])
    client.feedback.create(decision_id(reply), quality=1.0)

Needs the base install only (openai, pydantic). Errors are the openai SDK's.
"""

from __future__ import annotations

from forethought.client.clients import AsyncForethought, Forethought
from forethought.client.contexts import SleepLevel
from forethought.client.headers import decision_id, overhead_ms, strategy
from forethought.client.replies import (
    Attribution,
    Bounds,
    Candidate,
    Change,
    Context,
    ContextDeleted,
    Contribution,
    Decision,
    Difference,
    ExplainedCandidate,
    Explanation,
    Feedback,
    Learned,
    LearnedContext,
    LearnedContexts,
    Note,
    Outcome,
    Route,
    SleepJob,
    SleepStatus,
    Usage,
)

__all__ = [
    "AsyncForethought",
    "Attribution",
    "Bounds",
    "Candidate",
    "Change",
    "Context",
    "ContextDeleted",
    "Contribution",
    "Decision",
    "Difference",
    "ExplainedCandidate",
    "Explanation",
    "Feedback",
    "Forethought",
    "Learned",
    "LearnedContext",
    "LearnedContexts",
    "Note",
    "Outcome",
    "Route",
    "SleepJob",
    "SleepLevel",
    "SleepStatus",
    "Usage",
    "decision_id",
    "overhead_ms",
    "strategy",
]
