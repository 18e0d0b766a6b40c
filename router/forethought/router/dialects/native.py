"""Anthropic's events on their way to one of its own clients: passed on as they are, and read."""

from __future__ import annotations

from forethought.models.errors import ForethoughtError
from forethought.router.dialects.events import anthropic_event
from forethought.router.dialects.events_to_chunks import EventsToChunks
from forethought.router.dialects.faults import anthropic_error
from forethought.router.sse import EVENT_END, MAX_EVENT_BYTES, ChunkReader, Seen


class NativeReader:
    """Reads Anthropic's events by their translation. ``message_stop`` is held back."""

    def __init__(self) -> None:
        self._translation = EventsToChunks(with_usage=True)
        self._reader = ChunkReader(hide_usage=False)
        self._buffer = b""
        self._held = b""

    @property
    def seen(self) -> Seen:
        return self._reader.seen

    @property
    def done(self) -> bool:
        return self._reader.done

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes from the upstream; return those that go to the client now."""
        if self.done:
            self._held += chunk
            return b""
        searched = max(0, len(self._buffer) - 3)
        buffer = self._buffer + chunk
        start = 0
        while end := EVENT_END.search(buffer, max(start, searched)):
            event = buffer[start : end.end()]
            self._reader.feed(self._translation.feed(event))
            if self.done:
                self._held, self._buffer = buffer[start:], b""
                return buffer[:start]
            start = end.end()
        self._buffer = buffer[start:]
        if len(self._buffer) > MAX_EVENT_BYTES:
            start, self._buffer = len(buffer), b""
        return buffer[:start]

    def rest(self) -> bytes:
        """What was held back: ``message_stop``, or an event without an end."""
        if self._buffer:
            last, self._buffer = self._buffer, b""
            self._reader.feed(self._translation.feed(last) + self._translation.rest())
            return last
        held, self._held = self._held, b""
        return held

    def failure(self, error: ForethoughtError) -> bytes:
        """Anthropic's event for an error."""
        return anthropic_event(anthropic_error(error.http_status, str(error)))
