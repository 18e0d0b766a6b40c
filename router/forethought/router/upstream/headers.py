"""Which headers pass between a client and an upstream, in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

# Of one connection (RFC 9110, 7.6.1), whoever sends them.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# The client's key is not ours to pass on; the rest says what a request is, and ours is another.
OWN_REQUEST_HEADERS: Final = _HOP_BY_HOP | {
    "accept",
    "accept-encoding",
    "api-key",
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "user-agent",
    "x-api-key",
}

# Bodies are handed on decoded and re-framed, so these would no longer be true.
_DROPPED_REPLY_HEADERS: Final = _HOP_BY_HOP | {"content-encoding", "content-length", "set-cookie"}


def sent_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of a client's headers that go to the upstream, in lower case."""
    lower = ((name.lower(), value) for name, value in headers.items())
    return {
        name: _utf8(value)
        for name, value in lower
        if name not in OWN_REQUEST_HEADERS and not name.startswith("x-stainless-")
    }


def reply_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of a reply's headers (lower-case names) that are still true of what is handed on."""
    named = headers.get("connection")
    dropped = _DROPPED_REPLY_HEADERS
    if named is not None:
        dropped |= {name.strip().lower() for name in named.split(",")}
    return {name: value for name, value in headers.items() if name not in dropped}


def joined(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; what comes several times is one list."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _utf8(value: str) -> str:
    """A header as it is sent, in UTF-8: servers read headers as ISO-8859-1, whatever they are."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value
