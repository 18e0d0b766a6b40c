"""``POST /v1/feedback``: how good an answer was."""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from forethought.api.bodies import read_model
from forethought.api.replies import feedback_json
from forethought.api.requests import WithServices, WithTenant
from forethought.router.blending import graded_answer
from forethought.router.errors import NotFound
from forethought.router.experience import Judged
from forethought.router.records import Feedback

router = APIRouter(prefix="/v1", tags=["feedback"])


class Judgement(BaseModel):
    """A judgement of one answer: ``quality`` from 0 (wrong) to 1 (right)."""

    model_config = ConfigDict(extra="forbid")

    decision_id: str = Field(min_length=1)
    quality: float = Field(ge=0, le=1, allow_inf_nan=False)
    comment: str | None = Field(default=None, max_length=10_000)
    source: str = Field(default="client", min_length=1, max_length=200)


@router.post("/feedback")
async def create(request: Request, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """Record a judgement; the latest one on a decision counts."""
    judged = await read_model(request, Judgement)
    found = await services.blocking(partial(services.reader.decision, judged.decision_id, tenant))
    if found is None:
        raise NotFound(f"There is no decision {judged.decision_id!r}.", param="decision_id")
    feedback = Feedback(
        id=f"fb_{secrets.token_hex(12)}",
        decision_id=judged.decision_id,
        created_at=time.time(),
        quality=judged.quality,
        source=judged.source,
        comment=judged.comment,
    )
    if found.decision.context_id is not None:
        services.experience.heard(
            Judged(
                at=feedback.created_at,
                context_id=found.decision.context_id,
                strategy=found.decision.strategy,
                quality=feedback.quality,
                before=found.quality,
            )
        )
    await services.writer.write(feedback)
    blending, graded = services.decider.blending, graded_answer(found, judged.quality)
    if blending is not None and graded is not None:
        blending.judged(found.decision.policy_version, graded)
    return feedback_json(feedback)
