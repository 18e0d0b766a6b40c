"""Read request bodies: JSON objects, bounded in size and depth, with text that can be sent on."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from forethought.api.errors import invalid
from forethought.router.errors import ContextTooLarge, InvalidRequest

MAX_DEPTH: Final = 100
"""Levels of a JSON body. Schemas nest a few dozen deep; a parser's own limit is a crash."""

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request) -> dict[str, Any]:
    """The request's JSON object. Its content type is not looked at: curl sends another.

    Raises:
        ContextTooLarge: The body is larger than the server takes.
        InvalidRequest: It is not a JSON object, or nested too deep.
    """
    return parse_json(await _read(request, request.app.state.settings.max_body_bytes))


async def read_model(request: Request, model: type[M], *, may_be_empty: bool = False) -> M:
    """The request's JSON object, validated."""
    raw = await _read(request, request.app.state.settings.max_body_bytes)
    body = {} if may_be_empty and not raw.strip() else parse_json(raw)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from error


def parse_json(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object, and refuse what could not be logged or sent on."""
    try:
        body = json.loads(raw.decode(), parse_constant=_no_constant)
        if b"\\u" in raw:
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("The body is not UTF-8 text.") from error
    except UnicodeEncodeError as error:
        raise InvalidRequest("The body has half of a surrogate pair in a string.") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise InvalidRequest(
            f"The body is not JSON: {error}.", remedy="Send a JSON object."
        ) from error
    if not isinstance(body, dict):
        raise InvalidRequest("The body has to be a JSON object.")
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _is_deeper(body, MAX_DEPTH):
        raise _too_deep()
    return body


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            child
            for parent in layer
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not layer:
            return False
    return True


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not a JSON number"
    raise ValueError(message)


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.")


def too_large(limit: int) -> ContextTooLarge:
    """The error for a body above the server's limit."""
    return ContextTooLarge(
        f"The body is larger than the {limit} bytes that this server takes.",
        param="messages",
        remedy="Shorten the messages, or raise the setting max_body_bytes.",
    )
