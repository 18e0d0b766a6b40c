"""How the client's resources call the server: what a call may set, and the paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict
from urllib.parse import quote

from openai import RequestOptions, Timeout


class CallOptions(TypedDict, total=False):
    """What any single call may set, named as in the openai SDK. ``timeout`` is in seconds."""

    extra_headers: Mapping[str, str]
    timeout: float | Timeout | None


def request_options(call: CallOptions, params: Mapping[str, Any] | None = None) -> RequestOptions:
    """Return the SDK's options for one call. Only the client's API key is ever sent along."""
    options: RequestOptions = {"security": {"bearer_auth": True}}
    if "extra_headers" in call:
        options["headers"] = call["extra_headers"]
    if "timeout" in call:
        options["timeout"] = call["timeout"]
    if params:
        options["params"] = {name: value for name, value in params.items() if value is not None}
    return options


def path_of(collection: str, identifier: str, *rest: str) -> str:
    """Return ``/collection/identifier/rest``. An identifier can never reach another path."""
    # A dot segment would be resolved away by the URL, quoted or not.
    if identifier in {"", ".", ".."}:
        message = f"Expected the id of one of the {collection}, got {identifier!r}."
        raise ValueError(message)
    return "/".join(("", collection, quote(identifier, safe=""), *rest))


def without_none(**fields: Any) -> dict[str, Any]:
    """Return the fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}
