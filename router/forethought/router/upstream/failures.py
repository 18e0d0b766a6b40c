"""What went wrong on the way to an upstream, whichever client says so, as our errors."""

from __future__ import annotations

from typing import Final

import aiohttp
import httpx2
from aiohttp.http_exceptions import ContentEncodingError

from forethought.router.errors import UpstreamError, UpstreamTimeout
from forethought.router.upstream.patience import Timeouts, timed_out

UNREACHED: Final = "could not be reached"
BROKE_OFF: Final = "broke off in mid-answer"

FAILURES: Final = (aiohttp.ClientError, ValueError)
"""What aiohttp raises; a header that would break out of its line is a ValueError."""

_NO_CONNECTION_IN_TIME: Final = (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout)
_NO_CONNECTION: Final = (
    *_NO_CONNECTION_IN_TIME,
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    httpx2.ConnectError,
)
_TOO_SLOW: Final = (TimeoutError, httpx2.TimeoutException)


def failure(
    error: Exception, what: str, *, name: str, base_url: str, timeouts: Timeouts
) -> UpstreamError:
    """A client's error as ours.

    Args:
        error: Of aiohttp, or of httpx2 below an SDK.
        what: UNREACHED or BROKE_OFF.
        name: The upstream's.
        base_url: Where it is, without secrets.
        timeouts: The waiting times that it had.
    """
    failed = _failed(error, what, name, base_url, timeouts)
    failed.reached = not isinstance(error, _NO_CONNECTION)
    return failed


def _failed(
    error: Exception, what: str, name: str, base_url: str, timeouts: Timeouts
) -> UpstreamError:
    where = f"The upstream {name} at {base_url}"
    if isinstance(error, _NO_CONNECTION_IN_TIME):
        return timed_out(
            f"{where} took no connection within {timeouts.connect_s:g} s.",
            name=name,
            setting="upstream_connect_timeout_s",
        )
    if isinstance(error, _TOO_SLOW):
        return UpstreamTimeout(
            f"{where} did not take the request in time ({type(error).__name__}).",
            param=name,
            remedy="Try again; it, or the way to it, is overloaded.",
        )
    again = "Check that it runs and that its base_url is right."
    remedy = "Try again." if what == BROKE_OFF else again
    return UpstreamError(f"{where} {what} ({_said(error)}).", param=name, remedy=remedy)


def _said(error: Exception) -> str:
    """An error in a few words, by the names of the SDKs' client whoever carried the call.

    aiohttp's own texts have whole addresses and replies in them.
    """
    match error:
        case aiohttp.ClientConnectorError():
            return f"ConnectError: {error.os_error}"
        case aiohttp.ClientHttpProxyError():
            return f"ProxyError: {error.status} {error.message}"
        case aiohttp.ServerDisconnectedError():
            return "RemoteProtocolError: the server closed the connection without a reply"
        case aiohttp.ClientResponseError():  # what follows the colon is what came
            return f"RemoteProtocolError: {error.message.partition(':')[0]}"
        case aiohttp.ClientPayloadError() if isinstance(error.__cause__, ContentEncodingError):
            return f"DecodingError: {error.__cause__.message}"
        case aiohttp.ClientPayloadError() | aiohttp.ClientOSError():
            return "ReadError"
        case _:
            return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
