"""``/v1/contexts``: register contexts, see what was learned about them, ask for sleep."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from forethought.api.bodies import read_model
from forethought.api.replies import context_json, learned_json
from forethought.api.requests import WithServices, WithTenant
from forethought.api.services import Services
from forethought.router.context import check_messages, context_hash, plain_text
from forethought.router.errors import InvalidRequest, NotFound
from forethought.router.known import Known
from forethought.router.records import Context, SleepLevel
from forethought.router.sleep.plan_explanation import explain_plan
from forethought.router.sleep.starting import StartingSleeper

router = APIRouter(prefix="/v1/contexts", tags=["contexts"])


class Level(BaseModel):
    """How much to sleep; what is left out, the settings say."""

    model_config = ConfigDict(extra="forbid")

    drafts: int | None = Field(default=None, ge=1, le=10)
    rounds: int | None = Field(default=None, ge=1, le=10)

    def merged(self, default: SleepLevel) -> SleepLevel:
        return SleepLevel(
            drafts=self.drafts or default.drafts, rounds=self.rounds or default.rounds
        )


class Registration(BaseModel):
    """A context to register, as chat messages or as text."""

    model_config = ConfigDict(extra="forbid")

    messages: list[dict[str, Any]] | None = None
    text: str | None = Field(default=None, min_length=1)
    sleep: bool | None = None
    level: Level = Level()

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.messages is None) == (self.text is None):
            message = "give a context either as 'messages' or as 'text'"
            raise ValueError(message)
        return self

    @property
    def as_messages(self) -> tuple[dict[str, Any], ...]:
        if self.messages is not None:
            return tuple(self.messages)
        return ({"role": "system", "content": self.text},)


class SleepWish(BaseModel):
    """The body of a request for sleep."""

    model_config = ConfigDict(extra="forbid")

    level: Level = Level()


@router.post("")
async def create(request: Request, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """Register a context; registering it again returns the same one."""
    wanted = await read_model(request, Registration)
    messages = wanted.as_messages
    check_messages({"messages": list(messages)})
    if wanted.sleep:
        _require_sleep(services)
    hashed = context_hash(messages)
    if missing := services.contexts.missing(tenant, [hashed]):
        await services.contexts.load(tenant, missing)
    context = Context(
        id=f"ctx_{secrets.token_hex(12)}",
        tenant=tenant,
        hash=hashed,
        messages=messages,
        text=plain_text(messages),
        created_at=time.time(),
        registered=True,
    )
    known = services.contexts.add(context, saved=False)
    await services.writer.write(known.context)
    known.saved = True
    # Another server may have registered it at the same moment: the store keeps one of the two.
    await services.contexts.load(tenant, [hashed])
    known = services.contexts.get(tenant, hashed) or known
    if wanted.sleep is not None and wanted.sleep != known.context.auto_sleep:
        allow = partial(services.reader.set_auto_sleep, known.context.id, allowed=wanted.sleep)
        await services.blocking(allow)
        known.context = replace(known.context, auto_sleep=wanted.sleep)
    if wanted.sleep:
        await _queue(services, known.context, wanted.level)
    return await _shown(services, known)


@router.get("")
async def list_(
    services: WithServices,
    tenant: WithTenant,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
) -> dict[str, Any]:
    """The tenant's contexts, newest first."""
    await services.writer.write()  # what was just counted should show

    def read() -> list[dict[str, Any]]:
        found = services.reader.contexts(tenant, limit + 1, after)
        return [_stored_json(services, context) for context in found]

    await _sleep_started(services)
    data = await services.blocking(read)
    return {
        "object": "list",
        "data": data[:limit],
        "first_id": data[0]["id"] if data else None,
        "last_id": data[:limit][-1]["id"] if data else None,
        "has_more": len(data) > limit,
    }


@router.get("/{context_id}")
async def retrieve(context_id: str, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """One context."""
    return await _shown(services, await _found(services, tenant, context_id))


@router.delete("/{context_id}")
async def delete(context_id: str, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """Delete a context, what was learned about it, and the text of its decisions."""
    if services.sleeper is not None:
        await services.sleeper.started()  # or nothing is deleted: its jobs hold the text too
    await services.writer.write()  # what is queued for it must not come back
    gone = await services.blocking(partial(services.reader.delete_context, context_id, tenant))
    if not gone:
        raise _not_found(context_id)
    services.contexts.forget(context_id)
    services.experience.forget(context_id)
    if services.sleeper is not None:
        await services.blocking(partial(services.sleeper.forget, context_id))
    return {"id": context_id, "object": "context.deleted", "deleted": True}


@router.get("/{context_id}/learned")
async def learned(context_id: str, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """Every version of what sleep wrote about a context, newest first."""
    known = await _found(services, tenant, context_id)
    versions = await services.blocking(partial(services.reader.learned_versions, known.context.id))
    return {"object": "list", "data": [learned_json(version) for version in versions]}


@router.post("/{context_id}/sleep", status_code=202)
async def sleep(
    request: Request, context_id: str, services: WithServices, tenant: WithTenant
) -> dict[str, Any]:
    """Queue a sleep on a context now."""
    wanted = await read_model(request, SleepWish, may_be_empty=True)
    _require_sleep(services)
    known = await _found(services, tenant, context_id)
    await _queue(services, known.context, wanted.level)
    status = await services.blocking(_status(services, context_id))
    return {"id": context_id, "object": "sleep", "status": status}


@router.get("/{context_id}/plan")
async def plan(context_id: str, services: WithServices, tenant: WithTenant) -> dict[str, Any]:
    """What the policy would do about a context's sleep, and why."""
    known = await _found(services, tenant, context_id)
    bundle = services.decider.bundle
    shown: dict[str, Any] = {
        "object": "sleep_plan",
        "context": context_id,
        "policy_version": services.decider.policy_version,
        "learned": known.learned is not None,
        "n_queries": known.context.n_queries,
    }
    if services.planner is None or bundle is None:
        why = "sleep is off" if services.planner is None else "no policy is loaded"
        return {**shown, "buy": False, "reason": why}
    features = services.gateway.features_of(known)
    last = known.context.last_query_at
    idle_s = 0.0 if last is None else max(0.0, time.time() - last)
    try:
        planning = services.planner.planning(
            known.context, features, learned=known.learned, idle_s=idle_s
        )
    except ValueError as error:
        return {**shown, "buy": False, "reason": str(error)}
    planned = planning.plan()
    found = await services.blocking(partial(explain_plan, planning, planned, bundle, features))
    return {
        **shown,
        **asdict(planned),
        "predictability": found.predictability.mean,
        "predictability_low": found.predictability.low,
        "predictability_high": found.predictability.high,
        "explanation": asdict(found),
    }


async def _found(services: Services, tenant: str, context_id: str) -> Known:
    known = await services.contexts.by_id(tenant, context_id)
    if known is None:
        raise _not_found(context_id)
    return known


async def _shown(services: Services, known: Known) -> dict[str, Any]:
    await _sleep_started(services)
    status = await services.blocking(_status(services, known.context.id))
    if status == "done" and known.learned is None:
        # Sleep ended just now, and its news is still on its way to this loop.
        known.learned = await services.blocking(
            partial(services.reader.latest_learned, known.context.id)
        )
    return context_json(known.context, known.learned, status)


def _stored_json(services: Services, context: Context) -> dict[str, Any]:
    latest = services.reader.latest_learned(context.id)
    return context_json(context, latest, _status(services, context.id)())


def _status(services: Services, context_id: str) -> Callable[[], str]:
    sleeper = services.sleeper
    if sleeper is None or sleeper.failed:
        return lambda: "none"
    return partial(sleeper.status, context_id)


async def _queue(services: Services, context: Context, level: Level) -> None:
    sleeper = _require_sleep(services)
    await sleeper.started()
    wanted = level.merged(services.settings.sleep_level)
    await services.blocking(partial(sleeper.enqueue, context, wanted))


async def _sleep_started(services: Services) -> None:
    """Wait for the end of its start here: requests need the threads that would wait for it."""
    if services.sleeper is not None:
        with contextlib.suppress(Exception):  # it was logged when it happened
            await services.sleeper.started()


def _require_sleep(services: Services) -> StartingSleeper:
    if services.sleeper is None:
        raise InvalidRequest(
            "Sleep is off on this server.",
            param="sleep",
            remedy="Start it with --sleep auto, and with --model where the upstream has several.",
        )
    return services.sleeper


def _not_found(context_id: str) -> NotFound:
    return NotFound(f"There is no context {context_id!r}.", param="context_id")
