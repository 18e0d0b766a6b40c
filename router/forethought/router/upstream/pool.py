"""Connections to one server, kept open between requests."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Final

import httpx2
from aiohappyeyeballs import start_connection

from forethought.router.upstream.http1 import Connection
from forethought.router.upstream.patience import Timeouts

MAX_CONNECTIONS: Final = 1000
MAX_IDLE: Final = 100
IDLE_S: Final = 5.0
"""These three as in the openai SDK's client."""

_SECOND_ADDRESS_S: Final = 0.25
"""How long the first of a name's addresses has before the next is tried beside it (RFC 8305)."""

_PORTS: Final = {"http": 80, "https": 443}


class Pool:
    """Connections to the server of ``url``, as many as there are requests at once.

    The event loop says when an idle connection ends, so none is asked before each request, as
    httpcore asks all of them.

    Args:
        url: Its scheme, host and port count.
        timeouts: Waiting times.
        keep_alive: Whether connections are used again.
    """

    def __init__(self, url: httpx2.URL, timeouts: Timeouts, *, keep_alive: bool = True) -> None:
        self._host = url.raw_host.decode("ascii").strip("[]")
        self._port = url.port or _PORTS[url.scheme]
        self._tls = httpx2.create_ssl_context() if url.scheme == "https" else None
        if self._tls is not None:
            self._tls.set_alpn_protocols(["http/1.1"])
        self._timeouts = timeouts
        self._max_idle = MAX_IDLE if keep_alive else 0
        self._loop = asyncio.get_running_loop()
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: deque[Connection] = deque()
        """The one that was used last is at the right."""
        self._sweeping: asyncio.TimerHandle | None = None

    async def take(self) -> Connection:
        """An open connection, to be given back.

        Raises:
            httpx2.PoolTimeout: All that are allowed are in use.
            httpx2.ConnectError, httpx2.ConnectTimeout: The server takes none.
        """
        if self._free.locked():
            try:
                async with asyncio.timeout(self._timeouts.pool_s):
                    await self._free.acquire()
            except TimeoutError as error:
                raise httpx2.PoolTimeout("") from error
        else:
            await self._free.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.quiet and self._loop.time() < connection.idle_since + IDLE_S:
                    return connection
                connection.close()
            return await self._opened()
        except BaseException:
            self._free.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request if it can be used again; else close it."""
        self._free.release()
        if not connection.reusable or len(self._idle) >= self._max_idle:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(IDLE_S, self._sweep)

    def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        self._max_idle = 0
        if self._sweeping is not None:
            self._sweeping.cancel()
        while self._idle:
            self._idle.pop().close()

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        due = self._loop.time() - IDLE_S
        while self._idle and self._idle[0].idle_since <= due:
            self._idle.popleft().close()
        self._sweeping = None
        if self._idle:
            self._sweeping = self._loop.call_at(self._idle[0].idle_since + IDLE_S, self._sweep)

    async def _opened(self) -> Connection:
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                return await self._connected()
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("") from error
        except (OSError, RuntimeError) as error:  # uvloop has RuntimeErrors of its own
            raise httpx2.ConnectError(str(error)) from error

    async def _connected(self) -> Connection:
        found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        opened = await start_connection(
            found, happy_eyeballs_delay=_SECOND_ADDRESS_S, interleave=1, loop=self._loop
        )
        try:
            # An answer may take minutes, through routers that forget silent connections.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._timeouts.write_s),
                sock=opened,
                ssl=self._tls,
                server_hostname=self._host if self._tls is not None else None,
            )
        except BaseException:
            opened.close()
            raise
        return connection
