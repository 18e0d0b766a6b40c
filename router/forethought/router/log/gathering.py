"""Which calls share a transaction, and when it begins.

Most of a transaction's cost does not depend on how much it stores: it ends in a disk flush.
So among several callers at once it pays to wait a little for the others; a lone caller
never waits.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Final

from forethought.router.errors import StoreError
from forethought.router.log.rows import Row

LINGER_S: Final = 0.05
"""What nobody waits for is stored with what somebody does wait for, or after so long."""

COMPANY_S: Final = 0.004
"""Among several at once, nobody waits longer for others to share a transaction."""

COMPANY_CALLS: Final = 8
"""Nobody waits for more than so many: a transaction costs as much processor time as inserting
ten decisions with their outcomes, so that further ones save little."""

BATCH_CALLS: Final = 1_000
"""Calls in one transaction at most, so that the first is not kept waiting."""


@dataclass(slots=True)
class Call:
    """The rows of one call, which succeed or fail together, and who waits for them.

    ``hurries``: somebody waits, so that the transaction should begin.
    """

    rows: Sequence[tuple[str, Row]]
    waiter: asyncio.Future[None] | Future[None] | None = None
    error: StoreError | None = None
    hurries: bool = True


class Gathering:
    """Calls from any thread, taken in batches by one.

    Several callers at once show while a transaction is under way: others come, where a lone
    one waits for its end. The next transaction then begins when as many hurried calls as these
    and those it stored are there, but at most ``COMPANY_CALLS``, or after ``COMPANY_S``.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._calls: list[Call] = []
        self._since = 0.0
        self._hurried = 0
        self._taken = 0
        self._expected = 1
        self._ended = -math.inf
        self._waits = False
        self._asleep = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call) -> bool:
        """Put ``call`` into the next batch; False once closed."""
        with self._lock:
            if self._closed:
                return False
            first = not self._calls
            if first:
                self._since = time.monotonic()
            self._calls.append(call)
            self._hurried += call.hurries
            # To wake a thread costs the waker 0.1 ms: not for a call that can wait.
            if self._hurried >= self._expected or (first and self._asleep):
                self._ring()
        return True

    def close(self) -> None:
        """Refuse further calls; ``take`` gives those that wait, then nothing."""
        with self._lock:
            self._closed = True
            self._ring()

    def take(self) -> list[Call]:
        """The calls of the next transaction, which begins now; none once closed."""
        while True:
            with self._lock:
                wait_s = self._wait_s(time.monotonic())
                if wait_s <= 0:
                    return self._batch()
                self._waits, self._asleep = True, wait_s == math.inf
            with suppress(Empty):
                self._bell.get(timeout=None if wait_s == math.inf else wait_s)

    def ended(self) -> None:
        """The transaction is over. To be said before anyone is answered, who may come again."""
        with self._lock:
            self._ended = time.monotonic()
            self._expected = max(1, min(self._taken + self._hurried, COMPANY_CALLS))

    def _wait_s(self, now: float) -> float:
        """How long until there is a batch, as far as is known now."""
        if now >= self._ended + COMPANY_S:
            self._expected = 1
        if self._closed or self._hurried >= self._expected:
            return 0.0
        if self._expected > 1:
            return self._ended + COMPANY_S - now
        if self._calls:
            return self._since + LINGER_S - now
        # So soon after a transaction the next call is likely to come without waking anyone.
        return self._ended + LINGER_S - now if now < self._ended + LINGER_S else math.inf

    def _batch(self) -> list[Call]:
        calls, self._calls = self._calls[:BATCH_CALLS], self._calls[BATCH_CALLS:]
        self._taken = sum(call.hurries for call in calls)
        self._hurried -= self._taken
        return calls

    def _ring(self) -> None:
        if self._waits:
            self._waits = False
            self._bell.put(None)
