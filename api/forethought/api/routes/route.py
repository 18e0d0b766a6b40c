"""``POST /v1/route``: what would be decided on a chat request. Nothing is sent or logged."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request

from forethought.api.bodies import read_json
from forethought.api.replies import decision_fields
from forethought.api.requests import WithServices, WithTenant, headers_of
from forethought.router.incoming import chat_request

router = APIRouter(prefix="/v1", tags=["decisions"])


@router.post("/route")
async def dry_run(request: Request, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """Decide on a chat-completion request without answering it."""
    began = time.perf_counter()
    body = await read_json(request)
    asked = chat_request(body, tenant=tenant, headers=headers_of(request.scope), began=began)
    decision = await services.gateway.route(asked)
    fields = decision_fields(decision)
    del fields["id"]
    return {"object": "route", **fields}
