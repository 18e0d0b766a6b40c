"""What Forethought says about an answer in its headers.

Each function takes whatever the openai SDK hands out that knows its HTTP response: the reply of
``with_raw_response`` or ``with_streaming_response``, a ``Stream``, an ``APIStatusError``, or the
response itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

DECISION_HEADER = "x-forethought-decision"
STRATEGY_HEADER = "x-forethought-strategy"
OVERHEAD_HEADER = "x-forethought-overhead-ms"


class HasHeaders(Protocol):
    """An HTTP response, or the SDK's raw reply around one."""

    @property
    def headers(self) -> Mapping[str, str]: ...


class HasResponse(Protocol):
    """A stream or an error, which keeps its HTTP response."""

    @property
    def response(self) -> HasHeaders: ...


def decision_id(reply: HasHeaders | HasResponse) -> str:
    """Return the id to give feedback on. Raises LookupError for an answer that has none."""
    return _header(reply, DECISION_HEADER)


def strategy(reply: HasHeaders | HasResponse) -> str:
    """Return the strategy that answered. Raises LookupError for an answer that names none."""
    return _header(reply, STRATEGY_HEADER)


def overhead_ms(reply: HasHeaders | HasResponse) -> float:
    """Return the time that Forethought itself took. Raises LookupError where it is not told."""
    return float(_header(reply, OVERHEAD_HEADER))


def _header(reply: HasHeaders | HasResponse, name: str) -> str:
    response = cast("HasHeaders", getattr(reply, "response", None) or reply)
    value = response.headers.get(name)
    if value is None:
        message = f"The reply has no {name} header: did it come from a Forethought server?"
        raise LookupError(message)
    return value
