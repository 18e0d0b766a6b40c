"""The same log on a real Postgres server, which is started here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from forethought.router.errors import StoreError
from forethought.router.log import LogReader, LogWriter, Store
from forethought.router.log.store import database_url
from forethought.router.log.tables import VERSION_TABLE, metadata
from tests.postgres import postgres
from tests.router.log.factories import (
    TENANT,
    make_context,
    make_decision,
    make_feedback,
    make_learned,
    make_outcome,
)
from tests.router.log.test_migrations import write_by_the_first_schema

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as store:
        yield store
        with store.engine.begin() as connection:
            connection.exec_driver_sql("TRUNCATE contexts, decisions, deleted_sleep CASCADE")


def test_every_record_comes_back_as_it_was(writer: LogWriter, reader: LogReader) -> None:
    context = make_context(text="naïve 🙂 \ud83d", messages=({"content": "\0 \ud83d"},))
    writer.write_sync(context, make_learned(), make_decision(), make_outcome(), make_feedback())
    found = reader.context("ctx_0", TENANT)
    assert found is not None
    assert found.text == "naïve 🙂 \ufffd"
    assert reader.latest_learned("ctx_0") == make_learned()
    (logged,) = reader.logged_decisions(with_quality_only=True)
    assert (logged.decision, logged.outcome) == (make_decision(), make_outcome())
    assert logged.quality == 1.0


async def test_concurrent_writes_share_transactions(writer: LogWriter, reader: LogReader) -> None:
    await asyncio.gather(*(writer.write(make_decision(n)) for n in range(200)))
    assert len(list(reader.logged_decisions())) == 200
    assert writer.stats.transactions <= 20


async def test_a_bad_record_fails_for_its_own_caller_only(writer: LogWriter) -> None:
    calls = [writer.write(make_decision(n)) for n in range(5)]
    calls.append(writer.write(make_decision(99, propensity=7.0, query="my secret")))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[:5] == [None] * 5
    assert isinstance(results[5], StoreError)
    assert "secret" not in str(results[5])


def test_contexts_are_merged_touched_and_deleted(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(make_context(), make_learned(), make_decision())
    writer.write_sync(make_context(id="ctx_other", registered=True))
    writer.context_touched("ctx_0", 7.0)
    writer.flush()
    expected = make_context(registered=True, n_queries=1, last_query_at=7.0)
    assert reader.contexts(TENANT) == [expected]
    assert reader.delete_context("ctx_0", TENANT)
    assert reader.learned_versions("ctx_0") == []


def test_a_connection_the_server_closed_is_replaced(store: Store, writer: LogWriter) -> None:
    writer.write_sync(make_decision(0))
    with store.engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    writer.write_sync(make_decision(1))
    assert writer.stats.failed == 0


def test_every_migration_runs_and_makes_the_tables(url: str, store: Store) -> None:
    schema = f"{url}&options=-csearch_path%3Dolder"
    with store.engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA older")
    write_by_the_first_schema(create_engine(database_url(schema)))
    with Store.open(schema) as older:
        (logged,) = LogReader(older).logged_decisions()
        assert logged.outcome is not None
        assert (logged.outcome.calls, logged.outcome.model) == (1, None)
        context = LogReader(older).context("c", "t")
        assert context is not None
        assert context.auto_sleep
        with older.engine.connect() as connection:
            options = {"version_table": VERSION_TABLE, "compare_type": True}
            migrated = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(migrated, metadata) == []


def test_what_sleep_on_a_deleted_context_cost_stays(writer: LogWriter, reader: LogReader) -> None:
    writer.write_sync(make_context(), make_learned(0, created_at=99.0, cost_usd=0.5))
    assert reader.delete_context("ctx_0", TENANT)
    reader.add_deleted_sleep(make_learned(1, created_at=100.0, cost_usd=0.25))
    assert sorted(reader.sleep_spending(0.0)) == [(99.0, 0.5), (100.0, 0.25)]


def test_a_second_opening_finds_the_tables(store: Store, url: str) -> None:
    with Store.open(url) as second:
        assert LogReader(second).query_counts() == []
