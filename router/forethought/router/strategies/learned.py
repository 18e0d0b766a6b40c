"""``learned:low`` and ``learned:high``: answer from what was worked out asleep.

The learned context (the paper's c') is added after the stable prefix; then little or much
effort is asked for, as in ``effort``.
"""

from __future__ import annotations

from forethought.router.strategies.base import Prepared, Request, insert_learned
from forethought.router.strategies.effort import Level, add_effort, effort_excluded


class Learned:
    """Add the learned context and ask for little or much test-time thinking."""

    def __init__(self, level: Level) -> None:
        self._level: Level = level

    @property
    def name(self) -> str:
        return f"learned:{self._level}"

    def excluded(self, request: Request) -> str | None:
        if request.split.boundary is None:
            return "the request has no context"
        if request.learned is None:
            return "nothing was learned about this context yet"
        if not request.learned.notes:
            return "sleep found nothing on this context that passed its checks"
        return effort_excluded(request, self._level)

    def prepare(self, request: Request) -> Prepared:
        body = dict(request.body)
        changes = add_effort(
            body, insert_learned(request), self._level, native=request.native_effort
        )
        added = f"learned context {request.learned.id}" if request.learned else ""
        return Prepared(body, (f"{added} after the stable prefix", *changes))
