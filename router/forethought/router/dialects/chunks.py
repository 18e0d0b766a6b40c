"""What translations of a chat-completion stream share: its bytes cut into chunks, and its ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

from forethought.router.dialects.base import Json
from forethought.router.dialects.events import EventCutter
from forethought.router.dialects.faults import parsed
from forethought.router.sse import error_text

_BROKE_OFF: Final = "The upstream ended the stream in mid-answer."


class ChunksTranslation(ABC):
    """Translates the bytes of a stream as they come. What is translated goes to ``_out``."""

    def __init__(self) -> None:
        self._cutter = EventCutter()
        self._out: list[bytes] = []
        self._usage: Any = None
        self._ended = False

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the upstream; return those for the client."""
        for data in self._cutter.feed(chunk):
            self._event(data)
        return self._taken()

    def rest(self) -> bytes:
        """The end of the stream, when no more bytes come."""
        if data := self._cutter.rest():
            self._event(data)
        self._end()
        return self._taken()

    @abstractmethod
    def _start(self, chunk: Json) -> None:
        """Look at a chunk before its choice; the first of them starts the answer."""

    @abstractmethod
    def _choice(self, choice: Json) -> None:
        """Translate a piece of the first choice."""

    @property
    @abstractmethod
    def _finished(self) -> bool:
        """Whether the upstream said why the answer stops."""

    @abstractmethod
    def _stop(self) -> None:
        """End a finished answer."""

    @abstractmethod
    def _fail(self, error: Any, text: str) -> None:
        """End with an error: the one that the upstream sent, or None where it broke off."""

    def _event(self, data: bytes) -> None:
        if self._ended:
            return
        if data == b"[DONE]":
            self._end()
            return
        chunk = parsed(data)
        if not isinstance(chunk, dict):
            return
        if error := chunk.get("error"):
            self._fail(error, error_text(chunk) or _BROKE_OFF)
            self._ended = True
            return
        self._start(chunk)
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                self._choice(choice)

    def _end(self) -> None:
        if self._ended:
            return
        if self._finished:
            self._stop()
        else:
            self._fail(None, _BROKE_OFF)
        self._ended = True

    def _taken(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out
