"""Errors in Anthropic's shape, and OpenAI's made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from forethought.router.dialects.base import Json
from forethought.router.sse import error_text

_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def anthropic_error(status: int, text: str, request_id: str | None = None) -> Json:
    """An error as Anthropic's clients expect it, in a reply's body or in a stream's event."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    error: Json = {"type": "error", "error": {"type": kind, "message": text}}
    return error if request_id is None else {**error, "request_id": request_id}


def openai_fault(said: Any) -> Json:
    """Anthropic's error as OpenAI's."""
    error = said.get("error") if isinstance(said, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    text = error_text(said) or "The upstream failed without a word."
    code = kind or "upstream_error"
    return {"error": {"message": text, "type": code, "param": None, "code": code}}


def parsed(body: bytes) -> Any:
    """JSON, or None."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def message_of(body: bytes, status: int) -> str:
    """What an error reply says, whatever its shape."""
    return error_text(parsed(body)) or f"The upstream answered with HTTP status {status}."
