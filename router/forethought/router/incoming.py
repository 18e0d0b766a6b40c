"""A chat request as it arrives: checked, and freed of the fields that are for us.

The client's own fields stay as they are, known or not. Ours are ``forethought`` in the body
(``{"strategy": name, "context": id}``) and the header ``x-forethought-strategy``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from forethought.router.context import check_messages
from forethought.router.errors import InvalidRequest
from forethought.router.strategies import BY_NAME

FIELD: Final = "forethought"
STRATEGY_HEADER: Final = "x-forethought-strategy"

AUTO: Final = "forethought/auto"
"""The model name that stands for the one the server is set up with."""

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")

# Clients choose other x- headers to reach the model; these are about us or about one connection.
_KEPT_BACK: Final = ("x-forethought-", "x-stainless-", "x-forwarded-", "x-real-", "x-api-key")
_PASSED_ON: Final = frozenset(
    {"anthropic-beta", "anthropic-version", "baggage", "openai-beta", "traceparent", "tracestate"}
)

_NATIVE_EFFORT: Final = re.compile(r"(^|/)(o[134](-|$)|gpt-5)")
"""OpenAI's reasoning models, which take ``reasoning_effort`` themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What the client asks for. ``body`` is without our field, ``headers`` may go upstream.

    ``began`` is when the request came in, by ``time.perf_counter``. ``native``: the client speaks
    the upstream's own language, which is not OpenAI's, so a reply may stay as it is.
    """

    tenant: str
    body: dict[str, Any]
    headers: Mapping[str, str]
    strategy: str | None
    context_id: str | None
    began: float
    native: bool = False

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))


def chat_request(
    body: dict[str, Any], *, tenant: str, headers: Mapping[str, str], began: float
) -> ChatRequest:
    """Check a parsed body and take our own fields out of it.

    Args:
        body: The client's JSON object; it is not changed.
        tenant: Who asks.
        headers: The request's headers, names in lower case.
        began: When the request came in.

    Raises:
        InvalidRequest: A field is missing or wrong.
    """
    check_messages(body)
    _check_types(body)
    wish = _wish(body.get(FIELD))
    strategy = wish.get("strategy") or headers.get(STRATEGY_HEADER)
    if strategy is not None and strategy not in BY_NAME:
        raise InvalidRequest(
            f"There is no strategy {strategy!r}.",
            param=f"{FIELD}.strategy",
            remedy=f"Use one of {', '.join(BY_NAME)}, or leave it out.",
        )
    return ChatRequest(
        tenant=tenant,
        body={name: value for name, value in body.items() if name != FIELD},
        headers=passed_on(headers),
        strategy=strategy,
        context_id=wish.get("context"),
        began=began,
    )


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The client's headers that go upstream: never its key, its cookies or its connection's."""
    return {
        name: value
        for name, value in headers.items()
        if name in _PASSED_ON or (name.startswith("x-") and not name.startswith(_KEPT_BACK))
    }


def request_id(headers: Mapping[str, str]) -> str | None:
    """The client's ``x-request-id``, if it is fit to be sent back."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else None


def takes_effort(model: str) -> bool:
    """Whether ``model`` takes ``reasoning_effort`` itself, judged by its name."""
    return _NATIVE_EFFORT.search(model) is not None


def _check_types(body: Mapping[str, Any]) -> None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest(
            "'model' has to be the name of a model.",
            param="model",
            remedy=f"GET /v1/models lists them; {AUTO!r} takes the server's own.",
        )
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("'stream' has to be true or false.", param="stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("'stream_options' has to be an object.", param="stream_options")


def _wish(field: Any) -> dict[str, str]:
    if field is None:
        return {}
    if not isinstance(field, dict):
        raise InvalidRequest(
            f"'{FIELD}' has to be an object.",
            param=FIELD,
            remedy='Send for instance {"strategy": "direct"}.',
        )
    for name, value in field.items():
        if name not in {"strategy", "context"}:
            raise InvalidRequest(
                f"'{FIELD}' has no field {name!r}.",
                param=f"{FIELD}.{name}",
                remedy="It takes 'strategy' and 'context'.",
            )
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"'{FIELD}.{name}' has to be a string.", param=f"{FIELD}.{name}")
    return {name: value for name, value in field.items() if value}
