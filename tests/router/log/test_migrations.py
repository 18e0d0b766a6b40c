"""The tables, the migrations and the revision that is checked at start-up agree."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine

from forethought.router.explanation import explain
from forethought.router.log import LogReader, Store
from forethought.router.log.store import _MIGRATIONS
from forethought.router.log.tables import SCHEMA_REVISION, VERSION_TABLE, metadata
from forethought.router.past_policies import FoundPolicy
from forethought.router.records import Usage


def test_the_tables_are_what_the_migrations_make(store: Store) -> None:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


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


def test_checks_and_names_of_constraints_are_the_tables(store: Store) -> None:
    from sqlalchemy import CheckConstraint, inspect

    found = {
        (table, check["name"], check["sqltext"])
        for table in metadata.tables
        for check in inspect(store.engine).get_check_constraints(table)
    }
    assert found == {
        (table.name, constraint.name, str(constraint.sqltext))
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
