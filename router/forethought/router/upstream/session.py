"""The connections to one upstream: a session of aiohttp that adds nothing of its own."""

from __future__ import annotations

import socket
import urllib.request
from typing import Final

import aiohttp
import httpx2
from aiohttp.connector import Connection

from forethought.router.errors import ConfigError
from forethought.router.upstream.patience import Timeouts

MAX_CONNECTIONS: Final = 1000
"""As in the openai SDK's client."""

IDLE_S: Final = 4.0
"""Below the 5 s after which uvicorn, and with it vLLM, hangs up: a request on a connection that is
being closed has to be sent again, and POST only after a pause."""

_MAX_HEADER_BYTES: Final = 65_536
"""Of one header of a reply. aiohttp's 8 KB is less than some policies take; h11, below the SDKs,
takes 100 KB of all of them."""

_AUTO_HEADERS: Final = ("accept", "accept-encoding", "content-type", "user-agent")


def open_session(
    url: httpx2.URL, timeouts: Timeouts, *, local: bool = False
) -> aiohttp.ClientSession:
    """A session for the server of ``url``.

    Args:
        url: Its scheme and host count.
        timeouts: ``connect_s`` is the session's; the other stages are the caller's to watch.
        local: No proxy of the environment, and a connection for each request.

    Raises:
        ConfigError: The environment asks for a proxy that does not speak HTTP.
    """
    connector = aiohttp.TCPConnector(
        limit=MAX_CONNECTIONS,
        # The system's resolver, whatever else is installed.
        resolver=aiohttp.ThreadedResolver(),
        ssl=httpx2.create_ssl_context() if url.scheme == "https" else True,
        socket_factory=_kept_alive,
        force_close=local,
        keepalive_timeout=None if local else IDLE_S,
    )
    return aiohttp.ClientSession(
        connector=connector,
        # A cookie of one client's reply must not go with another's request.
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(sock_connect=timeouts.connect_s),
        # `trust_env` would look for a proxy in another thread at each request, and in ~/.netrc
        # for a key.
        proxy=None if local else _proxy(url),
        request_class=_Request,
        skip_auto_headers=_AUTO_HEADERS,
        requote_redirect_url=False,
        max_field_size=_MAX_HEADER_BYTES,
    )


class _Request(aiohttp.ClientRequest):
    """A request that takes no reply which was there before it."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        # aiohttp would read what a server has sent unasked on a kept connection as the reply to
        # the next request: somebody else's.
        if conn.protocol is not None and conn.protocol.should_close:
            raise aiohttp.ServerDisconnectedError("the server has sent a reply to no request")
        return await super().send(conn)


def _proxy(url: httpx2.URL) -> str | None:
    """The environment's proxy on the way to ``url``."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(url.host):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        scheme = proxy.partition(":")[0]
        message = f"The environment asks for a {scheme} proxy on the way to {url.host}."
        remedy = f"Give an http proxy as {url.scheme}_proxy, or add the host to no_proxy."
        raise ConfigError(message, param=f"{url.scheme}_proxy", remedy=remedy)
    return proxy


def _kept_alive(address: aiohttp.AddrInfoType) -> socket.socket:
    opened = socket.socket(*address[:3])
    # An answer may take minutes, through routers that forget silent connections.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return opened
