"""``vote:3`` and ``vote:5``: self-consistency (Wang et al., 2022, arXiv 2203.11171).

Several samples of the client's own request; the reply is the first real one that holds the
answer of the majority.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any, Final

from forethought.router.calls import answer_text
from forethought.router.strategies.base import Call, Prepared, Request
from forethought.router.upstream.base import UpstreamReply
from forethought.router.voting import decided, final_answer, leader

TEMPERATURE: Final = 0.7
"""What the paper samples GPT-3 and LaMDA's larger kin with (0.5 to 0.7)."""

_FIXED: Final = (
    "tools functions response_format grammar json_schema logprobs top_logprobs modalities audio"
).split()


class Vote:
    """Ask up to ``samples`` times, and return what most say."""

    def __init__(self, samples: int) -> None:
        self._samples = samples

    @property
    def name(self) -> str:
        return f"vote:{self._samples}"

    def excluded(self, request: Request) -> str | None:
        if request.body.get("temperature") == 0:
            return "the client set the temperature to 0: all samples would be the same"
        return several_excluded(request)

    def prepare(self, request: Request) -> Prepared:
        body = unstreamed(request.body)
        changes = [f"up to {self._samples} samples, the majority's answer"]
        if not request.native_effort and body.get("temperature") is None:
            body["temperature"] = TEMPERATURE
            changes.append(f"temperature={TEMPERATURE}")
        query = request.split.query

        async def plan(call: Call) -> UpstreamReply:
            # No majority can stand before this many, so they may as well run at once.
            replies = await together(call, body, self._samples // 2 + 1)
            while not decided(votes := _votes(replies, query), self._samples):
                if all(reply.status >= 400 for reply in replies):
                    break
                replies.append(await call(body))
            winner = leader(votes)
            if winner is None:
                return await call(unstreamed(request.body))
            return replies[winner]

        return Prepared(body, tuple(changes), plan)


def several_excluded(request: Request) -> str | None:
    """Why several calls cannot stand for the one the client asked for, or None."""
    for field in _FIXED:
        if request.body.get(field):
            return f"the request has {field}, whose answers cannot be compared"
    if (request.body.get("n") or 1) != 1:
        return "the request asks for several choices (n)"
    if request.body.get("seed") is not None:
        return "the request fixes the seed"
    return None


def unstreamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body for a whole reply: answers can only be compared when they are complete."""
    return {k: v for k, v in body.items() if k not in {"stream", "stream_options"}}


async def together(call: Call, body: Mapping[str, Any], n: int) -> list[UpstreamReply]:
    """``n`` calls at once; where the caller is cancelled or one call fails, so are all."""
    tasks = [asyncio.ensure_future(call(body)) for _ in range(n)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _votes(replies: list[UpstreamReply], query: str) -> list[Hashable | None]:
    texts = map(answer_text, replies)
    return [None if text is None else final_answer(text, query) for text in texts]
