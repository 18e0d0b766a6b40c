"""``GET /v1/models``: the upstream's models, aliases of them, and ``forethought/auto``.

An alias stands in place of a model of the same name, whose requests it takes.

In OpenAI's form; in Anthropic's for its clients, who name the version of its API.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from forethought.api.errors import speaks_anthropic
from forethought.api.requests import WithServices, WithTenant
from forethought.api.services import Services
from forethought.router.dialects.faults import anthropic_error, message_of, parsed
from forethought.router.dialects.models import anthropic_model, models_page
from forethought.router.errors import ModelNotFound
from forethought.router.incoming import AUTO
from forethought.router.upstream import UpstreamReply

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models")
async def list_(request: Request, services: WithServices, tenant: WithTenant) -> Response:
    """List the models."""
    del tenant  # only its right to ask
    reply = await services.upstream.models()
    listed = _listed(reply, services)
    if listed is None:
        return _as_it_came(request, reply)
    if speaks_anthropic(request.scope):
        return JSONResponse(models_page(_models(listed), request.query_params))
    return JSONResponse(listed)


@router.get("/models/{model:path}")
async def retrieve(
    model: str, request: Request, services: WithServices, tenant: WithTenant
) -> Response:
    """One model."""
    del tenant
    listed = _listed(await services.upstream.models(), services) or {"data": []}
    found = {str(one.get("id")): one for one in _models(listed)}
    model = model if model in found else services.settings.placed(model)
    if model not in found:
        raise ModelNotFound(
            f"The model {model!r} is not served here.",
            param="model",
            remedy=f"Name one of {', '.join(found)}.",
        )
    anthropics = speaks_anthropic(request.scope)
    return JSONResponse(anthropic_model(found[model]) if anthropics else found[model])


def _listed(reply: UpstreamReply, services: Services) -> dict[str, Any] | None:
    """The upstream's list with ours at its end; None where it is no list."""
    said = parsed(reply.body)
    if reply.status >= 400 or not isinstance(said, dict) or not isinstance(said.get("data"), list):
        return None
    serving = services.serving
    ours = {"object": "model", "created": 0, "owned_by": "forethought"}
    theirs = [
        one for one in said["data"]
        if not (isinstance(one, dict) and one.get("id") in serving.aliases)
    ]  # fmt: skip
    aliases = [{"id": name, **ours, "alias_of": of} for name, of in serving.aliases.items()]
    auto = [{"id": AUTO, **ours}] if serving.model else []
    return {**said, "data": [*theirs, *aliases, *auto]}


def _models(listed: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in listed["data"] if isinstance(one, dict)]


def _as_it_came(request: Request, reply: UpstreamReply) -> Response:
    if speaks_anthropic(request.scope):
        status = reply.status if reply.status >= 400 else 502
        said = message_of(reply.body, status)
        return JSONResponse(anthropic_error(status, said), status)
    return Response(reply.body, reply.status, media_type=reply.headers.get("content-type"))
