"""The router's exceptions.

ForethoughtError (forethought.models.errors)
├── InvalidRequest         400  a field of the request is wrong
│   └── ContextTooLarge    400  the context does not fit the model
├── Unauthorized           401  no or an unknown API key
├── NotFound               404  an unknown context or decision
│   └── ModelNotFound      404  an unknown model
├── BudgetSpent            429  the period's budget does not pay for the request
├── UpstreamError          502  the upstream could not be reached or broke off
│   └── UpstreamTimeout    504  the upstream did not answer in time
├── ConfigError                 a setting or a config file cannot be used
├── StoreError             503  the database cannot be opened, read or written
└── WeightsError           503  a weights file is missing, corrupt or not a GGUF file
"""

from __future__ import annotations

from typing import Any

from forethought.models.errors import ForethoughtError


class InvalidRequest(ForethoughtError):
    """A field of the request is missing or wrong; ``param`` names it."""

    code = "invalid_request"
    http_status = 400
    type = "invalid_request_error"


class ContextTooLarge(InvalidRequest):
    """The context is longer than the model or the server's limit allows."""

    code = "context_length_exceeded"


class Unauthorized(ForethoughtError):
    """The API key is missing or unknown."""

    code = "invalid_api_key"
    http_status = 401
    type = "authentication_error"


class NotFound(ForethoughtError):
    """The context or decision does not exist for this tenant."""

    code = "not_found"
    http_status = 404
    type = "invalid_request_error"


class ModelNotFound(NotFound):
    """The upstream serves no model of this name."""

    code = "model_not_found"


class BudgetSpent(ForethoughtError):
    """What is left of the period's budget does not pay for the request; asking again is no help."""

    code = "budget_spent"
    http_status = 429
    type = "insufficient_quota"


class UpstreamError(ForethoughtError):
    """The upstream could not be reached, or broke off in mid-answer.

    ``reached``: the request may have come there; where it has not, it cost nothing.
    """

    code = "upstream_unreachable"
    http_status = 502
    type = "upstream_error"
    reached: bool = True


class UpstreamTimeout(UpstreamError):
    """The upstream did not answer in time."""

    code = "upstream_timeout"
    http_status = 504


class ConfigError(ForethoughtError):
    """A setting or a config file cannot be used; ``param`` names it."""

    code = "config_invalid"


class StoreError(ForethoughtError):
    """The database cannot be opened, read or written; ``param`` names it."""

    code = "store_unavailable"
    http_status = 503


class WeightsError(ForethoughtError):
    """A weights file is missing, corrupt or not a GGUF file; ``param`` names it."""

    code = "weights_invalid"
    http_status = 503


def openai_error(error: ForethoughtError) -> dict[str, Any]:
    """The error as OpenAI's clients expect it, in a reply's body or in a stream's event."""
    return {
        "error": {
            "message": str(error),
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }
