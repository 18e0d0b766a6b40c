from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from forethought.router.errors import StoreError
from forethought.router.log import LogReader, LogWriter, Store
from forethought.router.log.gathering import LINGER_S
from tests.router.log.factories import (
    TENANT,
    make_context,
    make_decision,
    make_feedback,
    make_learned,
    make_outcome,
)


def _count(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    connection.close()
    return found


async def test_a_record_is_on_disk_when_write_returns(writer: LogWriter, path: Path) -> None:
    await writer.write(make_decision())
    assert _count(path, "decisions") == 1


async def test_concurrent_writes_share_transactions(writer: LogWriter, path: Path) -> None:
    await asyncio.gather(*(writer.write(make_decision(n)) for n in range(200)))
    assert _count(path, "decisions") == 200
    assert writer.stats.transactions <= 20


async def test_what_is_begun_is_stored_with_the_write_that_follows(
    writer: LogWriter, path: Path
) -> None:
    begun = writer.begin(make_decision())
    await writer.write(make_outcome())
    assert begun.done()
    assert (_count(path, "decisions"), _count(path, "outcomes")) == (1, 1)
    assert writer.stats.transactions == 1


async def test_what_is_begun_is_stored_soon_if_nothing_follows(
    writer: LogWriter, path: Path
) -> None:
    await asyncio.wait_for(writer.begin(make_decision()), 20 * LINGER_S)
    assert _count(path, "decisions") == 1


async def test_what_is_begun_in_vain_says_so_to_who_asks(writer: LogWriter) -> None:
    await writer.write(make_decision())
    with pytest.raises(StoreError):
        await writer.begin(make_decision())


async def test_a_bad_record_fails_for_its_own_caller_only(writer: LogWriter, path: Path) -> None:
    calls = [writer.write(make_decision(n)) for n in range(20)]
    calls.insert(7, writer.write(make_outcome(999)))
    results = await asyncio.gather(*calls, return_exceptions=True)
    failed = [result for result in results if result is not None]
    assert [type(error) for error in failed] == [StoreError]
    assert results[7] is failed[0]
    assert _count(path, "decisions") == 20
    assert (writer.stats.written, writer.stats.failed) == (20, 1)


async def test_the_records_of_one_call_are_stored_together_or_not_at_all(
    writer: LogWriter, path: Path
) -> None:
    with pytest.raises(StoreError):
        await writer.write(make_decision(), make_outcome(999))
    assert _count(path, "decisions") == 0


async def test_records_of_one_call_may_come_in_any_order(writer: LogWriter, path: Path) -> None:
    await writer.write(make_feedback(), make_outcome(), make_decision())
    await writer.write(make_learned(), make_context())
    assert [_count(path, table) for table in ("feedback", "learned_contexts")] == [1, 1]


@pytest.mark.parametrize(
    "propensity",
    [
        pytest.param(0.0, id="zero"),
        pytest.param(1.5, id="above one"),
        pytest.param(float("nan"), id="not a number"),
    ],
)
async def test_a_decision_without_a_propensity_is_refused(
    writer: LogWriter, propensity: float
) -> None:
    with pytest.raises(StoreError, match="propensity"):
        await writer.write(make_decision(propensity=propensity))


async def test_an_error_quotes_neither_prompts_nor_statements(writer: LogWriter) -> None:
    await writer.write(make_decision())
    with pytest.raises(StoreError) as caught:
        await writer.write(make_decision(query="my secret"))
    assert "decisions.id" in str(caught.value)
    assert "secret" not in str(caught.value) + str(caught.value.__cause__)


async def test_without_records_write_waits_for_what_was_posted(
    writer: LogWriter, path: Path
) -> None:
    writer.post(*(make_decision(n) for n in range(50)))
    await writer.write()
    assert _count(path, "decisions") == 50


def test_post_counts_failures_instead_of_raising(writer: LogWriter, path: Path) -> None:
    writer.post(make_outcome(999))
    writer.post(make_decision(features={"bad": float("inf")}))
    writer.post(make_decision())
    writer.flush()
    assert writer.stats.failed == 2
    assert _count(path, "decisions") == 1


def test_post_drops_and_counts_when_too_much_waits(store: Store) -> None:
    with LogWriter(store, max_queued=0) as writer:
        writer.post(make_decision())
        assert writer.stats.failed == 1


def test_close_writes_what_is_queued(store: Store, path: Path) -> None:
    writer = LogWriter(store)
    for n in range(300):
        writer.post(make_decision(n))
    writer.close()
    assert _count(path, "decisions") == 300


async def test_after_close_records_are_refused_and_counted(store: Store) -> None:
    writer = LogWriter(store)
    writer.close()
    writer.close()
    writer.post(make_decision())
    with pytest.raises(StoreError, match="closed"):
        await writer.write(make_decision())
    assert writer.stats.failed == 2


async def test_a_cancelled_callers_record_is_still_written(writer: LogWriter, path: Path) -> None:
    task = asyncio.create_task(writer.write(make_decision()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await writer.write(make_decision(1))
    assert _count(path, "decisions") == 2


def test_threads_may_write_at_once(writer: LogWriter, path: Path) -> None:
    threads = [
        threading.Thread(target=writer.write_sync, args=(make_decision(n),)) for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _count(path, "decisions") == 16


def test_a_context_found_again_keeps_its_row_and_its_counts(
    writer: LogWriter, reader: LogReader
) -> None:
    writer.write_sync(make_context(registered=True))
    writer.context_touched("ctx_0", 50.0)
    writer.write_sync(make_context(id="ctx_other", registered=False, text="ignored"))
    found = reader.context_by_hash(TENANT, "hash_0")
    assert found == make_context(registered=True, n_queries=1, last_query_at=50.0)


def test_registering_a_known_context_marks_it(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(make_context())
    writer.write_sync(make_context(registered=True))
    found = reader.context("ctx_0", TENANT)
    assert found is not None
    assert found.registered


def test_touches_are_counted_and_the_latest_time_is_kept(
    writer: LogWriter, reader: LogReader
) -> None:
    writer.write_sync(make_context())
    for at in (10.0, 30.0, 20.0):
        writer.context_touched("ctx_0", at)
    writer.flush()
    found = reader.context("ctx_0", TENANT)
    assert found is not None
    assert (found.n_queries, found.last_query_at) == (3, 30.0)


def test_touches_of_several_contexts_are_counted_apart(
    writer: LogWriter, reader: LogReader
) -> None:
    writer.write_sync(make_context(0), make_context(1))
    for n, at in ((0, 10.0), (1, 40.0), (0, 20.0)):
        writer.context_touched(f"ctx_{n}", at)
    writer.flush()
    found = {context.id: context for context in reader.contexts(TENANT)}
    assert (found["ctx_0"].n_queries, found["ctx_0"].last_query_at) == (2, 20.0)
    assert (found["ctx_1"].n_queries, found["ctx_1"].last_query_at) == (1, 40.0)


def test_a_database_that_stays_locked_fails_the_write_and_then_recovers(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forethought.router.log.store._BUSY_TIMEOUT_MS", 20)
    store.engine.dispose()
    blocker = sqlite3.connect(path, isolation_level=None)
    with LogWriter(store) as writer:
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked.*Another process holds it"):
            writer.write_sync(make_decision())
        blocker.execute("ROLLBACK")
        blocker.close()
        writer.write_sync(make_decision())
    assert _count(path, "decisions") == 1
