"""Who asks: the tenant of a request, by its API key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from forethought.router.errors import Unauthorized

DEFAULT_TENANT = "default"


def tenant_of(authorization: str | None, tenants: Mapping[str, str] | None) -> str:
    """The tenant that a request belongs to.

    Args:
        authorization: The ``Authorization`` header.
        tenants: Tenants by the sha256 of their key. None: no key is needed; each key that
            is sent is a tenant of its own, known by its hash.

    Raises:
        Unauthorized: A key is needed, and this is none of them.
    """
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else ""
    digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()
    if tenants is None:
        return f"key-{digest[:16]}" if key else DEFAULT_TENANT
    # Looked up by its hash: the time that takes says nothing about the keys.
    found = tenants.get(digest)
    if found is None:
        raise Unauthorized(
            "The API key is missing." if not key else "The API key is not known here.",
            param="Authorization",
            remedy="Send 'Authorization: Bearer KEY' with a key of this server.",
        )
    return found
