"""Write records durably and cheaply: one thread, one transaction for all that wait.

While a transaction is being committed, new records gather; all of them go into the next
one (group commit). So a lone request pays one disk flush, and a hundred concurrent
requests share one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from forethought.router.errors import StoreError
from forethought.router.log.gathering import Call, Gathering
from forethought.router.log.rows import Record, Row, encode
from forethought.router.log.statements import TOUCH
from forethought.router.log.store import Store
from forethought.router.log.transactions import concerns_all, transactions


@dataclass(frozen=True, slots=True)
class WriterStats:
    """What a writer has done so far; ``queued`` calls are waiting now."""

    written: int
    failed: int
    transactions: int
    queued: int


class LogWriter:
    """The log's only writer in this process; its thread runs until ``close``.

    The records of one call are stored together or not at all.

    Args:
        store: Where to write. Close the writer before the store.
        max_queued: Calls that may wait before ``post`` drops what it is given: a stalled
            disk must not fill the memory.
    """

    def __init__(self, store: Store, *, max_queued: int = 10_000) -> None:
        self._store = store
        self._max_queued = max_queued
        self._gathering = Gathering()
        self._database = transactions(store)
        self._lock = Lock()
        self._written = 0
        self._failed = 0
        self._transactions = 0
        self._thread = Thread(target=self._run, name="forethought-log", daemon=True)
        self._thread.start()

    @property
    def stats(self) -> WriterStats:
        """Counts of records and transactions, for the metrics."""
        return WriterStats(
            written=self._written,
            failed=self._failed,
            transactions=self._transactions,
            queued=len(self._gathering),
        )

    async def write(self, *records: Record) -> None:
        """Return once ``records`` are durable; without any, once all before are.

        A cancelled caller's records are still written.

        Raises:
            StoreError: They could not be stored, none of them.
        """
        rows = self._encode(records)
        waiter = asyncio.get_running_loop().create_future()
        self._put(Call(rows, waiter))
        await waiter

    def begin(self, *records: Record) -> asyncio.Future[None]:
        """Queue ``records`` to be durable within 50 ms, or with a write that comes sooner.

        So a decision and its outcome are one transaction where the answer is quick. The future
        ends as ``write`` would; nobody has to wait for it.

        Raises:
            StoreError: They have no stored form, or the log is closed.
        """
        rows = self._encode(records)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(Call(rows, waiter, hurries=False))
        return waiter

    def write_sync(self, *records: Record) -> None:
        """``write`` for threads without an event loop."""
        waiter: Future[None] = Future()
        self._put(Call(self._encode(records), waiter))
        waiter.result()

    def post(self, *records: Record) -> None:
        """Queue ``records`` without waiting; failures are only counted, in ``stats``."""
        with suppress(StoreError):  # counted where it was raised
            self._post(self._encode(records))

    def context_touched(self, context_id: str, at: float) -> None:
        """Count one more query on a context, seen at ``at`` (Unix seconds), as ``post`` does."""
        self._post([(TOUCH, (context_id, 1, at))])

    def flush(self) -> None:
        """Wait until everything queued so far is durable. Blocks; ``await write()`` does not."""
        self.write_sync()

    def close(self) -> None:
        """Write what is queued, then stop. Later records are refused."""
        self._gathering.close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _encode(self, records: Sequence[Record]) -> list[tuple[str, Row]]:
        try:
            return [encode(record) for record in records]
        except StoreError:
            self._count_failed(len(records))
            raise

    def _put(self, call: Call) -> None:
        if self._gathering.add(call):
            return
        self._count_failed(len(call.rows))
        message = f"The log in {self._store.name} is closed."
        raise StoreError(message, param=self._store.name)

    def _post(self, rows: list[tuple[str, Row]]) -> None:
        if len(self._gathering) >= self._max_queued:
            self._count_failed(len(rows))
            return
        with suppress(StoreError):  # counted where it was raised
            self._put(Call(rows, hurries=False))

    def _count_failed(self, records: int) -> None:
        with self._lock:
            self._failed += records

    def _run(self) -> None:
        while calls := self._gathering.take():
            self._commit(calls)
            self._gathering.ended()
            _answer(calls)
        self._database.close()

    def _commit(self, calls: list[Call]) -> None:
        """Store ``calls``, each wholly or not at all; a bad one does not harm the others."""
        batch: dict[str, list[Row]] = {}
        for call in calls:
            for kind, row in call.rows:
                batch.setdefault(kind, []).append(row)
        if not batch:
            return
        try:
            self._database.store(batch)
        except Exception as error:  # noqa: BLE001 the thread must outlive any error
            # What concerns every call would only keep them waiting when tried one by one.
            if len(calls) > 1 and not concerns_all(error):
                for call in calls:
                    self._commit([call])
                return
            for call in calls:
                call.error = self._store.error("written to", error)
            self._count_failed(sum(len(call.rows) for call in calls))
        else:
            self._transactions += 1
            self._written += sum(map(len, batch.values()))


def _answer(calls: Iterable[Call]) -> None:
    """Wake everyone who waits: one wake-up an event loop, not one a call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Call]] = {}
    for call in calls:
        if isinstance(call.waiter, asyncio.Future):
            by_loop.setdefault(call.waiter.get_loop(), []).append(call)
        elif call.waiter is not None:
            _resolve(call.waiter, call.error)
    for loop, answered in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve_all, answered)


def _resolve_all(calls: Iterable[Call]) -> None:
    for call in calls:
        if call.waiter is not None and not call.waiter.done():
            _resolve(call.waiter, call.error)


def _resolve(waiter: asyncio.Future[None] | Future[None], error: StoreError | None) -> None:
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)
        # Whoever does not ask has no use for a complaint that nobody asked.
        waiter.exception()
