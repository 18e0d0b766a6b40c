"""How long a call may take, by its stages. A retry counts into the stage it happens in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx2

from forethought.router.errors import UpstreamTimeout

# A line of a stream that is neither empty nor a comment.
_SAYS: Final = re.compile(rb"(?:^|[\r\n])[^:\r\n]")
_LINE_END: Final = re.compile(rb"[\r\n]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds.

    ``connect_s``: for a connection, each time one is made. ``first_token_s``: from the request to
    a stream's first event. ``between_tokens_s``: from one event to the next. ``total_s``: for all
    of a reply, streamed or whole. Comments, which keep a connection alive, are no events.
    """

    connect_s: float = 5.0
    first_token_s: float = 600.0
    between_tokens_s: float = 600.0
    total_s: float = 1800.0
    write_s: float = 60.0
    pool_s: float = 60.0

    def as_httpx(self) -> httpx2.Timeout:
        """The stages that only the connection knows; ``Patience`` watches the reading."""
        return httpx2.Timeout(
            connect=self.connect_s, read=None, write=self.write_s, pool=self.pool_s
        )


class Patience:
    """The clock of one call, which starts with it.

    Args:
        timeouts: The waiting times.
        name: The upstream's, for errors.
    """

    def __init__(self, timeouts: Timeouts, name: str) -> None:
        self._timeouts = timeouts
        self._name = name
        began = asyncio.get_running_loop().time()
        self._first_due = began + timeouts.first_token_s
        self._total_due = began + timeouts.total_s

    async def whole(self, call: Awaitable[T]) -> T:
        """Wait for a reply in one piece.

        Raises:
            UpstreamTimeout: It took too long.
        """
        try:
            async with asyncio.timeout_at(self._total_due):
                return await call
        except TimeoutError as error:
            raise self._unfinished() from error

    async def opened(self, call: Awaitable[T]) -> T:
        """Wait for the headers of a stream.

        Raises:
            UpstreamTimeout: They took longer than the first event may.
        """
        try:
            async with asyncio.timeout_at(min(self._first_due, self._total_due)):
                return await call
        except TimeoutError as error:
            raise self._silent(None) from error

    async def watched(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The bytes of a stream as they come.

        Raises:
            UpstreamTimeout: The first event, the next one or the end took too long.
        """
        gap_s, total_due = self._timeouts.between_tokens_s, self._total_due
        said_at: float | None = None
        lines = Lines()
        alarm = _Alarm()
        try:
            while True:
                due = self._first_due if said_at is None else said_at + gap_s
                alarm.set(min(due, total_due))
                try:
                    chunk = await anext(chunks, None)
                except asyncio.CancelledError as error:
                    if alarm.rang_for_this():
                        raise self._silent(said_at) from error
                    raise
                finally:
                    alarm.task = None
                if chunk is None:
                    return
                if lines.say_something(chunk):
                    said_at = alarm.loop.time()
                yield chunk
        finally:
            alarm.close()

    def _silent(self, said_at: float | None) -> UpstreamTimeout:
        timeouts = self._timeouts
        due = self._first_due if said_at is None else said_at + timeouts.between_tokens_s
        if self._total_due <= due:
            return self._unfinished()
        if said_at is None:
            return timed_out(
                f"The upstream {self._name} sent no token within {timeouts.first_token_s:g} s.",
                name=self._name,
                setting="upstream_first_token_timeout_s",
            )
        return timed_out(
            f"The upstream {self._name} fell silent in mid-answer for "
            f"{timeouts.between_tokens_s:g} s.",
            name=self._name,
            setting="upstream_between_tokens_timeout_s",
        )

    def _unfinished(self) -> UpstreamTimeout:
        return timed_out(
            f"The upstream {self._name} did not finish within {self._timeouts.total_s:g} s.",
            name=self._name,
            setting="upstream_timeout_s",
        )


def timed_out(message: str, *, name: str, setting: str) -> UpstreamTimeout:
    """The error of a stage that took too long; ``setting`` is how long it may take."""
    return UpstreamTimeout(message, param=name, remedy=f"Try again, or raise {setting}.")


class _Alarm:
    """Ends waits at their times, as ``asyncio.timeout`` does, by one timer for all of them.

    A timer each would cost as much as reading the chunk; this one is set anew only when it has
    rung too early.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.task: asyncio.Task[Any] | None = None
        """Who waits now."""
        self._cancelled_before = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._rang = False

    def set(self, due: float) -> None:
        """The current task waits until ``due``, by the loop's clock."""
        self.task = task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._cancelled_before = task.cancelling()
        self._due = due
        if self._timer is None or self._timer.when() > due:
            self.close()
            self._timer = self.loop.call_at(due, self._ring)

    def rang_for_this(self) -> bool:
        """Whether the cancellation that ended the wait was this alarm's alone."""
        task = self.task
        return self._rang and task is not None and task.uncancel() <= self._cancelled_before

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        if self.task is None:
            return
        if self.loop.time() < self._due:
            self._timer = self.loop.call_at(self._due, self._ring)
            return
        self._rang = True
        self.task.cancel()


class Lines:
    """Tells events from comments, however a stream is cut."""

    def __init__(self) -> None:
        self._begun = b""
        """The first byte of a line that has not ended yet."""

    def say_something(self, chunk: bytes) -> bool:
        """Whether ``chunk`` has more in it than comments and empty lines."""
        text = self._begun + chunk
        # The usual case without a look at the lines: whole events.
        if chunk.endswith(b"\n"):
            self._begun = b""
        else:
            self._begun = _LINE_END.split(text)[-1][:1]
        return _SAYS.search(text) is not None
