"""``POST /v1/chat/completions``, plain and streamed."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from forethought.api.answers import Answer
from forethought.api.bodies import read_json
from forethought.api.requests import WithServices, WithTenant, headers_of
from forethought.router.incoming import chat_request

router = APIRouter(prefix="/v1", tags=["chat"])


@router.post("/chat/completions", response_class=Response)
async def create_chat_completion(
    request: Request, services: WithServices, tenant: WithTenant
) -> Response:
    """Answer as OpenAI's endpoint does; unknown fields pass in both directions."""
    began = time.perf_counter()
    body = await read_json(request)
    asked = chat_request(body, tenant=tenant, headers=headers_of(request.scope), began=began)
    turn = await services.gateway.decide(asked)
    return Answer(services.gateway, turn)
