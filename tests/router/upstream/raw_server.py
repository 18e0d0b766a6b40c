"""A server that answers with given bytes, on a real socket: also what no HTTP library sends."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

CLOSE: Final = "close"
RESET: Final = "reset"
Piece = bytes | float | str
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def reply(body: bytes = b"ok", *headers: str, status: str = "200 OK") -> bytes:
    """A reply with a length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@dataclass
class RawServer:
    """``replies``: one a request, in pieces; a float waits, CLOSE and RESET end the connection.

    The last reply is repeated.
    """

    replies: deque[list[Piece]]
    address: str = ""
    n_connections: int = 0
    n_written: int = 0
    """Pieces that have gone out."""
    requests: list[bytes] = field(default_factory=list)
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        self.open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        self.open.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        pieces = self.replies[0] if len(self.replies) == 1 else self.replies.popleft()
        if pieces[0] != b"early":
            head += await reader.readexactly(int(length[1]) if length else 0)
        self.requests.append(head)
        for piece in pieces:
            match piece:
                case "close":
                    return False
                case "reset":
                    linger = struct.pack("ii", 1, 0)
                    opened = writer.get_extra_info("socket")
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return False
                case float():
                    await asyncio.sleep(piece)
                case bytes() if piece != b"early":
                    writer.write(piece)
                    await writer.drain()
                    self.n_written += 1
        return True


@asynccontextmanager
async def raw_server(
    *replies: Iterable[Piece], tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """A running server. A reply that begins with b"early" comes before its request's body."""
    raw = RawServer(deque(list(pieces) for pieces in replies))
    server = await asyncio.start_server(raw, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    raw.address = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        server.close()
        for writer in list(raw.open):
            writer.transport.abort()
