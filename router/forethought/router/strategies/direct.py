"""``direct``: exactly what the client sent."""

from __future__ import annotations

from forethought.router.strategies.base import Prepared, Request


class Direct:
    """Pass the request through unchanged. Always admissible; what every failure falls back to."""

    name = "direct"

    def excluded(self, request: Request) -> str | None:  # noqa: ARG002 - the protocol's form
        return None

    def prepare(self, request: Request) -> Prepared:
        return Prepared(dict(request.body), ())
