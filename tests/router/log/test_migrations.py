"""The tables, the migrations and the revision that is checked at start-up agree."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from forethought.router.log import Store
from forethought.router.log.store import _MIGRATIONS
from forethought.router.log.tables import SCHEMA_REVISION, VERSION_TABLE, metadata


def test_the_tables_are_what_the_migrations_make(store: Store) -> None:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


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
