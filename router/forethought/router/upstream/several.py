"""Several upstreams behind one: the name before a model's slash says which of them is asked.

Each has a client, a key and a connection pool of its own: nothing of one goes to another but the
request that it is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from forethought.router.dialects.faults import parsed
from forethought.router.errors import NotFound, UpstreamError
from forethought.router.model_names import placed
from forethought.router.upstream.base import PassesOn, Upstream, UpstreamReply, UpstreamStream

LIST_PATIENCE_S: Final = 5.0
"""The list of models waits no longer for one of several."""


class SeveralUpstreams:
    """Asks the upstream that a request's model is of.

    Args:
        members: By name; "" is one whose models have no name in front.
        default: Who takes models that name nobody.
    """

    def __init__(self, members: Mapping[str, Upstream], default: str = "") -> None:
        self._members = dict(members)
        self._default = default
        self._names = frozenset(name for name in members if name)

    @property
    def name(self) -> str:
        return self._members[self._default].name

    @property
    def base_url(self) -> str:
        return self._members[self._default].base_url

    def of(self, model: str) -> tuple[Upstream, str]:
        """Who has ``model``, and what it is called there."""
        name, model = placed(model, self._names, self._default)
        return self._members[name], model

    async def start(self) -> None:
        """Start them all."""
        await asyncio.gather(*(member.start() for member in self._members.values()))

    async def aclose(self) -> None:
        """Close them all, whatever one of them says to it."""
        closing = (member.aclose() for member in self._members.values())
        ended = await asyncio.gather(*closing, return_exceptions=True)
        for error in filter(None, ended):
            raise error

    async def complete(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> UpstreamReply:
        """POST ``body`` to the chat completions of its model's upstream."""
        member, model = self.of(body["model"])
        return await member.complete({**body, "model": model}, headers)

    def stream(
        self, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """The same, streamed."""
        member, model = self.of(body["model"])
        return member.stream({**body, "model": model}, headers)

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> UpstreamReply:
        """Send ``body`` to its model's upstream; without a model, to the default one."""
        member, sent = self._passed(path, body)
        return await member.send(method, path, sent, headers)

    def send_stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """The same, streamed."""
        member, sent = self._passed(path, body)
        return member.send_stream(path, sent or {}, headers)

    async def models(self) -> UpstreamReply:
        """The models of all that list theirs in time, each with its upstream's name in front.

        Where none does, what the default one says.
        """
        members = self._members.items()
        found = await asyncio.gather(*(_listed(name, member) for name, member in members))
        lists = [listed for listed in found if listed is not None]
        if not lists:
            return await self._members[self._default].models()
        merged = {"object": "list", "data": [model for listed in lists for model in listed]}
        headers = {"content-type": "application/json"}
        return UpstreamReply(200, headers, json.dumps(merged, ensure_ascii=False).encode())

    async def ready(self) -> bool:
        """Whether one of them answers now."""
        return any((await self.readiness()).values())

    async def readiness(self) -> dict[str, bool]:
        """Whether each answers now, by its name."""
        answers = await asyncio.gather(*(member.ready() for member in self._members.values()))
        names = (name or "default" for name in self._members)
        return dict(zip(names, answers, strict=True))

    def _passed(
        self, path: str, body: Mapping[str, Any] | None
    ) -> tuple[PassesOn, Mapping[str, Any] | None]:
        named = None if body is None else body.get("model")
        member, model = self.of(named if isinstance(named, str) else "")
        if not isinstance(member, PassesOn):
            raise no_endpoint(member, path)
        return member, {**body, "model": model} if body is not None and model else body


def upstream_for(upstream: Upstream, model: str = "") -> tuple[Upstream, str]:
    """Who has ``model``, and what it is called there; who takes what names none, without one."""
    return upstream.of(model) if isinstance(upstream, SeveralUpstreams) else (upstream, model)


def no_endpoint(upstream: Upstream, path: str) -> NotFound:
    """The error for a path that ``upstream`` does not have."""
    return NotFound(
        f"The upstream {upstream.name} has no endpoint {path}.",
        remedy="Use /v1/chat/completions, or an upstream that speaks OpenAI's language.",
    )


async def _listed(name: str, member: Upstream) -> list[dict[str, Any]] | None:
    """A member's models under the names that are asked for here; None where it lists none."""
    try:
        async with asyncio.timeout(LIST_PATIENCE_S):
            reply = await member.models()
    except (UpstreamError, TimeoutError):
        return None
    said = parsed(reply.body)
    data = said.get("data") if isinstance(said, dict) and reply.status < 400 else None
    if not isinstance(data, list):
        return None
    models = [one for one in data if isinstance(one, dict) and "id" in one]
    return [{**one, "id": f"{name}/{one['id']}"} if name else one for one in models]
