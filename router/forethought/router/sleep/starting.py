"""Sleep starts beside the server, not before it: no request waits for what only sleep needs.

Loading DBOS takes as long as all that a request needs; opening its store and resuming what a crash
interrupted comes on top.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from forethought.router.records import Context, SleepLevel

if TYPE_CHECKING:
    from forethought.router.sleep.workflow import Sleeper

log = logging.getLogger(__name__)


class Sleeps(Protocol):
    """What queues sleeps; both calls may block, as ``Sleeper`` reads its store."""

    def enqueue(self, context: Context, level: SleepLevel, *, tier: str | None = None) -> str: ...

    def status(self, context_id: str) -> str: ...


class StartingSleeper:
    """A ``Sleeper`` from before its start on: what is asked of it waits until it has started.

    Args:
        make: Loads and builds the sleeper, not yet started.
    """

    def __init__(self, make: Callable[[], Sleeper]) -> None:
        self._make = make
        self._sleeper: Future[Sleeper] = Future()
        self._sleeper.set_running_or_notify_cancel()  # who waits for it cannot cancel it

    @property
    def failed(self) -> bool:
        """Whether the start failed; the rest of the server goes on without sleep."""
        return self._sleeper.done() and self._sleeper.exception() is not None

    def start(self) -> None:
        """Load, build and start the sleeper. Blocks. A failure is for those who ask for sleep."""
        try:
            sleeper = self._make()
            sleeper.start()
        except Exception as error:  # noqa: BLE001 - passed on to whoever asks
            log.error("sleep could not be started: %s", error)  # noqa: TRY400 - it says all
            self._sleeper.set_exception(error)
        else:
            self._sleeper.set_result(sleeper)

    def stop(self) -> None:
        """Stop the sleeper, if it has started."""
        if self._sleeper.done() and not self.failed:
            self._sleeper.result().stop()

    async def started(self) -> None:
        """Wait for the end of the start without holding a thread.

        Raises:
            StoreError: The start failed.
        """
        await asyncio.wrap_future(self._sleeper)

    def enqueue(self, context: Context, level: SleepLevel, *, tier: str | None = None) -> str:
        """See ``Sleeper``. Raises what the start failed with."""
        return self._sleeper.result().enqueue(context, level, tier=tier)

    def enqueue_first(self, context: Context, level: SleepLevel) -> str | None:
        """See ``Sleeper``. Raises what the start failed with."""
        return self._sleeper.result().enqueue_first(context, level)

    def status(self, context_id: str) -> str:
        """See ``Sleeper``. Raises what the start failed with."""
        return self._sleeper.result().status(context_id)

    def forget(self, context_id: str) -> None:
        """See ``Sleeper``. Raises what the start failed with."""
        self._sleeper.result().forget(context_id)
