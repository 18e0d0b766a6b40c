"""``GET /v1/decisions/{id}``: why a request was answered the way it was."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from forethought.api.replies import decision_json
from forethought.api.requests import WithServices, WithTenant
from forethought.router.errors import NotFound
from forethought.router.explanation import explain

router = APIRouter(prefix="/v1", tags=["decisions"])


@router.get("/decisions/{decision_id}")
async def retrieve(decision_id: str, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """One decision with its candidates, its features, what came of it, and why it was made."""
    serving = services.decider.bundle

    def read() -> dict[str, Any] | None:
        logged = services.reader.decision(decision_id, tenant)
        if logged is None:
            return None
        policy = services.past_policies.find(logged.decision.policy_version, serving)
        return decision_json(logged, explain(logged.decision, policy))

    found = await services.blocking(read)
    if found is None:
        raise NotFound(f"There is no decision {decision_id!r}.", param="decision_id")
    return found
