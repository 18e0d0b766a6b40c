"""The database behind the log: opened, checked and migrated, or refused in plain words.

SQLite runs in WAL mode with ``synchronous=FULL``: a committed transaction survives a
power cut, and readers never wait for the writer. The file and its siblings hold prompts,
so a new one is readable by its owner only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from forethought.router.errors import StoreError
from forethought.router.log.tables import SCHEMA_REVISION, VERSION_TABLE, metadata

_MIGRATIONS = Path(__file__).parent / "migrations"

_SQLITE_MAGIC = b"SQLite format 3\0"

_BUSY_TIMEOUT_MS = 5_000
"""How long SQLite waits for another process's transaction; ours take under 10 ms."""

_CHECKPOINT_PAGES = 4_000
"""SQLite's write-ahead log is folded back once it has so many pages of 4 kB, some 800 requests:
four times its default, so that fewer commits wait for it and a page that many change is written
once."""

_CHECKED_BYTES = 64 * 2**20
"""Files up to this size are checked whole when opened (about 0.1 s); larger ones are not:
their damage shows when the damaged page is read."""

_MIGRATION_LOCK = 0x666F7265
"""The Postgres advisory lock that keeps two starting processes from migrating at once."""


class Store:
    """An open, migrated database. Safe to use from several threads.

    Attributes:
        engine: SQLAlchemy's engine; its transactions are deferred on SQLite.
        name: The file, or the URL without its password; what errors are about.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self._writing = engine.execution_options(begin_mode="IMMEDIATE")

    @classmethod
    def open(cls, url: str) -> Store:
        """Open the database at ``url``, creating or migrating it as needed.

        Args:
            url: A path, ``sqlite:///path`` or ``postgresql://user:password@host/name``.

        Raises:
            StoreError: It cannot be opened, is damaged, belongs to another program or
                was written by a newer version; nothing was changed.
        """
        parsed = database_url(url)
        if parsed.get_backend_name() == "sqlite":
            path = Path(parsed.database or "").expanduser()
            _check_file(path)
            store = cls(_sqlite_engine(path), str(path))
        else:
            store = cls(_postgres_engine(parsed), parsed.render_as_string(hide_password=True))
        try:
            store._prepare()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close every connection. Records still queued in a writer need it closed first."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one snapshot; what it did is rolled back at the end."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self.error("read", error) from error

    def connect_for_writing(self) -> Connection:
        """A connection whose transactions take SQLite's write lock at their beginning.

        It raises SQLAlchemy's own exceptions: ``error`` makes a ``StoreError`` of them.
        """
        return self._writing.connect()

    def error(self, doing: str, error: Exception) -> StoreError:
        """A ``StoreError`` for what went wrong while ``doing`` something to the database.

        It never quotes a statement's parameters or a failing row: they hold prompts.
        """
        cause = str(error.orig if isinstance(error, DBAPIError) else error)
        reason = next(iter(cause.splitlines()), type(error).__name__)
        return StoreError(
            f"The database {self.name} cannot be {doing}: {reason}.",
            param=self.name,
            remedy=_remedy(reason),
        )

    def _prepare(self) -> None:
        try:
            if self.engine.dialect.name == "sqlite":
                self._check_sqlite()
                self._enter_wal_mode()
            with self.connect_for_writing() as connection, connection.begin():
                self._migrate(connection)
        except SQLAlchemyError as error:
            raise self.error("opened", error) from error

    def _check_sqlite(self) -> None:
        with self.engine.connect() as connection:
            if Path(self.name).stat().st_size <= _CHECKED_BYTES:
                damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
                if damage != "ok":
                    raise StoreError(
                        f"The database {self.name} is damaged: {damage}.",
                        param=self.name,
                        remedy=_REMEDY_DAMAGED,
                    )
            found = set(inspect(connection).get_table_names())
            if found and VERSION_TABLE not in found:
                raise StoreError(
                    f"{self.name} is a database of another program.",
                    param=self.name,
                    remedy="Name a file that does not exist yet.",
                )

    def _enter_wal_mode(self) -> None:
        # SQLite does not apply the busy timeout to this change, and two processes may start
        # at once; the mode then stays in the file.
        deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
        while True:
            try:
                with self.engine.execution_options(begin_mode=None).connect() as connection:
                    mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar_one()
            except OperationalError as error:
                if "locked" not in str(error.orig) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                message = f"The file system of {self.name} does not support SQLite's WAL mode."
                raise StoreError(message, param=self.name, remedy="Use a local disk.")
            return

    def _migrate(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(
                text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK}
            )
        revision = None
        if inspect(connection).has_table(VERSION_TABLE):
            versions = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 a constant
            revision = versions.scalar()
        if revision is None:
            _create(connection)
            return
        if revision == SCHEMA_REVISION:
            self._check_tables(connection)
            return
        if revision > SCHEMA_REVISION:
            raise StoreError(
                f"The database {self.name} was written by a newer Forethought"
                f" (schema {revision}, this one knows {SCHEMA_REVISION}).",
                param=self.name,
                remedy="Upgrade forethought, or name another database.",
            )
        _upgrade(connection)

    def _check_tables(self, connection: Connection) -> None:
        missing = sorted(set(metadata.tables) - set(inspect(connection).get_table_names()))
        if missing:
            raise StoreError(
                f"The database {self.name} lacks the tables {', '.join(missing)}.",
                param=self.name,
                remedy=_REMEDY_DAMAGED,
            )


_REMEDY_DAMAGED = "Restore it from a backup, or move it away to start with an empty one."


def _remedy(reason: str) -> str:
    lowered = reason.lower()
    if "malformed" in lowered or "not a database" in lowered:
        return _REMEDY_DAMAGED
    if "locked" in lowered:
        return "Another process holds it: stop that process, or try again."
    if "readonly" in lowered or "permission" in lowered or "unable to open" in lowered:
        return "Check that the file and its folder can be written by this user."
    if "full" in lowered:
        return "Free some disk space."
    return "Check that the database is reachable and its URL is right."


def database_url(url: str) -> URL:
    """``url``, or a file's path, as SQLAlchemy takes it, with its driver.

    Raises:
        StoreError: It is neither SQLite's nor Postgres'.
    """
    if "://" not in url:
        return URL.create("sqlite", database=url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    backend = parsed.get_backend_name() if parsed is not None else ""
    if parsed is None or backend not in {"sqlite", "postgresql", "postgres"}:
        raise StoreError(
            f"The database URL starts with {url.split(':', 1)[0]!r} or is malformed.",
            param="database_url",
            remedy="Use a path, sqlite:///path or postgresql://user:password@host/name.",
        )
    if backend == "sqlite":
        return parsed.set(drivername="sqlite")
    return parsed.set(drivername="postgresql+psycopg")


def _check_file(path: Path) -> None:
    """Refuse what is not an SQLite database before SQLite touches it; create a new one."""
    if path.name in {"", ":memory:"}:
        message = "The database must be a file: one in memory is lost with the process."
        raise StoreError(message, param="database_url", remedy="Name a path.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("rb") as file:
            head = file.read(len(_SQLITE_MAGIC))
    except OSError as error:
        raise StoreError(
            f"The database {path} cannot be opened: {error.strerror}.",
            param=str(path),
            remedy="Check that the file and its folder can be written by this user.",
        ) from error
    if head not in (b"", _SQLITE_MAGIC):
        raise StoreError(
            f"{path} is not an SQLite database.",
            param=str(path),
            remedy=_REMEDY_DAMAGED,
        )


def _sqlite_engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # Python's driver would open transactions by itself, and not around DDL.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("begin_mode", "DEFERRED")
        if mode is not None:
            connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _postgres_engine(url: URL) -> Engine:
    try:
        return create_engine(url, hide_parameters=True, pool_pre_ping=True)
    except ImportError as error:
        raise StoreError(
            "The Postgres driver is not installed.",
            param="database_url",
            remedy="Install it: pip install 'forethought[postgres]'.",
        ) from error


def _create(connection: Connection) -> None:
    """Make the tables as they are now, and say so to later migrations."""
    metadata.create_all(connection, checkfirst=False)
    # As Alembic would make it.
    number = Column("version_num", String(32), nullable=False)
    key = PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc")
    versions = Table(VERSION_TABLE, MetaData(), number, key)
    versions.create(connection)
    connection.execute(versions.insert().values(version_num=SCHEMA_REVISION))


def _upgrade(connection: Connection) -> None:
    # Imported here: a database that is new or up to date, the usual case, needs no Alembic.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")
