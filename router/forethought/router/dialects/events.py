"""Server-sent events as bytes: cut apart whatever the network did to them, and made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from forethought.router.dialects.base import Json
from forethought.router.sse import EVENT_END


class EventCutter:
    """Cuts a byte stream into the data of its events; a character may come in two pieces."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take bytes; yield the data of each event that is whole by now."""
        searched = max(0, len(self._buffer) - 3)
        self._buffer += chunk
        start = 0
        while end := EVENT_END.search(self._buffer, max(start, searched)):
            event = self._buffer[start : end.end()]
            start = end.end()
            if data := _data(event):
                yield data
        self._buffer = self._buffer[start:]

    def rest(self) -> bytes:
        """The data of an event that the stream ended in the middle of."""
        event, self._buffer = self._buffer, b""
        return _data(event)


def _data(event: bytes) -> bytes:
    lines = (line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(lines)


def anthropic_event(data: Json) -> bytes:
    """An event of a Messages stream; its name is its data's type."""
    return b"event: " + str(data["type"]).encode() + b"\n" + openai_event(data)


def openai_event(data: Any) -> bytes:
    """An event of a chat-completion stream."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + text.encode(errors="replace") + b"\n\n"
