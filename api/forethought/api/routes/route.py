"""``POST /v1/route``: what would be decided on a chat request. Nothing is sent or logged."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from forethought.api.bodies import read_json
from forethought.api.replies import decision_fields
from forethought.api.requests import WithServices, WithTenant, headers_of
from forethought.router.explanation import Explanation, explain
from forethought.router.incoming import chat_request

router = APIRouter(prefix="/v1", tags=["decisions"])


@router.post("/route")
async def dry_run(request: Request, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """Decide on a chat-completion request without answering it, and explain the decision."""
    began = time.perf_counter()
    body = await read_json(request)
    asked = chat_request(body, tenant=tenant, headers=headers_of(request.scope), began=began)
    serving = services.decider.bundle
    decision = await services.gateway.route(asked)

    def explained() -> Explanation:
        return explain(decision, services.past_policies.find(decision.policy_version, serving))

    fields = decision_fields(decision)
    del fields["id"]
    explanation = await services.blocking(explained)
    return {"object": "route", **fields, "explanation": asdict(explanation)}
