"""``cascade``: two cheap answers first; where they disagree, the client's own request.

Cheap is ``learned:low`` where something was learned, else ``effort:low``.
"""

from __future__ import annotations

from forethought.router.calls import answer_text
from forethought.router.strategies.base import Call, Prepared, Request
from forethought.router.strategies.effort import Effort
from forethought.router.strategies.learned import Learned
from forethought.router.strategies.vote import (
    TEMPERATURE,
    several_excluded,
    together,
    unstreamed,
)
from forethought.router.upstream.base import UpstreamReply
from forethought.router.voting import final_answer


class Cascade:
    """Accept a cheap answer that two samples agree on, else escalate to ``direct``."""

    name = "cascade"

    def __init__(self) -> None:
        self._cheap = (Learned("low"), Effort("low"))

    def excluded(self, request: Request) -> str | None:
        if request.body.get("temperature") == 0:
            return "the client set the temperature to 0: two samples would always agree"
        return several_excluded(request) or self._cheap[1].excluded(request)

    def prepare(self, request: Request) -> Prepared:
        cheap = next(s for s in self._cheap if s.excluded(request) is None)
        prepared = cheap.prepare(request)
        body = unstreamed(prepared.body)
        changes = [f"{cheap.name} twice, direct where the two disagree", *prepared.changes]
        if not request.native_effort and body.get("temperature") is None:
            body["temperature"] = TEMPERATURE
            changes.append(f"temperature={TEMPERATURE}, of the two")

        async def plan(call: Call) -> UpstreamReply:
            replies = await together(call, body, 2)
            texts = [answer_text(reply) for reply in replies]
            first, second = (
                None if text is None else final_answer(text, request.split.query) for text in texts
            )
            if first is not None and first == second:
                return replies[0]
            return await call(unstreamed(request.body))

        return Prepared(body, tuple(changes), plan)
