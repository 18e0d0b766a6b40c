"""One model call of sleep: through an upstream of any kind, made again where that can help.

Sleep runs in threads of its own, upstreams in the server's event loop: a call is begun there
and waited for here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import asdict
from threading import Event
from typing import Any, Final

from forethought.router.context import text_of
from forethought.router.dialects.faults import message_of
from forethought.router.errors import UpstreamError
from forethought.router.outcomes import first_choice
from forethought.router.records import Usage
from forethought.router.sleep.writer import estimated_tokens
from forethought.router.sse import tier_of, usage_of
from forethought.router.upstream.base import UpstreamReply

log = logging.getLogger(__name__)

Ask = Callable[[Mapping[str, Any]], "Future[UpstreamReply]"]
"""Begins a chat completion. Cancelling the future ends it upstream."""

WAITS_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Waits before a call is made again: about a minute, in which an upstream can restart."""

_POLL_S: Final = 0.2
"""How soon a stop is noticed."""


class _Refused(UpstreamError):
    """A reply that the same call would get again."""


def complete(ask: Ask, body: Mapping[str, Any], label: str, stopping: Event) -> dict[str, Any]:
    """Make one call, again for about a minute where that can help.

    Args:
        ask: Begins a call.
        body: The chat-completion request.
        label: What errors call it.
        stopping: Ends the waiting when it is set.

    Returns:
        ``text``, ``usage`` (the fields of a ``Usage``) and ``service_tier``, as JSON.

    Raises:
        UpstreamError: The call failed for good, or sleep is stopped.
    """
    waits_s = iter(WAITS_S)
    while True:
        try:
            return _read(_unless_stopped(ask, body, stopping), body)
        except UpstreamError as error:
            wait_s = next(waits_s, None)
            final = isinstance(error, _Refused) or stopping.is_set() or wait_s is None
            if final or stopping.wait(wait_s):
                raise UpstreamError(f"Sleep's call {label!r} failed: {error}") from error
            log.warning("sleep's call %r is made again: %s", label, error)


def _unless_stopped(ask: Ask, body: Mapping[str, Any], stopping: Event) -> UpstreamReply:
    """The reply; a stop does not wait for it."""
    call: Future[UpstreamReply] | None = None
    while not stopping.is_set():
        call = call or ask(body)
        if wait([call], timeout=_POLL_S).done:
            return call.result()
    if call is not None:
        call.cancel()
    raise UpstreamError("Sleep was stopped in mid-call.")


def _read(reply: UpstreamReply, body: Mapping[str, Any]) -> dict[str, Any]:
    if reply.status >= 400:
        passing = reply.status in {408, 409, 425, 429} or reply.status >= 500
        raise (UpstreamError if passing else _Refused)(message_of(reply.body, reply.status))
    try:
        said = json.loads(reply.body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("choices"), list):
        raise UpstreamError("the reply is no chat completion")
    text, finish_reason = first_choice(said)
    if not text and finish_reason == "length":
        log.warning("%s spent all its tokens before a word of its answer", body.get("model"))
    usage = usage_of(said.get("usage")) or _estimated(body, text)
    return {"text": text, "usage": asdict(usage), "service_tier": tier_of(said)}


def _estimated(body: Mapping[str, Any], text: str) -> Usage:
    """What a call consumed whose reply does not say it: what is unknown is not free."""
    sent = sum(estimated_tokens(text_of(m.get("content"))) for m in body["messages"])
    return Usage(input_tokens=sent, output_tokens=estimated_tokens(text))
