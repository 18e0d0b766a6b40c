"""``GET /v1/budget``: which of the three modes configures the policy, and how the budget stands."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from forethought.api.requests import WithServices, WithTenant

router = APIRouter(prefix="/v1", tags=["budget"])


@router.get("/budget")
async def retrieve(services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """The mode and its number; under a budget also what was spent of the period's, and its end.

    The budget is the server's: it counts what all tenants spend.
    """
    del tenant  # only its right to ask
    mode, preferences = services.settings.mode, services.decider.preferences
    shown: dict[str, Any] = {"object": "budget", "mode": mode}
    if services.budget is not None:
        return {**shown, **asdict(services.budget.status)}
    return {**shown, mode: getattr(preferences, mode)}
