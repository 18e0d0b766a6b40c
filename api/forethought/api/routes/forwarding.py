"""OpenAI's endpoints that have nothing to decide: passed on as bytes, where a setting says so."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from forethought.api.direct import DirectRoute
from forethought.api.forwarding import Forwarded
from forethought.api.services import Services
from forethought.router.errors import NotFound
from forethought.router.upstream import Forwards
from forethought.router.upstream.several import no_endpoint, upstream_for

STATEFUL: Final = frozenset(
    "assistants batches containers conversations evals files fine_tuning organization realtime "
    "skills threads uploads vector_stores videos".split()
)
"""Where OpenAI keeps what clients of a key have stored, for all others of that key to see."""

_METHODS: Final = ("GET", "POST", "DELETE")
# Nothing that a server could take for another path or another host.
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~:-]*")


def forwarding(heads: Collection[str]) -> Iterator[DirectRoute]:
    """Routes for the paths below ``/v1`` that begin with one of ``heads``.

    Those that are known and not among them say which setting would pass them on.
    """

    async def forward(request: Request, services: Services, tenant: str) -> Response:
        """Pass a request on."""
        del tenant  # only its right to ask
        path = request.url.path.removeprefix("/v1")
        head, *rest = path.removeprefix("/").removesuffix("/").split("/")
        if head not in heads:
            raise NotFound(
                f"Requests to {request.url.path} are not passed on.",
                remedy=f"Add {head!r} to the setting upstream_paths; what one client stores there "
                "all clients of this server can read.",
            )
        if not all(map(_SEGMENT.fullmatch, rest)):
            raise NotFound(f"There is nothing at {request.method} {request.url.path}.")
        # A form's model is not looked for: it may come after all the rest.
        upstream, _ = upstream_for(services.upstream)
        if not isinstance(upstream, Forwards):
            raise no_endpoint(upstream, path)
        return Forwarded(upstream, request, "/".join(["", head, *rest]))

    for head in sorted({*heads, *STATEFUL}):
        for path in (f"/v1/{head}", f"/v1/{head}/{{path:path}}"):
            yield DirectRoute(path, forward, methods=_METHODS)
