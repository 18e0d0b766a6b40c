"""Write records durably and cheaply: one thread, one transaction for all that wait.

While a transaction is being committed, new records queue; all of them go into the next
one (group commit). So a lone request pays one disk flush, and a hundred concurrent
requests share one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from forethought.router.errors import StoreError
from forethought.router.log.rows import Record, Row, encode
from forethought.router.log.statements import TOUCH, WRITE_ORDER, compile_statements
from forethought.router.log.store import Store

_BATCH_CALLS = 1_000
"""Calls to ``write`` in one transaction at most, so that the first is not kept waiting."""

LINGER_S = 0.05
"""What nobody waits for is stored with what somebody does wait for, or after so long."""


@dataclass(frozen=True, slots=True)
class WriterStats:
    """What a writer has done so far; ``queued`` calls are waiting now."""

    written: int
    failed: int
    transactions: int
    queued: int


@dataclass(slots=True)
class _Call:
    """The rows of one call, which succeed or fail together, and who waits for them."""

    rows: Sequence[tuple[str, Row]]
    waiter: asyncio.Future[None] | Future[None] | None = None
    error: StoreError | None = None
    hurries: bool = True


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
        self._statements = compile_statements(store.engine.dialect)
        self._connection: Connection | None = None
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock = Lock()
        self._closed = False
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
            queued=self._queue.qsize(),
        )

    async def write(self, *records: Record) -> None:
        """Return once ``records`` are durable; without any, once all before are.

        A cancelled caller's records are still written.

        Raises:
            StoreError: They could not be stored, none of them.
        """
        rows = self._encode(records)
        waiter = asyncio.get_running_loop().create_future()
        self._put(_Call(rows, waiter))
        await waiter

    def begin(self, *records: Record) -> asyncio.Future[None]:
        """Queue ``records`` to be durable within ``LINGER_S``, or with a write that comes sooner.

        So a decision and its outcome are one transaction where the answer is quick. The future
        ends as ``write`` would; nobody has to wait for it.

        Raises:
            StoreError: They have no stored form, or the log is closed.
        """
        rows = self._encode(records)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever does not ask has no use for a complaint that nobody asked.
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._put(_Call(rows, waiter, hurries=False))
        return waiter

    def write_sync(self, *records: Record) -> None:
        """``write`` for threads without an event loop."""
        waiter: Future[None] = Future()
        self._put(_Call(self._encode(records), waiter))
        waiter.result()

    def post(self, *records: Record) -> None:
        """Queue ``records`` without waiting; failures are only counted, in ``stats``."""
        with suppress(StoreError):  # counted where it was raised
            self._post(self._encode(records))

    def context_touched(self, context_id: str, at: float) -> None:
        """Count one more query on a context, seen at ``at`` (Unix seconds), as ``post`` does."""
        self._post([(TOUCH, (context_id, at))])

    def flush(self) -> None:
        """Wait until everything queued so far is durable. Blocks; ``await write()`` does not."""
        self.write_sync()

    def close(self) -> None:
        """Write what is queued, then stop. Later records are refused."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
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

    def _put(self, call: _Call) -> None:
        with self._lock:
            if not self._closed:
                self._queue.put(call)
                return
        self._count_failed(len(call.rows))
        message = f"The log in {self._store.name} is closed."
        raise StoreError(message, param=self._store.name)

    def _post(self, rows: list[tuple[str, Row]]) -> None:
        if self._queue.qsize() >= self._max_queued:
            self._count_failed(len(rows))
            return
        with suppress(StoreError):  # counted where it was raised
            self._put(_Call(rows, hurries=False))

    def _count_failed(self, records: int) -> None:
        with self._lock:
            self._failed += records

    def _run(self) -> None:
        open_ = True
        while open_:
            calls, open_ = self._next_batch()
            if calls:
                self._commit(calls)
                _answer(calls)
        if self._connection is not None:
            self._connection.close()

    def _next_batch(self) -> tuple[list[_Call], bool]:
        """Everything that waits, at least one call, and whether more may follow."""
        calls: list[_Call] = []
        hurries, until = False, 0.0
        call = self._queue.get()
        while call is not None:
            calls.append(call)
            if len(calls) == 1:
                until = time.monotonic() + LINGER_S
            hurries = hurries or call.hurries
            if len(calls) == _BATCH_CALLS:
                return calls, True
            try:
                wait_s = 0.0 if hurries else until - time.monotonic()
                call = self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait()
            except Empty:
                return calls, True
        return calls, False

    def _commit(self, calls: list[_Call], *, reconnected: bool = False) -> None:
        """Store ``calls``, each wholly or not at all; a bad one does not harm the others."""
        try:
            self._transact(calls)
        except Exception as error:  # noqa: BLE001 the thread must outlive any error
            if not reconnected and isinstance(error, DBAPIError) and error.connection_invalidated:
                # The server closed a connection that was idle; the next one is new.
                self._commit(calls, reconnected=True)
                return
            # A full disk or a lock concerns every call; retrying each would only wait longer.
            if len(calls) > 1 and not isinstance(error, OperationalError):
                for call in calls:
                    self._commit([call])
                return
            for call in calls:
                call.error = self._store.error("written to", error)
            self._count_failed(sum(len(call.rows) for call in calls))

    def _transact(self, calls: list[_Call]) -> None:
        batches: dict[str, list[Any]] = {}
        for call in calls:
            for kind, row in call.rows:
                batches.setdefault(kind, []).append(row)
        if not batches:
            return
        # Kept between transactions: fetching it from the pool costs more than the insert.
        if self._connection is None:
            self._connection = self._store.connect_for_writing()
        with self._connection.begin():
            for kind in WRITE_ORDER:
                if rows := batches.get(kind):
                    statement = self._statements[kind]
                    self._connection.exec_driver_sql(statement.sql, statement.bind(rows))
        self._transactions += 1
        self._written += sum(map(len, batches.values()))


def _answer(calls: Iterable[_Call]) -> None:
    """Wake everyone who waits: one wake-up an event loop, not one a call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
    for call in calls:
        if isinstance(call.waiter, asyncio.Future):
            by_loop.setdefault(call.waiter.get_loop(), []).append(call)
        elif call.waiter is not None:
            _resolve(call.waiter, call.error)
    for loop, answered in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve_all, answered)


def _resolve_all(calls: Iterable[_Call]) -> None:
    for call in calls:
        if call.waiter is not None and not call.waiter.done():
            _resolve(call.waiter, call.error)


def _resolve(waiter: asyncio.Future[None] | Future[None], error: StoreError | None) -> None:
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)
