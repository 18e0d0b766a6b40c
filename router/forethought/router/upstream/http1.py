"""One HTTP/1.1 connection on the event loop; replies are parsed by llhttp (httptools).

The parser of Node.js and of our own server, used from the other side. What it leaves to its user
is here: when a body without a length ends, interim replies, and whether the connection can be used
again. Errors are httpx2's, so that callers need not know which client sent a request.
"""

from __future__ import annotations

import asyncio
import select
from typing import Final, cast

import httptools
import httpx2

MAX_HEAD_BYTES: Final = 131_072
"""Of a reply's headers; h11 stops there too. A server could fill the memory with them."""

MAX_UNREAD_BYTES: Final = 262_144
"""Of a streamed body: then the server has to wait until its reader has caught up."""


class Connection(asyncio.Protocol):
    """A connection for one exchange at a time: ``send``, then ``chunk`` or ``read`` to the end.

    After an error, or where the body is not read to its end, it is of no further use: ``close`` it.

    Args:
        write_timeout_s: How long the server may take nothing of a large request.
    """

    def __init__(self, write_timeout_s: float) -> None:
        self.complete = True
        """Whether the reply to the latest request is here to its end."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.idle_since = 0.0
        self._write_timeout_s = write_timeout_s
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._readable = select.poll()
        self._body: list[bytes] = []
        self._n_unread = self._n_head = 0
        self._has_head = self._has_length = self._keeps_alive = self._whole = False
        self._paused = False
        self._error: httpx2.TransportError | None = None
        self._news: asyncio.Future[None] | None = None
        self._stalled: asyncio.TimerHandle | None = None

    async def send(self, request: bytes) -> None:
        """Send a whole request; return when the reply's status and headers are here.

        Raises:
            httpx2.TransportError: The connection broke, or what came is not HTTP.
        """
        self.complete = self._has_head = self._whole = False
        self._body, self._n_unread = [], 0
        self._resume()
        self._transport.write(request)
        while not self._has_head:
            await self._wait()

    async def chunk(self) -> bytes:
        """What has come of the body since; nothing at its end."""
        while not self._body:
            if self.complete:
                return b""
            await self._wait()
        return self._taken()

    async def read(self) -> bytes:
        """All of the body."""
        self._whole = True
        self._resume()
        while not self.complete:
            await self._wait()
        return self._taken()

    @property
    def reusable(self) -> bool:
        """Whether another request can be sent after this one."""
        return (
            self.complete
            and self._keeps_alive
            and not self._transport.is_closing()
            # A reply that comes before its request has gone out leaves the rest of it behind.
            and self._transport.get_write_buffer_size() == 0
        )

    @property
    def quiet(self) -> bool:
        """Whether nothing has come on an idle connection: not its end either, of which the event
        loop may not have told us yet.
        """
        return not self._transport.is_closing() and not self._readable.poll(0)

    def close(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._news = self._loop.create_future()
        await self._news

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _fail(self, error: httpx2.TransportError) -> None:
        if not self.complete and self._error is None:
            self._error = error
        self._transport.abort()
        self._tell()

    def _taken(self) -> bytes:
        body = self._body
        taken = body[0] if len(body) == 1 else b"".join(body)
        self._body, self._n_unread = [], 0
        self._resume()
        return taken

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self.complete:  # nobody asked for it, so it must not be taken for the next reply
            self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            said = error.__context__ or error
            self._fail(httpx2.RemoteProtocolError(f"the server's reply is not HTTP/1.1: {said}"))
            return
        if self._n_unread > MAX_UNREAD_BYTES and not (self._whole or self._paused):
            self._paused = True
            self._transport.pause_reading()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        if exc is None and self._has_head and not self._has_length:
            self.complete = True  # such a body ends with its connection
            self._tell()
        elif exc is not None:
            self._fail(httpx2.ReadError(""))
        elif self._has_head:
            self._fail(httpx2.RemoteProtocolError("the server closed the connection in mid-reply"))
        else:
            self._fail(
                httpx2.RemoteProtocolError("the server closed the connection without a reply")
            )

    def pause_writing(self) -> None:
        self._stalled = self._loop.call_later(self._write_timeout_s, self._write_timed_out)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()

    def _write_timed_out(self) -> None:
        self._fail(httpx2.WriteTimeout(""))

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("more than one reply to a request")
        self.headers = []
        self._n_head, self._has_length = 0, False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._n_head += len(name) + len(value)
        if self._n_head > MAX_HEAD_BYTES:
            raise ValueError(f"more than {MAX_HEAD_BYTES} bytes of headers")
        if self._has_head:  # a trailer, for which nobody has a use
            return
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            self._has_length = True
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise ValueError(f"transfer-encoding {value!r}")
            self._has_length = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        # An interim reply (100 Continue, 103 Early Hints) is followed by the one that counts.
        self._has_head = self.status >= 200

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._n_unread += len(data)

    def on_message_complete(self) -> None:
        if self._has_head:
            self.complete = True
            self._keeps_alive = self._parser.should_keep_alive()
