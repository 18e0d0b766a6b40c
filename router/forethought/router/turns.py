"""A turn: one chat request with its context, its decision and the body that goes upstream."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from forethought.router.context import (
    Sightings,
    Split,
    boundaries_of,
    check_messages,
    context_hash,
    message_hashes,
    split,
)
from forethought.router.decision import Decider
from forethought.router.errors import InvalidRequest, NotFound, StoreError
from forethought.router.fallbacks import Fallbacks, following
from forethought.router.incoming import ChatRequest
from forethought.router.known import Known, KnownContexts, new_context
from forethought.router.outcomes import FailedCall
from forethought.router.records import Decision
from forethought.router.serving import Serving, served_model, upstream_name
from forethought.router.situation import Situation
from forethought.router.strategies import BY_NAME, Prepared, Request
from forethought.router.strategies.base import Plan
from forethought.router.surprisal import Surprisals

log = logging.getLogger(__name__)

_ASKED_FOR_USAGE: Final = "stream_options.include_usage, kept from the reply"


@dataclass(slots=True, kw_only=True)
class Turn:
    """One request on its way. ``waited_s`` is the time spent waiting for the upstream.

    ``recording`` is the writing of the decision, None where it could not begin; ``logged`` whether
    all that was to be stored by now is, or is being.
    """

    request: ChatRequest
    known: Known | None
    context_text: str
    decision: Decision
    body: dict[str, Any]
    hide_usage: bool
    direct_body: dict[str, Any]
    serving: Serving
    plan: Plan | None = None
    calls: int = 1
    recording: asyncio.Future[None] | None = None
    logged: bool = False
    finished: bool = False
    waited_s: float = 0.0
    fallbacks: Fallbacks | None = None
    failed: tuple[FailedCall, ...] = ()
    """The calls before the one under way, for whose model ``body`` is."""
    all_failed: bool = False
    """No other model is left: the last of ``failed`` is the outcome."""
    warnings: Sequence[str] = ()
    """What of the request the model that was asked instead does not get as it was sent."""
    answered_by: str | None = None
    """The model of a reply that several calls came to."""

    @property
    def model(self) -> str:
        """The model that answers, as far as is known."""
        return self.answered_by or self.body["model"]

    @property
    def upstream(self) -> str | None:
        """The upstream that answers, as far as is known; None where there is but one."""
        return upstream_name(self.model, self.serving)

    @property
    def native(self) -> bool:
        """Whether the reply may stay in the upstream's own language.

        What a strategy adds to a request, such as thinking, is not for the client.
        """
        return self.request.native and self.plan is None and self.decision.strategy == "direct"

    def overhead_ms(self) -> float:
        """Time since the request came in that was not spent waiting for the upstream."""
        return 1000 * (time.perf_counter() - self.request.began - self.waited_s)


class Turns:
    """Makes turns of requests: finds the context, decides, prepares. Writes nothing."""

    def __init__(
        self,
        *,
        decider: Decider,
        contexts: KnownContexts,
        serving: Serving,
        surprisals: Surprisals | None = None,
    ) -> None:
        self._decider = decider
        self._contexts = contexts
        self._serving = serving
        self._surprisals = surprisals
        self._sightings = Sightings()

    async def make(self, request: ChatRequest, *, dry: bool = False) -> Turn:
        """Find the context, choose a strategy and prepare the body for the upstream.

        Raises:
            InvalidRequest: The request names a strategy that cannot serve it.
            NotFound: It names a model or a context that does not exist.
        """
        body, changes = self._with_model(request.body)
        known: Known | None
        if request.context_id is not None:
            known = await self._named(request.tenant, request.context_id)
            body, prefix = _behind_context(body, known)
            changes.append(f"the messages of {known.context.id} in front")
            found = _split_at(body, prefix)
        else:
            found = await self._split(request.tenant, body, dry=dry)
            known = self._contexts.get(request.tenant, found.hash)
            if known is None:
                known = self._first_seen(request.tenant, found, dry=dry)
        asked = Request(
            body=body,
            split=found,
            learned=None if known is None else known.learned,
            native_effort=self._serving.takes_effort(body["model"]),
            may_recall=self._serving.recall,
        )
        surprisal = math.nan
        if self._surprisals is not None and not dry:
            surprisal = await self._surprisals.ahead(found.context_text, found.query)
        situation = Situation(
            tenant=request.tenant,
            model=body["model"],
            request=asked,
            context=None if known is None else known.context,
            now=time.time(),
            forced=_admissible(request.strategy, asked),
            provider_url=self._serving.provider_url,
            surprisal=surprisal,
        )
        decision, prepared = self._decide(situation)
        asks = request.streams and prepared.plan is None
        hide_usage = asks and self._add_usage(prepared.body)
        changes += [*prepared.changes, *([_ASKED_FOR_USAGE] if hide_usage else [])]
        if known is not None and not dry:
            known.features = decision.features or known.features
        query = decision.query if self._serving.log_text else ""
        fallbacks = None
        if self._serving.fallbacks:
            fallbacks = self._fallbacks(asked, prepared, native=request.native)
        return Turn(
            request=request,
            known=known,
            context_text=found.context_text,
            decision=replace(decision, changes=tuple(changes), query=query),
            body=prepared.body,
            direct_body=body,
            plan=prepared.plan,
            hide_usage=hide_usage,
            fallbacks=fallbacks,
            serving=self._serving,
        )

    def context_features(self, known: Known) -> dict[str, float]:
        """The features of a context without a query: those of the query are left out."""
        body = {"messages": [*known.context.messages, {"role": "user", "content": ""}]}
        cut = split(body, known=lambda _: False, shared=lambda _: False)
        situation = Situation(
            tenant=known.context.tenant,
            model=self._serving.model or "",
            request=Request(body=body, split=cut),
            context=known.context,
            now=time.time(),
        )
        return {
            name: value
            for name, value in self._decider.features(situation).items()
            if not name.startswith("q_")
        }

    def _decide(self, situation: Situation) -> tuple[Decision, Prepared]:
        decision = self._decider.decide(situation)
        try:
            prepared = BY_NAME[decision.strategy].prepare(situation.request)
        except Exception:
            if situation.forced is not None:
                raise
            log.exception("%s could not be prepared; falling back to direct", decision.strategy)
            why = f"{decision.strategy} could not be prepared"
            decision = self._decider.fall_back(situation, why)
            prepared = BY_NAME[decision.strategy].prepare(situation.request)
        return decision, prepared

    async def _split(self, tenant: str, body: Mapping[str, Any], *, dry: bool) -> Split:
        hashes = message_hashes(body)
        whole, boundaries = hashes[-1], boundaries_of(body, hashes)

        def cut() -> Split:
            return split(
                body,
                known=lambda h: self._contexts.get(tenant, h) is not None,
                shared=lambda h: self._sightings.shared(tenant, h, whole),
                boundaries=boundaries,
            )

        found = cut()
        missing = self._contexts.missing(tenant, [b.hash for b in found.boundaries])
        if missing:
            try:
                await self._contexts.load(tenant, missing)
            except StoreError as error:
                log.warning("contexts cannot be looked up: %s", error)
            else:
                found = cut()
        if not dry:
            self._sightings.add(tenant, found.boundaries, whole)
        return found

    def _first_seen(self, tenant: str, found: Split, *, dry: bool) -> Known | None:
        context = new_context(
            found, tenant=tenant, context_id=f"ctx_{secrets.token_hex(12)}", now=time.time()
        )
        if context is None:
            return None
        # Requests on the same new context that run at once share this entry, and so its id.
        return Known(context) if dry else self._contexts.add(context, saved=False)

    async def _named(self, tenant: str, context_id: str) -> Known:
        known = await self._contexts.by_id(tenant, context_id)
        if known is None:
            raise NotFound(
                f"There is no context {context_id!r}.",
                param="forethought.context",
                remedy="Register it by POST /v1/contexts.",
            )
        return known

    def _with_model(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        name = served_model(body["model"], self._serving)
        if name == body["model"]:
            return body, []
        return {**body, "model": name}, [f"model={name}"]

    def _fallbacks(self, asked: Request, prepared: Prepared, *, native: bool) -> Fallbacks | None:
        serving, own = self._serving, asked.body["model"]
        models = following(own, serving.fallbacks)
        if not models:
            return None
        added = "reasoning_effort" in prepared.body and "reasoning_effort" not in asked.body
        claude = {m for m in (own, *models) if serving.upstream_of(m).speaks_anthropic}
        return Fallbacks(
            models=models,
            effort_added=added,
            takes_effort=frozenset(filter(serving.takes_effort, models)),
            speaks_anthropic=frozenset(claude),
            native=native and own in claude,
        )

    def _add_usage(self, body: dict[str, Any]) -> bool:
        options = body.get("stream_options") or {}
        if not self._serving.ask_usage or options.get("include_usage") is not None:
            return False
        body["stream_options"] = {**options, "include_usage": True}
        return True


def _admissible(strategy: str | None, request: Request) -> str | None:
    if strategy is None:
        return None
    why_not = BY_NAME[strategy].excluded(request)
    if why_not is not None:
        raise InvalidRequest(
            f"The strategy {strategy} cannot serve this request: {why_not}.",
            param="forethought.strategy",
            remedy="Leave the strategy out to let the router choose.",
        )
    return strategy


def _behind_context(body: dict[str, Any], known: Known) -> tuple[dict[str, Any], str]:
    """The body with the context's messages in front, and the hash of that prefix."""
    if not any(message["role"] == "user" for message in body["messages"]):
        raise InvalidRequest(
            "A request that names a context has to bring a user message of its own.",
            param="messages",
        )
    front = list(known.context.messages)
    merged = {**body, "messages": [*front, *body["messages"]]}
    check_messages(merged)
    return merged, context_hash(front, body.get("tools"))


def _split_at(body: Mapping[str, Any], prefix: str) -> Split:
    return split(body, known=lambda h: h == prefix, shared=lambda _: False)
