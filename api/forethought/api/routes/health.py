"""``/healthz``: the process answers. ``/readyz``: it can serve."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from forethought.api.services import Services
from forethought.models.errors import ForethoughtError

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Whether the upstream and the store answer; and which policy serves."""
    services: Services | None = getattr(request.app.state, "services", None)
    if services is None:
        return JSONResponse({"ready": False, "reason": "the server is starting"}, 503)
    upstream = await services.upstream.ready()
    store = await _store_problem(services)
    policy = services.policy.serving
    ready = upstream and store is None
    shown: dict[str, Any] = {
        "ready": ready,
        "upstream": {"name": services.upstream.name, "ready": upstream},
        "store": {"ready": store is None, "problem": store},
        "policy": {
            "version": policy.version,
            "source": policy.source,
            "problem": policy.problem,
        },
        "sleep": "off" if services.sleeper is None else services.settings.sleep,
        "model": services.serving.model,
    }
    return JSONResponse(shown, 200 if ready else 503)


async def _store_problem(services: Services) -> str | None:
    try:
        await services.blocking(lambda: services.reader.latest_learned(""))
    except ForethoughtError as error:
        return error.message
    return None
