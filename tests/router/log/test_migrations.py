"""The tables, the migrations and the revision that is checked at start-up agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, Engine, create_engine, inspect

from forethought.router.explanation import explain
from forethought.router.log import LogReader, Store
from forethought.router.log.store import _MIGRATIONS
from forethought.router.log.tables import SCHEMA_REVISION, VERSION_TABLE, metadata
from forethought.router.past_policies import FoundPolicy
from forethought.router.records import Usage


@contextmanager
def migrated(path: Path) -> Iterator[Connection]:
    """A database that the migrations have made."""
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        yield connection
    engine.dispose()


def test_the_tables_are_what_the_migrations_make(path: Path) -> None:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    with migrated(path) as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_a_new_database_is_what_the_migrations_make(store: Store, tmp_path: Path) -> None:
    with store.reading() as new, migrated(tmp_path / "old.sqlite") as old:
        assert schema(new) == schema(old)
        version = f"SELECT version_num FROM {VERSION_TABLE}"
        assert new.exec_driver_sql(version).all() == old.exec_driver_sql(version).all()


def schema(connection: Connection) -> dict[str, list[str]]:
    """What describes each table, in any order: those that were added to stand last in theirs."""
    found = inspect(connection)
    aspects = (
        found.get_columns,
        found.get_check_constraints,
        found.get_foreign_keys,
        found.get_indexes,
        found.get_unique_constraints,
    )
    return {
        table: sorted(
            [
                *(str(one) for of in aspects for one in of(table)),
                str(found.get_pk_constraint(table)),
            ]
        )
        for table in found.get_table_names()
    }


def write_by_the_first_schema(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO decisions VALUES"
            " ('d', 0, 't', NULL, NULL, '', 'm', 'direct', 1, 'forced', '', '', '{}', '[]',"
            " NULL, NULL, '', '[]')"
        )
        connection.exec_driver_sql(
            "INSERT INTO outcomes VALUES"
            " ('d', 'ok', 200, 9, 4, 2, 1, 0.5, 7, NULL, NULL, NULL, 0, NULL)"
        )
        connection.exec_driver_sql(
            "INSERT INTO contexts VALUES ('c', 't', 'h', '[]', 'text', 0, false, 0, NULL)"
        )
    engine.dispose()


def test_rows_of_the_first_schema_are_kept(path: Path) -> None:
    write_by_the_first_schema(create_engine(f"sqlite:///{path}"))
    with Store.open(str(path)) as store:
        (logged,) = LogReader(store).logged_decisions()
        context = LogReader(store).context("c", "t")
    assert context is not None
    assert context.auto_sleep
    assert logged.outcome is not None
    assert logged.outcome.usage == Usage(
        input_tokens=9, cached_tokens=4, output_tokens=2, reasoning_tokens=1
    )
    assert (logged.outcome.cost_usd, logged.outcome.service_tier) == (0.5, None)
    assert (logged.outcome.calls, logged.outcome.model) == (1, None)
    decision = logged.decision
    assert (decision.strategy, decision.preferences) == ("direct", None)
    assert (decision.predictability_low, decision.predictability_high) == (None, None)
    explanation = explain(decision, FoundPolicy(version="", missing="it is gone"))
    assert explanation.strategy == "direct"


def test_the_revision_checked_at_start_is_the_last_migration() -> None:
    assert ScriptDirectory(str(_MIGRATIONS)).get_current_head() == SCHEMA_REVISION


def test_checks_and_names_of_constraints_are_the_tables(path: Path) -> None:
    with migrated(path) as connection:
        found = {
            (table, check["name"], check["sqltext"])
            for table in metadata.tables
            for check in inspect(connection).get_check_constraints(table)
        }
    assert found == {
        (table.name, constraint.name, str(constraint.sqltext))
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
