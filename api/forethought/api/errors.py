"""Every error as the route's clients expect it.

OpenAI's: ``{"error": {message, type, param, code}}``. Anthropic's, below ``/v1/messages``
and for its clients who list models: ``{"type": "error", "error": {type, message}}``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from forethought.models.errors import ForethoughtError
from forethought.router.dialects.faults import anthropic_error
from forethought.router.errors import BudgetSpent, InvalidRequest, openai_error

log = logging.getLogger(__name__)

MESSAGES: Final = "/v1/messages"
"""Below this path clients are Anthropic's."""

MODELS: Final = "/v1/models"
"""Below this path they are who name a version of Anthropic's API."""


def install(app: FastAPI) -> None:
    """Answer every exception that is meant for the client in OpenAI's shape."""
    app.add_exception_handler(ForethoughtError, _forethought_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def invalid(error: ValidationError | RequestValidationError) -> InvalidRequest:
    """The first complaint of pydantic, as an error of ours."""
    first: dict[str, Any] = dict(error.errors()[0])
    place = [str(part) for part in first["loc"] if part not in {"body", "query", "path"}]
    field = ".".join(place)
    said = str(first["msg"])
    subject = f"'{field}' is wrong" if field else "The request is wrong"
    return InvalidRequest(f"{subject}: {said}.", param=field or None)


def speaks_anthropic(scope: Scope) -> bool:
    """Whether a request's client expects Anthropic's shapes."""
    path: str = scope.get("path", "")
    if path == MODELS or path.startswith(f"{MODELS}/"):
        return any(name == b"anthropic-version" for name, _ in scope["headers"])
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")


def _shaped(
    scope: Scope, content: dict[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    if speaks_anthropic(scope):
        content = anthropic_error(status, content["error"]["message"])
    return JSONResponse(content, status, headers)


def reply_to(scope: Scope, error: Exception) -> JSONResponse:
    """The reply where a request ended in ``error``."""
    if isinstance(error, ForethoughtError):
        return _refusal(scope, error)
    return unexpected(scope, error)


def _refusal(scope: Scope, error: ForethoughtError) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if error.http_status == 401 else None
    if isinstance(error, BudgetSpent):
        headers = {"x-should-retry": "false"}  # the SDKs would ask again and again
    return _shaped(scope, openai_error(error), error.http_status, headers)


async def _forethought_error(request: Request, error: Exception) -> JSONResponse:
    return reply_to(request.scope, error)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    return _shaped(request.scope, openai_error(invalid(error)), 400)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    status = error.status_code
    said = {
        404: f"There is nothing at {request.method} {request.url.path}.",
        405: f"{request.method} is not possible on {request.url.path}.",
    }.get(status, str(error.detail))
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": said, "type": kind, "param": None, "code": code}}
    return _shaped(request.scope, body, status, error.headers)


def unexpected(scope: Scope, error: Exception) -> JSONResponse:
    """The reply where the server failed: nothing of the inside, which goes to the log."""
    log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
    message = "The server failed on this request; its log says why."
    return _shaped(
        scope,
        {
            "error": {
                "message": message,
                "type": "server_error",
                "param": None,
                "code": "internal_error",
            }
        },
        500,
    )
