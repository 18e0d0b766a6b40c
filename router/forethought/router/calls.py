"""The upstream calls of one turn that makes several, or none, and what all of them used."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from forethought.router.context import text_of
from forethought.router.dialects.base import Translated
from forethought.router.errors import UpstreamError
from forethought.router.fallbacks import Fallbacks, fails
from forethought.router.outcomes import ESTIMATED
from forethought.router.pricing import Prices, cost
from forethought.router.records import Outcome, Usage
from forethought.router.sleep.writer import estimated_tokens
from forethought.router.sse import tier_of, usage_of
from forethought.router.upstream.base import Upstream, UpstreamReply

log = logging.getLogger(__name__)


class Calls:
    """Calls an upstream and adds up the usage.

    A call that has not come back, was cancelled or reported no usage counts with an estimate:
    the provider bills it whether or not it tells. Where a model fails, the next of ``fallbacks`` is
    asked, which is a call of its own.
    """

    def __init__(
        self, upstream: Upstream, headers: Mapping[str, str], fallbacks: Fallbacks | None = None
    ) -> None:
        self.made = 0
        self.estimated = False
        self.warnings: dict[str, list[str]] = {}
        """What of a request a model that was asked instead does not get, by model."""
        self._upstream = upstream
        self._headers = headers
        self._fallbacks = fallbacks
        self._used: list[Usage] = []
        self._tiers: list[str | None] = []
        self._models: list[str] = []
        self._replies: list[UpstreamReply | None] = []
        self._left: list[str] = []
        """Models after which another was asked, and why."""

    @property
    def usage(self) -> Usage:
        return sum(self._used, Usage())

    async def __call__(self, body: Mapping[str, Any]) -> UpstreamReply:
        first = body
        while True:
            try:
                reply = await self._made(body)
            except UpstreamError as error:
                following = self._after(body["model"], first)
                if following is None:
                    raise
                why = error.code
            else:
                following = self._after(body["model"], first) if fails(reply.status) else None
                if following is None:
                    return reply
                why = f"HTTP status {reply.status}"
            log.warning("%s: %s; asking %s", body["model"], why, following.body["model"])
            self._left.append(f"{body['model']}: {why}")
            body = following.body
            self.warnings[body["model"]] = following.warnings

    def _after(self, model: str, first: Mapping[str, Any]) -> Translated | None:
        return None if self._fallbacks is None else self._fallbacks.after(model, first)

    def model_of(self, reply: UpstreamReply | None) -> str | None:
        """The model that gave ``reply``, or None the one called last; None without a call."""
        for own, model in zip(self._replies, self._models, strict=True):
            if own is reply and reply is not None:
                return model
        return self._models[-1] if self._models else None

    async def _made(self, body: Mapping[str, Any]) -> UpstreamReply:
        index = self.made
        self.made += 1
        texts = (text_of(message.get("content")) for message in body["messages"])
        asked = Usage(input_tokens=sum(map(estimated_tokens, texts)))
        self._used.append(asked)
        self._tiers.append(None)
        self._models.append(body["model"])
        self._replies.append(None)
        try:
            reply = await self._upstream.complete(body, self._headers)
        except BaseException as error:
            if isinstance(error, UpstreamError) and not error.reached:
                self._used[index] = Usage()
            else:
                self.estimated = True
            raise
        self._replies[index] = reply
        said = parsed(reply)
        self._tiers[index] = tier_of(said)
        used = usage_of(said.get("usage"))
        if reply.status >= 400:
            self._used[index] = used or Usage()
        elif used is None:
            self.estimated = True
            output = estimated_tokens(answer_text(reply) or "")
            self._used[index] = asked + Usage(output_tokens=output)
        else:
            self._used[index] = used
        return reply

    def billed(
        self, outcome: Outcome, prices: Callable[[str, str | None], Prices | None]
    ) -> Outcome:
        """The outcome with all that the calls used, each at its model's and service tier's prices.

        Without a call nothing was bought, whether or not a price is known.
        """
        made = zip(self._used, self._models, self._tiers, strict=True)
        costs = [cost(used, prices(model, tier)) for used, model, tier in made]
        known = [spent for spent in costs if spent is not None]
        error = outcome.error or (ESTIMATED if self.estimated else None)
        if self._left:
            error = "; ".join([*dict.fromkeys(self._left), *([error] if error else [])])
        return replace(
            outcome,
            usage=self.usage,
            cost_usd=sum(known) if len(known) == len(costs) else None,
            error=error,
            calls=self.made,
        )


def parsed(reply: UpstreamReply) -> dict[str, Any]:
    """The reply's JSON object; empty where it is none."""
    try:
        said = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def answer_text(reply: UpstreamReply) -> str | None:
    """The text of a good reply that holds one, else None."""
    if reply.status >= 400:
        return None
    try:
        text = text_of(parsed(reply)["choices"][0]["message"].get("content"))
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    return text or None


def with_usage(reply: UpstreamReply, usage: Usage) -> UpstreamReply:
    """The reply with ``usage`` in place of its own, so that the client sees all it pays for."""
    said = parsed(reply)
    if reply.status >= 400 or not said:
        return reply
    said["usage"] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    return UpstreamReply(reply.status, reply.headers, json.dumps(said).encode())


def as_events(reply: UpstreamReply, *, usage: bool) -> list[bytes]:
    """A whole good reply as the events of a stream; the last one is ``[DONE]``."""
    said = parsed(reply)
    spent = said.pop("usage", None)
    choice = said["choices"][0]
    base = {**said, "object": "chat.completion.chunk"}

    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: " + json.dumps({**base, "choices": choices, **more}).encode() + b"\n\n"

    delta = {k: v for k, v in choice["message"].items() if v is not None}
    reason = choice.get("finish_reason")
    events = [
        event([{"index": 0, "delta": delta, "finish_reason": None}]),
        event([{"index": 0, "delta": {}, "finish_reason": reason}]),
    ]
    if usage:
        events.append(event([], usage=spent))
    return [*events, b"data: [DONE]\n\n"]
