"""A scripted server that speaks Anthropic's Messages API, on a real socket, or any other.

Each reply is given beforehand: its status, its headers and the pieces of its body. ``RESET``
among the pieces breaks the connection off there; a number waits for so many seconds, also before
the reply's headers where it is the first.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

Json = dict[str, Any]
RESET: Final = b"\0reset"


@dataclass(frozen=True, slots=True)
class Scripted:
    pieces: tuple[bytes | float, ...]
    status: int = 200
    headers: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: dict[str, str]
    body: Json
    raw: bytes


class FakeAnthropic(AbstractContextManager["FakeAnthropic"]):
    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.replies: deque[Scripted] = deque()
        self.hung_up = 0
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def says(self, content: Any, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = {"content-type": "application/json", **named}
        self.replies.append(Scripted((json.dumps(content).encode(),), status, kind))

    def streams(self, *pieces: bytes | float) -> None:
        self.replies.append(Scripted(pieces, headers={"content-type": "text/event-stream"}))

    def reply(self) -> Scripted:
        """The reply to the latest request."""
        return self.replies.popleft()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeAnthropic

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(raw)

    def do_GET(self) -> None:
        self._answer(b"")

    def _answer(self, raw: bytes) -> None:
        body: Json = json.loads(raw or b"{}")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.fake.requests.append(Received(self.path, headers, body, raw))
        reply = self.fake.reply()
        pieces = list(reply.pieces)
        if pieces and isinstance(pieces[0], float):
            self.fake.closing.wait(pieces[0])
            pieces.pop(0)
        self.send_response(reply.status)
        sent = {"request-id": "req_fake", **reply.headers, "transfer-encoding": "chunked"}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in pieces:
            if isinstance(piece, int | float):
                self.wfile.flush()
                self.fake.closing.wait(piece)
                continue
            if piece == RESET:
                self.wfile.flush()
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()
                return
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            except ConnectionError:  # the client gave up
                self.fake.hung_up += 1
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in http.server
        pass


def message(*content: Json, stop_reason: str = "end_turn", **more: Any) -> Json:
    """A whole reply."""
    usage = {
        "input_tokens": 5,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 100,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
        "service_tier": "standard",
    }
    said = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5"}
    end = {"stop_reason": stop_reason, "stop_sequence": None}
    return {**said, "content": list(content), **end, "usage": usage, **more}


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False).encode()
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)


def started() -> bytes:
    first = {**message(), "stop_reason": None}
    first["usage"] = {**first["usage"], "output_tokens": 1}
    return event("message_start", message=first)


def block(index: int, content: Json, *deltas: Json) -> bytes:
    return b"".join([
        event("content_block_start", index=index, content_block=content),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ])  # fmt: skip


def ended(stop_reason: str = "end_turn") -> bytes:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage={"output_tokens": 9}) + event("message_stop")


def text(*pieces: str, index: int = 0) -> bytes:
    deltas = ({"type": "text_delta", "text": piece} for piece in pieces)
    return block(index, {"type": "text", "text": ""}, *deltas)
