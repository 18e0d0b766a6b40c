"""A reply whose body is on its way, whichever client sent the request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol, Self

import httpx2

from forethought.router.upstream.headers import joined
from forethought.router.upstream.http1 import Connection
from forethought.router.upstream.pool import Pool


class Response(Protocol):
    """Read it to its end by one of the two ways, or close it.

    Both raise an ``httpx2.HTTPError`` where it breaks off.
    """

    status: int
    headers: Mapping[str, str]
    """Lower-case names."""

    async def read(self) -> bytes:
        """All of the body; the second time too."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        ...

    async def aclose(self) -> None:
        """Hang up if the body is not here yet."""
        ...


class DirectResponse:
    """A reply on a connection of ours, which goes back to its pool with the body's end."""

    def __init__(self, connection: Connection, pool: Pool) -> None:
        self.status = connection.status
        self.headers: Mapping[str, str] = joined(connection.headers)
        self._connection: Connection | None = connection
        self._pool = pool
        self._body = b""

    @classmethod
    async def to(cls, request: bytes, pool: Pool) -> Self:
        """The reply to a whole request, once its headers are here."""
        connection = await pool.take()
        try:
            await connection.send(request)
        except BaseException:
            pool.give_back(connection)
            raise
        return cls(connection, pool)

    async def read(self) -> bytes:
        if self._connection is not None:
            try:
                self._body = await self._connection.read()
            finally:
                await self.aclose()
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        while self._connection is not None and (chunk := await self._connection.chunk()):
            yield chunk
        await self.aclose()

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(connection)


class HttpxResponse:
    """A reply on one of httpx2's connections."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = joined(response.headers.raw)
        self._response = response

    async def read(self) -> bytes:
        return await self._response.aread()

    def chunks(self) -> AsyncIterator[bytes]:
        return self._response.aiter_bytes()

    async def aclose(self) -> None:
        await self._response.aclose()


def decoded(response: DirectResponse) -> HttpxResponse:
    """A compressed reply, decompressed by httpx2."""
    body = _Body(response)
    named = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in response.headers.items()]
    return HttpxResponse(httpx2.Response(response.status, headers=named, stream=body))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: DirectResponse) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._response.chunks()

    async def aclose(self) -> None:
        await self._response.aclose()
