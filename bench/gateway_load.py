"""A client that costs little, so that the server is what is measured: plain sockets and bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from bench.gateway_mock import MODEL

_DOCUMENT: Final = (
    "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes "
    "muffins for her friends every day with four. She sells the remainder at the farmers' market "
    "daily for $2 per fresh duck egg. "
) * 6
_QUERY: Final = "How many eggs does Janet sell every day?"


@dataclass(frozen=True, slots=True)
class Reply:
    """``first_s``: until the first piece of the body came; ``whole_s``: until its end."""

    status: int
    first_s: float
    whole_s: float
    body: bytes


def request(port: int, *, stream: bool) -> bytes:
    """The bytes of a chat completion's request: a context of 1,400 characters and a query."""
    asked = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": _DOCUMENT},
            {"role": "user", "content": _QUERY},
        ],
        **({"stream": True} if stream else {}),
    }
    body = json.dumps(asked).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Authorization: Bearer any\r\nContent-Type: application/json\r\nAccept: */*\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """A kept-alive connection, for one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def ask(self, asked: bytes) -> Reply:
        """Send the request's bytes and read the whole reply."""
        begun = time.perf_counter()
        self._socket.sendall(asked)
        read = b""
        while (end := read.find(b"\r\n\r\n")) < 0:
            read += self._received()
        head, body = read[:end], read[end + 4 :]
        while not body:
            body = self._received()
        first = time.perf_counter() - begun
        parts, size = [body], len(body)
        length = _length(head)
        tail = body
        while size < length if length is not None else not tail.endswith(b"0\r\n\r\n"):
            part = self._received()
            parts.append(part)
            size += len(part)
            tail = (tail + part)[-8:]
        whole = time.perf_counter() - begun
        return Reply(int(head.split(b" ", 2)[1]), first, whole, b"".join(parts))

    def _received(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part


async def per_second(port: int, *, connections: int, seconds: float, stream: bool) -> float:
    """Whole replies a second (or, streamed, events a second) over so many connections at once."""
    asked = request(port, stream=stream)
    end = time.perf_counter() + seconds
    counts = await asyncio.gather(
        *(_ask_until(port, asked, end, stream) for _ in range(connections))
    )
    return sum(counts) / (time.perf_counter() - end + seconds)


async def _ask_until(port: int, asked: bytes, end: float, stream: bool) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    count = 0
    try:
        while time.perf_counter() < end:
            writer.write(asked)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(head.decode(errors="replace"))
            if stream:
                count += await _events(reader)
            else:
                length = _length(head)
                if length is None:
                    await reader.readuntil(b"0\r\n\r\n")
                else:
                    await reader.readexactly(length)
                count += 1
    finally:
        writer.close()
    return count


async def _events(reader: asyncio.StreamReader) -> int:
    """How many events a chunked body has; it is read to its end."""
    events, tail = 0, b""
    while not tail.endswith(b"0\r\n\r\n"):
        part = await reader.read(65536)
        if not part:
            raise ConnectionError("the stream broke off")
        # An event's start may be split between two reads.
        events += (tail[-4:] + part).count(b"data:")
        tail = (tail + part)[-8:]
    return events


def _length(head: bytes) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return None
