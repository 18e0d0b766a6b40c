"""``POST /v1/chat/completions``, plain and streamed."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from forethought.api.answers import Answer
from forethought.api.bodies import read_json
from forethought.api.direct import DirectRoute
from forethought.api.requests import headers_of
from forethought.api.services import Services
from forethought.router.incoming import chat_request


async def create_chat_completion(request: Request, services: Services, tenant: str) -> Response:
    """Answer as OpenAI's endpoint does; unknown fields pass in both directions."""
    began = time.perf_counter()
    body = await read_json(request)
    asked = chat_request(body, tenant=tenant, headers=headers_of(request.scope), began=began)
    turn = await services.gateway.decide(asked)
    return Answer(services.gateway, turn)


ROUTES = (DirectRoute("/v1/chat/completions", create_chat_completion, tag="chat"),)
