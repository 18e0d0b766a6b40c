"""``POST /v1/completions`` and ``/v1/embeddings``: the upstream's own, as they are."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from forethought.api.bodies import read_json
from forethought.api.direct import DirectRoute
from forethought.api.passing import PassedOn, passes_on
from forethought.api.requests import headers_of
from forethought.api.services import Services
from forethought.router.errors import InvalidRequest
from forethought.router.fallbacks import following
from forethought.router.incoming import AUTO
from forethought.router.serving import served_model
from forethought.router.upstream import PassesOn
from forethought.router.upstream.several import upstream_for


async def create_completion(request: Request, services: Services, tenant: str) -> Response:
    """Complete a text, plain or streamed."""
    del tenant  # only its right to ask
    others = [
        model
        for model in services.serving.fallbacks
        if isinstance(upstream_for(services.upstream, model)[0], PassesOn)
    ]
    return await _passed(request, services, "/completions", tuple(others))


async def create_embeddings(request: Request, services: Services, tenant: str) -> Response:
    """Embed texts. No other model stands in: its vectors could not be compared."""
    del tenant
    return await _passed(request, services, "/embeddings")


async def _passed(
    request: Request, services: Services, path: str, fallbacks: tuple[str, ...] = ()
) -> Response:
    body = with_model(await read_json(request), services)
    upstream = passes_on(services.upstream, path, body["model"])
    others = following(body["model"], fallbacks)
    headers = headers_of(request.scope)
    return PassedOn(upstream, "POST", path, body, headers, others, serving=services.serving)


def with_model(body: dict[str, Any], services: Services) -> dict[str, Any]:
    """The body with the upstream's name of its model.

    Raises:
        BudgetSpent: Nothing is left of the budget. What passes on is not counted: its cost is known
            to the upstream only.
    """
    if services.budget is not None:
        services.budget.check()
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(
            "'model' has to be the name of a model.",
            param="model",
            remedy=f"GET /v1/models lists them; {AUTO!r} takes the server's own.",
        )
    return {**body, "model": served_model(name, services.serving)}


ROUTES = (
    DirectRoute("/v1/completions", create_completion, tag="completions"),
    DirectRoute("/v1/embeddings", create_embeddings, tag="embeddings"),
)
