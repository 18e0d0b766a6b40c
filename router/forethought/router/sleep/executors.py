"""Which of the processes that share a sleep store on Postgres are alive.

Each holds an advisory lock for as long as its session lasts. Postgres ends the session of a
process that dies, and the lock with it: the database itself knows who is gone, and the others take
up what that one had begun. (A machine that vanishes is noticed when Postgres gives up its
connection: its settings ``tcp_keepalives_*``.)
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from threading import Event, Thread
from typing import Final

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 3.0
"""Who seems dead twice in a row is: a session that broke off has so long to be made anew."""

_LOCKS: Final = 0x736C6565
"""The first half of our advisory locks' keys; the second is made of an executor's name."""


class Executors:
    """This process among those that share a sleep store.

    Args:
        url: The sleep store's, with its driver.
        begun_by: Names the executors that have sleeps which are not finished.
        take_up: Lets the living finish what the executors of these names had begun.
    """

    def __init__(
        self,
        url: str,
        *,
        begun_by: Callable[[], Collection[str]],
        take_up: Callable[[list[str]], None],
    ) -> None:
        self.name = f"forethought-{secrets.token_hex(8)}"
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._begun_by = begun_by
        self._take_up = take_up
        self._session: Connection | None = None
        self._seemed_dead: set[str] = set()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="forethought-executors", daemon=True)

    def enter(self) -> None:
        """Be alive from now on. Before any sleep can begin here."""
        self._alive()

    def start(self) -> None:
        """Begin to look after the others."""
        self._thread.start()

    def leave(self) -> None:
        """Be gone: what is not finished here the others finish."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._session is not None:
            with suppress(SQLAlchemyError):
                self._session.close()
        self._engine.dispose()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                self._look()
            except Exception:
                log.exception("who shares the sleep store could not be found out")

    def _look(self) -> None:
        session = self._alive()
        try:
            dead = {name for name in self._begun_by() if self._is_dead(session, name)}
        except SQLAlchemyError:
            self._session = None  # and with it our lock: made anew the next time
            with suppress(SQLAlchemyError):
                session.close()
            raise
        gone = sorted(dead & self._seemed_dead)
        self._seemed_dead = dead - set(gone)
        if gone:
            log.warning("taking up the sleeps that %s left unfinished", ", ".join(gone))
            self._take_up(gone)

    def _alive(self) -> Connection:
        if self._session is None:
            session = self._engine.connect()
            session.execute(text("SELECT pg_advisory_lock(:locks, hashtext(:name))"), self._key())
            self._session = session
        return self._session

    def _is_dead(self, session: Connection, name: str) -> bool:
        if name == self.name:
            return False
        taken = text("SELECT pg_try_advisory_lock(:locks, hashtext(:name))")
        if not session.execute(taken, self._key(name)).scalar_one():
            return False
        session.execute(text("SELECT pg_advisory_unlock(:locks, hashtext(:name))"), self._key(name))
        return True

    def _key(self, name: str | None = None) -> dict[str, object]:
        return {"locks": _LOCKS, "name": name or self.name}
