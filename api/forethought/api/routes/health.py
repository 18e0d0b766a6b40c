"""``/healthz``: the process answers. ``/readyz``: it can serve."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from forethought.api.services import Services
from forethought.models.errors import ForethoughtError
from forethought.router.upstream import Upstream
from forethought.router.upstream.several import SeveralUpstreams

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
    each = await _readiness(services.upstream)
    upstream = any(each.values())
    store = await _store_problem(services)
    policy = services.policy.serving
    ready = upstream and store is None
    shown: dict[str, Any] = {
        "ready": ready,
        "upstream": {"name": services.upstream.name, "ready": upstream},
        **({"upstreams": each} if len(each) > 1 else {}),
        "store": {"ready": store is None, "problem": store},
        "policy": {
            "version": policy.version,
            "source": policy.source,
            "problem": policy.problem,
        },
        "sleep": _sleep(services),
        "model": services.serving.model,
    }
    return JSONResponse(shown, 200 if ready else 503)


def _sleep(services: Services) -> str:
    if services.sleeper is None:
        return "off"
    return "failed" if services.sleeper.failed else services.settings.sleep


async def _readiness(upstream: Upstream) -> dict[str, bool]:
    """Whether each upstream answers: one is enough to serve."""
    if isinstance(upstream, SeveralUpstreams):
        return await upstream.readiness()
    return {upstream.name: await upstream.ready()}


async def _store_problem(services: Services) -> str | None:
    try:
        await services.blocking(lambda: services.reader.latest_learned(""))
    except ForethoughtError as error:
        return error.message
    return None
