"""When a request is sent again, and after how long: the rules of the openai SDK.

A test holds them against the SDK's own.
"""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections.abc import Mapping
from typing import Final

MAX_ASKED_S: Final = 120.0
"""A server that asks for a longer pause is not asked again at all."""

FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 8.0
_JITTER: Final = 0.25

_PASSING: Final = frozenset({408, 409, 429})
"""Beside all of 5xx: timeouts, conflicts and rate limits pass."""


def is_worth_another_try(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a reply is a failure that may pass; the server may say so itself."""
    asked = _asked_s(headers)
    if asked is not None and math.isfinite(asked) and asked > MAX_ASKED_S:
        return False
    match headers.get("x-should-retry"):
        case "true":
            return True
        case "false":
            return False
    return status in _PASSING or status >= 500


def pause_s(n_before: int, headers: Mapping[str, str]) -> float:
    """How long to wait before the next try: what the server asks for, else ever longer.

    Args:
        n_before: How often it has been tried again already.
        headers: The failed reply's; none where there was no reply.
    """
    asked = _asked_s(headers)
    if asked is not None and 0 < asked <= MAX_ASKED_S:
        return asked
    longest = min(FIRST_PAUSE_S * 2.0 ** min(n_before, 1000), MAX_PAUSE_S)
    return longest * (1 - _JITTER * random.random())


def _asked_s(headers: Mapping[str, str]) -> float | None:
    """What ``retry-after-ms`` or ``retry-after`` asks for, as milliseconds, seconds or a date."""
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            asked = float(headers.get(name, ""))
        except ValueError:
            continue
        # A number that is too large for a float is long; the word for it is none.
        if asked == math.inf and "inf" not in headers[name].lower():
            return MAX_ASKED_S + 1
        return asked / per_second
    try:
        date = email.utils.parsedate_tz(headers.get("retry-after", ""))
        return None if date is None else email.utils.mktime_tz(date) - time.time()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
