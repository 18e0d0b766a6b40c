"""What routes need of a request."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Scope

from forethought.api.auth import tenant_of
from forethought.api.services import Services
from forethought.router.incoming import request_id


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers, names in lower case; of repeated ones the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def request_identity(scope: Scope) -> str:
    """The client's ``x-request-id``, or a new one."""
    return request_id(headers_of(scope)) or f"req_{secrets.token_hex(12)}"


async def services(request: Request) -> Services:
    """The services of the app, as a dependency."""
    found: Services = request.app.state.services
    return found


async def tenant(request: Request) -> str:
    """The tenant of the request, as a dependency."""
    headers = request.headers
    sent = headers.get("authorization")
    # Anthropic's clients know two ways to send a key.
    if sent is None and (key := headers.get("x-api-key")):
        sent = f"Bearer {key}"
    return tenant_of(sent, request.app.state.tenants)


WithServices = Annotated[Services, Depends(services)]
WithTenant = Annotated[str, Depends(tenant)]
