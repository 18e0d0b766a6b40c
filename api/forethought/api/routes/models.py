"""``GET /v1/models``: the upstream's models, and ``forethought/auto``."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from forethought.api.requests import WithServices, WithTenant
from forethought.api.services import Services
from forethought.router.errors import ModelNotFound
from forethought.router.incoming import AUTO
from forethought.router.upstream import UpstreamReply

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models")
async def list_(services: WithServices, tenant: WithTenant) -> Response:
    """List the models."""
    del tenant  # only its right to ask
    reply = await services.upstream.models()
    listed = _listed(reply, services)
    if listed is None:
        kind = reply.headers.get("content-type")
        return Response(reply.body, reply.status, media_type=kind)
    return JSONResponse(listed)


@router.get("/models/{model:path}")
async def retrieve(model: str, services: WithServices, tenant: WithTenant) -> Response:
    """One model."""
    del tenant
    listed = _listed(await services.upstream.models(), services) or {"data": []}
    names = [str(one.get("id")) for one in listed["data"] if isinstance(one, dict)]
    if model not in names:
        raise ModelNotFound(
            f"The model {model!r} is not served here.",
            param="model",
            remedy=f"Name one of {', '.join(names)}.",
        )
    return JSONResponse(listed["data"][names.index(model)])


def _listed(reply: UpstreamReply, services: Services) -> dict[str, Any] | None:
    """The upstream's list with ours at its end; None where it is no list."""
    try:
        said = json.loads(reply.body)
    except ValueError:
        return None
    if reply.status >= 400 or not isinstance(said, dict) or not isinstance(said.get("data"), list):
        return None
    ours = {"id": AUTO, "object": "model", "created": 0, "owned_by": "forethought"}
    return {**said, "data": [*said["data"], *([ours] if services.serving.model else [])]}
