"""``GET /v1/decisions/{id}``: why a request was answered the way it was."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from forethought.api.replies import decision_json
from forethought.api.requests import WithServices, WithTenant
from forethought.models.bundle import PolicyBundle
from forethought.models.features import matrix
from forethought.router.errors import NotFound
from forethought.router.records import Decision

router = APIRouter(prefix="/v1", tags=["decisions"])

SHOWN: Final = 5
"""Contributions shown: the largest."""


@router.get("/decisions/{decision_id}")
async def retrieve(decision_id: str, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """One decision with its candidates, its features and what came of it."""
    bundle = services.decider.bundle

    def read() -> dict[str, Any] | None:
        logged = services.reader.decision(decision_id, tenant)
        if logged is None:
            return None
        return decision_json(logged, contributions(logged.decision, bundle))

    found = await services.blocking(read)
    if found is None:
        raise NotFound(f"There is no decision {decision_id!r}.", param="decision_id")
    return found


def contributions(decision: Decision, bundle: PolicyBundle | None) -> list[dict[str, Any]] | None:
    """What moved the predicted quality of the chosen strategy, in log-odds, largest first.

    None where the policy that decided is not the one that serves now, or predicted nothing.
    """
    predicted = decision.mode in {"greedy", "explored"}
    if bundle is None or bundle.version != decision.policy_version or not predicted:
        return None
    row = matrix([decision.features], [decision.strategy])[0]
    explained = bundle.outcome.explain(row)[:SHOWN]
    return [{"feature": name, "log_odds": amount} for name, amount in explained]
