"""Read a stream of chat-completion chunks while it is passed on.

Events go through whole and as they are; what arrives of an event before its end waits for
the rest. The final ``[DONE]`` is held back, so that the outcome can be made durable first.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from forethought.models.errors import ForethoughtError
from forethought.router.call_index import CallIndex
from forethought.router.errors import openai_error
from forethought.router.records import Usage

MAX_EVENT_BYTES: Final = 16 * 2**20
"""A longer event is passed on unread: memory must not depend on the upstream's manners."""

# A lone CR ends a line too, unless an LF follows. After an LF it will, if it has not come yet.
EVENT_END: Final = re.compile(
    rb"\n(?:\n|\r\n|\r(?!\n|\Z))|\r\n(?:\r\n|\n|\r(?!\n|\Z))|\r(?!\n)(?:\r\n|\n|\r(?!\n))"
)
_DONE: Final = b"[DONE]"
_NULL_USAGE: Final = re.compile(rb',\s*"usage"\s*:\s*null')


@dataclass(slots=True)
class Seen:
    """What the chunks so far said.

    ``pieces`` counts the deltas with content, ``first_at`` is when the first of them came, by
    ``time.perf_counter``.
    """

    usage: Usage | None = None
    service_tier: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    pieces: int = 0
    first_at: float | None = None
    texts: list[str] = field(default_factory=list)
    begun: set[int] = field(default_factory=set)
    finished: set[int] = field(default_factory=set)
    """The choices that have begun and that have come to their end, by index."""

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def ended(self) -> bool:
        """Whether each choice came to its end, or the upstream named an error."""
        every = self.finish_reason is not None and self.begun <= self.finished
        return every or self.error is not None


class Reader(Protocol):
    """Reads a stream on its way. ``done``: its last event has come, and is held back."""

    @property
    def seen(self) -> Seen: ...

    @property
    def done(self) -> bool: ...

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes from the upstream; return those that go to the client now."""
        ...

    def rest(self) -> bytes:
        """What was held back."""
        ...

    def failure(self, error: ForethoughtError) -> bytes:
        """An event that says, in the stream's language, that the answer broke off."""
        ...


class ChunkReader:
    """Cuts a stream into events and reads them on the side.

    Args:
        hide_usage: The usage was asked for by us, not by the client: keep it from the client.
    """

    def __init__(self, *, hide_usage: bool) -> None:
        self.seen = Seen()
        self.done = False
        self._hide_usage = hide_usage
        self._calls = CallIndex()
        self._buffer = b""
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes from the upstream; return those that go to the client now."""
        if self.done:
            self._held += chunk
            return b""
        buffer = self._buffer + chunk if self._buffer else chunk
        out = []
        start = 0
        # An end may have begun in the earlier bytes: three bytes back covers CR LF CR.
        for end in _event_ends(buffer, max(0, len(self._buffer) - 3)):
            event = buffer[start:end]
            start = end
            passed = self._event(event)
            if self.done:
                self._held = event + buffer[start:]
                self._buffer = b""
                return b"".join(out)
            out.append(passed)
        self._buffer = buffer[start:]
        if len(self._buffer) > MAX_EVENT_BYTES:
            out.append(self._buffer)
            self._buffer = b""
        return b"".join(out)

    def rest(self) -> bytes:
        """What was held back: the final ``[DONE]``, or an event without an end."""
        if not self.done and self._buffer:
            last, self._buffer = self._buffer, b""
            return self._event(last)
        held, self._held = self._held, b""
        return held

    def failure(self, error: ForethoughtError) -> bytes:
        """An event that says that the answer broke off."""
        return error_event(error)

    def _event(self, event: bytes) -> bytes:
        """Read one event; return what of it goes to the client."""
        data = _data_of(event)
        if not data:
            return event
        if data == _DONE:
            self.done = True
            return event
        try:
            chunk = _parsed(data)
            exact = json.loads(data) if b'"tool_calls"' in data else None
        except (ValueError, RecursionError):
            return event
        if not isinstance(chunk, dict):
            return event
        self._read(chunk)
        if exact is not None and self._calls.complete(exact):
            event = _event_of(exact)
        if self._hide_usage and "usage" in chunk:
            return _without_usage(event, chunk)
        return event

    def _read(self, chunk: dict[str, Any]) -> None:
        seen = self.seen
        if (usage := usage_of(chunk.get("usage"))) is not None:
            seen.usage = usage
        if "service_tier" in chunk:
            seen.service_tier = tier_of(chunk) or seen.service_tier
        if chunk.get("error"):
            seen.error = error_text(chunk)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index", 0) if isinstance(choice, dict) else None
            if isinstance(index, int):
                self._read_choice(index, choice)

    def _read_choice(self, index: int, choice: dict[str, Any]) -> None:
        seen = self.seen
        seen.begun.add(index)
        if isinstance(choice.get("finish_reason"), str):
            seen.finished.add(index)
            if index == 0 or seen.finish_reason is None:
                seen.finish_reason = choice["finish_reason"]
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        content = delta.get("content")
        if content or any(value for name, value in delta.items() if name != "role"):
            seen.pieces += 1
            seen.first_at = seen.first_at or time.perf_counter()
        if index == 0 and isinstance(content, str):
            seen.texts.append(content)


def error_event(error: ForethoughtError) -> bytes:
    """An event that says that the answer broke off."""
    return b"data: " + json.dumps(openai_error(error)).encode() + b"\n\n"


def usage_of(value: Any) -> Usage | None:
    """The tokens of a reply's ``usage``; None where it has none."""
    if not isinstance(value, dict):
        return None
    details = value.get("prompt_tokens_details")
    return Usage(
        input_tokens=_count(value, "prompt_tokens"),
        cached_tokens=_count(details, "cached_tokens"),
        cache_write_tokens=_count(details, "cache_write_tokens"),
        cache_write_1h_tokens=_count(details, "cache_write_1h_tokens"),
        output_tokens=_count(value, "completion_tokens"),
        reasoning_tokens=_count(value.get("completion_tokens_details"), "reasoning_tokens"),
    )


def tier_of(reply: Mapping[str, Any]) -> str | None:
    """The service tier that a reply or a chunk names."""
    tier = reply.get("service_tier")
    return tier if isinstance(tier, str) and tier else None


def error_text(reply: Any) -> str | None:
    """The message of an error reply in OpenAI's shape, shortened."""
    error = reply.get("error") if isinstance(reply, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:500] if message else None


def _count(value: Any, name: str) -> int:
    found = value.get(name) if isinstance(value, dict) else None
    return max(0, found) if isinstance(found, int) else 0


def _event_ends(buffer: bytes, start: int) -> Iterator[int]:
    """Where the events of ``buffer`` end, those that end behind ``start``."""
    if b"\r" in buffer:
        for found in EVENT_END.finditer(buffer, start):
            yield found.end()
        return
    # All but a few servers end lines by LF alone, which is found ten times as fast.
    while (end := buffer.find(b"\n\n", start)) >= 0:
        start = end + 2
        yield start


def _data_of(event: bytes) -> bytes:
    """What an event's ``data`` lines say, without the spaces around it."""
    line = event.rstrip()
    if line.startswith(b"data:") and b"\n" not in line and b"\r" not in line:
        return line[5:].lstrip()
    lines = event.splitlines()
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def _parsed(data: bytes) -> Any:
    """What is read of an event; not exact enough to be written again, as long integers are not."""
    try:
        return orjson.loads(data)
    except ValueError:
        return json.loads(data)  # which takes what is not quite JSON, such as NaN


def _without_usage(event: bytes, chunk: dict[str, Any]) -> bytes:
    if chunk["usage"] is not None and chunk.get("choices") == []:
        return b""  # the chunk that only carries the usage we asked for
    # Found once, it is the chunk's own, as inside of a string its quotes would be escaped: the
    # rest stays the upstream's to the byte.
    if chunk["usage"] is None:
        without, found = _NULL_USAGE.subn(b"", event)
        if found == 1:
            return without
    try:
        exact = json.loads(_data_of(event))
    except RecursionError:
        return event  # nested too deep to be written anew
    del exact["usage"]
    return _event_of(exact)


def _event_of(chunk: dict[str, Any]) -> bytes:
    text = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + text.encode(errors="replace") + b"\n\n"
